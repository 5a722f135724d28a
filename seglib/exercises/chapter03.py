"""Checkers of chapter 03, probing."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from seglib.exercises import ask, checker, expect, number


@checker("03-1")
def auc(answer):
    rng = np.random.default_rng(1)
    for ties in (False, True):
        for _ in range(10):
            labels = np.array([0, 1, *rng.integers(0, 2, 18)])
            scores = rng.normal(size=20) + labels
            scores = scores.round() if ties else scores
            found, true = number(answer, labels, scores), roc_auc_score(labels, scores)
            expect(
                not np.isclose(found, 1 - true) or np.isclose(true, 0.5),
                "Yours is one minus the AUC: a higher score means more fake.",
            )
            hint = "Equal scores are wrong: what is a draw worth?" if ties else "Your AUC is wrong."
            expect(np.isclose(found, true), hint)


@checker("03-2")
def folds(answer):
    rng = np.random.default_rng(2)
    for count in (2, 5):
        groups = rng.permutation(np.repeat(rng.permutation(90)[:30], rng.integers(1, 5, 30)))
        found = np.asarray(ask(answer, groups, count, 0))
        expect(found.shape == groups.shape, "Every item gets one number.")
        expect(set(np.unique(found)) == set(range(count)), f"Expected folds 0 to {count - 1}.")
        for group in np.unique(groups):
            expect(
                len(set(found[groups == group])) == 1,
                "Somebody is in two folds: a probe is tested on people it has met.",
            )
        held = [len(np.unique(groups[found == fold])) for fold in range(count)]
        expect(max(held) - min(held) <= 1, "Some fold has far more groups than another.")
        again = np.asarray(ask(answer, groups, count, 0))
        expect((found == again).all(), "Twice the same seed, and not twice the same folds.")
        other = [np.asarray(ask(answer, groups, count, seed)) for seed in (1, 2, 3)]
        expect(any((found != one).any() for one in other), "The seed changes nothing.")


@checker("03-3")
def interval(answer):
    rng = np.random.default_rng(3)
    many, copies = 24, 15
    groups = np.repeat(np.arange(many), copies)
    labels = np.tile(np.arange(copies) % 2, many)
    scores = rng.normal(size=len(groups)) + labels * rng.normal(0.6, 1.2, many)[groups]
    low, high = (float(end) for end in ask(answer, labels, scores, groups, 0))
    expect(low < high, "The first number is the lower end.")
    drawn = []
    for _ in range(500):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, many, many)])
        drawn.append(roc_auc_score(labels[rows], scores[rows]))
    least, most = np.quantile(drawn, [0.025, 0.975])
    ratio = (high - low) / (most - least)
    expect(ratio > 0.75, "Your interval is too narrow. Are people drawn, or pictures?")
    expect(ratio < 1.3, "Your interval is too wide for 95 %.")
    expect(abs(low + high - least - most) < 0.06, "Your interval lies elsewhere.")
    again = tuple(float(end) for end in ask(answer, labels, scores, groups, 0))
    expect((low, high) == again, "Twice the same seed, and not twice the same interval.")
