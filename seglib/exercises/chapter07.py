"""Checkers of chapter 07, robustness."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from seglib.exercises import ask, checker, expect


@checker("07-1")
def paler(answer):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (6, 5, 3), np.uint8)
    found = [np.asarray(ask(answer, image.copy(), factor)) for factor in (1.0, 0.0, 0.5)]
    for one in found:
        expect(one.shape == image.shape, f"Expected the shape {image.shape}, found {one.shape}.")
        expect(one.dtype == np.uint8, f"Expected uint8, found {one.dtype}: round it, then convert.")
    same, grey, half = (one.astype(int) for one in found)
    expect(np.abs(same - image).max() <= 1, "At a factor of 1 the picture changes.")
    expect(np.ptp(grey, axis=-1).max() <= 1, "At a factor of 0 there is still colour.")
    luma = image @ [0.299, 0.587, 0.114]
    expect(np.abs(grey[..., 0] - luma).max() <= 1, "What is left is grey, but not the luma.")
    expect(np.abs(half - (same + grey) / 2).max() <= 1.5, "Half the colour is not half way.")


@checker("07-2")
def pair(answer):
    rng = np.random.default_rng(2)
    real, fake = rng.uniform(0, 255, (2, 40, 30, 3))
    one, other = (np.asarray(image, float) for image in ask(answer, real, fake, 5.0, 7))
    expect(one.shape == other.shape == real.shape, "Expected two pictures of the shape given.")
    grain = one - real
    expect(np.abs(grain).max() > 0, "There is no noise on the first picture.")
    expect(
        np.allclose(other - fake, grain), "The forgery's noise is another one: it tells them apart."
    )
    expect(abs(grain.std() - 5) < 0.5, f"The noise has a deviation of {grain.std():.2f}, asked: 5.")
    again = np.asarray(ask(answer, real, fake, 5.0, 7)[0], float)
    expect(np.array_equal(again, one), "The same seed gives other noise tomorrow.")
    elsewhere = np.asarray(ask(answer, real, fake, 5.0, 8)[0], float)
    expect(not np.array_equal(elsewhere, one), "Another seed gives the same noise.")


@checker("07-3")
def bounds(answer):
    rng = np.random.default_rng(3)
    labels = np.tile([0, 1], 50)
    scores = rng.normal(size=100) + labels
    silent = scores.copy()
    silent[rng.permutation(100)[:20]] = np.nan
    for given in (scores, silent):
        spoken, worst = (float(one) for one in ask(answer, labels.copy(), given.copy()))
        known = ~np.isnan(given)
        right = roc_auc_score(labels[known], given[known])
        expect(np.isclose(spoken, right), "The first is not the AUC of those that have a score.")
        filled = np.where(known, given, np.where(labels == 1, -1e9, 1e9))
        least = roc_auc_score(labels, filled)
        expect(worst >= least - 1e-9, "The second is below the worst that it can be.")
        expect(worst <= least + 1e-9, "It can be worse: what would a silent fake's score be?")
