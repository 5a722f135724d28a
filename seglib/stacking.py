"""Training a panel: a probe a part, then one calibration of what they say together.

The parts are combined on scores of people held out, as in stacked generalisation (Wolpert, Neural
Networks 5(2), 1992), here with equal weights. Beside each probe others are trained on redrawn
people, and the distance beyond which a face is unlike all training ones is learned. Taught in
chapter 08.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from seglib import metrics, novelty, training
from seglib.panel import OVERALL, Combination, Panel, together
from seglib.recipe import Recipe

DRAWS = 40  # probes trained on redrawn people, of each part


def fit(
    views: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    recipe: Recipe,
    card: dict,
    draws: int = DRAWS,
) -> Panel:
    """Train on everybody, and measure on people held out.

    Parameters
    ----------
    views : mapping of (N, W) float
        Descriptors of each part.
    labels : (N,) of 0 (bona fide) and 1 (fake)
    groups : (N,)
    recipe : Recipe
        What the descriptors were made by, and how to train.
    card : dict
        Networks, and where the pictures come from. Added are ``measured``: of each part, and of
        all together, AUC and false-positive rate at the threshold, each with its interval.
    """
    probes, references, held_out, distances = {}, {}, {}, []
    for part, rows in views.items():
        probe = training.fit(rows, labels, groups, recipe)
        more = training.redrawn(probe, rows, labels, groups, draws, recipe.seed)
        probes[part] = (probe, *more)
        references[part], held_out_distances = novelty.fit(rows, groups)
        distances.append(held_out_distances)
        held_out[part] = training.out_of_fold(rows, labels, groups, recipe, (recipe.seed,))
    judged = {part: (one.scores[0], _cuts(one)) for part, one in held_out.items()}
    folds = next(iter(held_out.values())).folds[0]
    combination = None
    if len(views) > 1:
        mean = together([scores for scores, _ in judged.values()])
        limit = novelty.usual(together(distances))
        combination = replace(_combined(mean, labels), limit=limit)
        judged[OVERALL] = _cross_fitted(mean, labels, folds)
    measured = {name: _measured(*one, labels, groups, folds) for name, one in judged.items()}
    card = card | {"redrawn": draws, "measured": measured}
    return Panel(recipe, probes, references, combination, card)


def _combined(mean: np.ndarray, labels: np.ndarray) -> Combination:
    seen = ~np.isnan(mean)
    slope, offset = training.calibration(labels[seen], mean[seen])
    threshold = training.best_threshold(labels[seen], slope * mean[seen] + offset)
    return Combination(slope, offset, threshold)


def _cross_fitted(
    mean: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and thresholds of combinations that were learned on the other folds."""
    scores, cuts = np.full(len(mean), np.nan), np.full(len(mean), np.nan)
    for fold in np.unique(folds):
        test = folds == fold
        learned = _combined(mean[~test], labels[~test])
        scores[test] = learned.slope * mean[test] + learned.offset
        cuts[test] = learned.threshold
    return scores, cuts


def _cuts(one: training.HeldOut) -> np.ndarray:
    """The threshold that was in force for each item, ``(N,)``."""
    return one.thresholds[0][one.folds[0]]


def _measured(
    scores: np.ndarray, cuts: np.ndarray, labels: np.ndarray, groups: np.ndarray, folds: np.ndarray
) -> dict[str, list[float]]:
    """AUC and false-positive rate with their intervals."""
    real = labels == 0
    called = np.where(np.isnan(scores), np.nan, scores > cuts)[real]
    found = {
        "auc": metrics.auc(labels, scores, groups, probes=folds, abstained="dropped"),
        "false_positive_rate": metrics.mean(called, groups[real], abstained="dropped"),
    }
    return {name: [one.value, one.low, one.high] for name, one in found.items()}
