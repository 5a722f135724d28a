"""Checkers of chapter 02, token indexing."""

from __future__ import annotations

import numpy as np

from seglib import indexing
from seglib.exercises import ask, checker, expect, number


def _maps(count: int, seed: int = 0):
    """Label maps of 24 x 32 pixels in blobs, so that patches have one main label or a few."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        coarse = rng.integers(0, 11, (6, 8)).astype(np.uint8)
        fine = rng.integers(0, 11, (24, 32)).astype(np.uint8)
        yield np.where(rng.random((24, 32)) < 0.7, coarse.repeat(4, 0).repeat(4, 1), fine)


@checker("02-1")
def tokens_left(answer):
    rules = ["largest", "touched", 0.25, "box"]
    for label_map in _maps(10):
        found = ask(answer, label_map, (3, 4), "eyes", rules)
        expect(isinstance(found, dict), f"Found {type(found).__name__}; a dict is expected.")
        expect(list(found) == rules, "Not every rule has its number, in the order given.")
        for rule in rules:
            kept = indexing.keep(label_map[None], (3, 4), "eyes", rule)
            expect(found[rule] == kept.sum(), f"The number for the rule {rule!r} is wrong.")


@checker("02-2")
def patch_label(answer):
    tied = np.array([[7, 7], [3, 3]], np.uint8)
    found = number(answer, tied, 2, 0, 0)
    expect(found in (3, 7), "You name a label that is not in the patch.")
    expect(found == 3, "Two labels cover the same number of pixels: which wins?")
    for label_map in _maps(5, seed=2):
        true = indexing.patch_labels(label_map[None], (6, 8))[0]
        swapped = 0
        for row, column in np.ndindex(6, 8):
            found = number(answer, label_map, 4, row, column)
            swapped += found == true[min(column, 5), min(row, 7)]
            expect(
                found == true[row, column],
                "You look at another patch: which index runs down?"
                if row != column and swapped
                else "The label of some patch is wrong.",
            )


@checker("02-3")
def most_alike(answer):
    rng = np.random.default_rng(3)
    for lost in (False, True):
        for _ in range(10):
            parts = rng.normal(size=(30, 5, 16)).astype(np.float32)
            one, other = sorted(rng.choice(5, 2, replace=False))
            parts[:, other] = parts[:, one] * 50 + rng.normal(size=(30, 16))
            if lost:
                parts[rng.random((30, 5)) < 0.2] = np.nan
            found = tuple(ask(answer, parts))
            expect(len(found) == 2, f"Found {len(found)} parts; a pair is expected.")
            expect(found[0] != found[1], "A part is always most like itself: leave that out.")
            hint = (
                "Some people lack a part, and then your answer is wrong."
                if lost
                else "Another pair is more alike. Does the length of a descriptor matter to you?"
            )
            expect({*map(int, found)} == {int(one), int(other)}, hint)
