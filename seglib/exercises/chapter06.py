"""Checkers of chapter 06, generalisation."""

from __future__ import annotations

import numpy as np

from seglib.exercises import ask, checker, expect


@checker("06-1")
def fake(answer):
    lines = [
        "1 YouTube-real/00170.mp4",
        "0 Celeb-synthesis/id0_id1_0000.mp4",
        "1 Celeb-real/id1_0.mp4",
    ]
    found = [int(one) for one in ask(answer, lines)]
    expect(len(found) == 3, "Expected one label a line.")
    expect(found != [1, 0, 1], "You take the list at its word: which digit does it give a fake?")
    expect(found == [0, 1, 0], "A label is wrong: 1 is fake.")
    shuffled = [int(one) for one in ask(answer, lines[::-1])]
    expect(shuffled == found[::-1], "The label does not follow its line.")


@checker("06-2")
def uids(answer):
    paths = [
        f"manipulated_sequences/{method}/{rate}/videos/000_003.mp4"
        for method in ("Deepfakes", "Face2Face")
        for rate in ("c23", "c40")
    ]
    found = [str(one) for one in ask(answer, paths)]
    expect(len(found) == 4, "Expected one name a video.")
    expect(len(set(found)) > 1, "Four videos, one name: their frames would be merged.")
    expect(len(set(found)) == 4, "Two videos share a name. In what do their paths differ?")
    turned = [str(one) for one in ask(answer, paths[::-1])]
    expect(turned == found[::-1], "A name depends on the order: tomorrow it is another video's.")
    expect(not any("/" in one for one in found), "A name with a slash is no file's name.")
    tricky = [str(one) for one in ask(answer, ["a/b_c.mp4", "a_b/c.mp4"])]
    expect(tricky[0] != tricky[1], "Two folders and a file can be joined to the same name.")


@checker("06-3")
def threshold(answer):
    rng = np.random.default_rng(3)
    for rate in (0.05, 0.1, 0.5):
        for scores in (rng.normal(size=200), rng.integers(0, 9, 60).astype(float)):
            found = float(ask(answer, scores.copy(), rate))
            above = (scores > found).mean()
            expect(above <= rate, f"{above:.0%} of the bona fide scores lie above: too many.")
            lower = scores[scores < found]
            if len(lower):
                least = (scores > lower.max()).mean()
                expect(least > rate, "A lower threshold would do as well, and find more fakes.")
