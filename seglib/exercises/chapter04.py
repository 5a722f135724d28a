"""Checkers of chapter 04, ablations."""

from __future__ import annotations

import numpy as np

from seglib.exercises import ask, checker, expect, number


@checker("04-1")
def anywhere(answer):
    rng, kept = np.random.default_rng(1), np.zeros((4, 5), bool)
    kept[0, :3] = True
    before, places = kept.copy(), np.zeros(kept.shape)
    for _ in range(600):
        found = np.asarray(ask(answer, kept, rng))
        expect(found.shape == kept.shape, f"Found shape {found.shape}; expected the same grid.")
        expect(found.dtype == bool, "Expected true and false.")
        expect(found.sum() == 3, "Not as many tokens: then count and place are mixed up.")
        places += found
    expect((kept == before).all(), "Your function changes what it was given.")
    expect((places > 0).all(), "Some patch is never drawn.")
    expect(places.max() < 2 * places.min(), "Some patches are drawn more often than others.")


@checker("04-2")
def union(answer):
    rng = np.random.default_rng(2)
    for _ in range(10):
        counts = rng.integers(0, 9, 11)
        counts[[2, 5]] = 1, 8
        sums = rng.normal(size=(11, 6)) * counts[:, None]
        found = np.asarray(ask(answer, sums, counts, [2, 5, 7]))
        expect(found.shape == (6,), f"Found shape {found.shape}; expected one descriptor.")
        means = np.nanmean([sums[i] / counts[i] for i in (2, 5, 7) if counts[i]], axis=0)
        expect(
            not np.allclose(found, means), "A mean of means: a label of one token counts as much."
        )
        true = sums[[2, 5, 7]].sum(0) / counts[[2, 5, 7]].sum()
        expect(np.allclose(found, true), "That is not the mean of the kept tokens.")
    empty = np.asarray(ask(answer, np.zeros((11, 6)), np.zeros(11, int), [2, 5]), float)
    expect(np.isnan(empty).all(), "Without a token there is no descriptor: expected NaN.")


@checker("04-3")
def resolved(answer):
    low, high = np.array([-0.1, 0.0, 0.01, -0.3]), np.array([0.1, 0.2, 0.2, -0.1])
    found = number(answer, low, high)
    expect(found != 0.75, "An interval that ends at zero holds it.")
    expect(found == 0.5, "The share is wrong. An interval may lie on either side of zero.")
    rng = np.random.default_rng(4)
    for _ in range(20):
        low = rng.normal(size=30)
        high = low + rng.uniform(0, 2, 30)
        true = ((low > 0) | (high < 0)).mean()
        expect(np.isclose(number(answer, low, high), true), "The share is wrong.")
