"""Probes put to the test: on held-out people, or on other people altogether.

A *trial* trains a probe on each of several views and scores, always, people it never met. Taught
in chapters 03 and 06.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from joblib import Parallel, delayed
from tqdm import tqdm

from seglib import probing, training
from seglib.demo import Sample
from seglib.evaluation import Scores
from seglib.recipe import Recipe
from seglib.training import SEEDS


def within(
    sample: Sample, views: Sequence[str], recipe: Recipe, seeds: Sequence[int] = SEEDS
) -> Scores:
    """Scores of each view by person-disjoint cross-validation on one sample."""
    found = {view: sample.descriptors.view(view) for view in views}
    return held_out(sample, found, recipe, seeds)


def held_out(
    sample: Sample,
    views: Mapping[str, np.ndarray],
    recipe: Recipe,
    seeds: Sequence[int] = SEEDS,
    learned: np.ndarray | None = None,
    decided: Mapping[str, Recipe] | None = None,
) -> Scores:
    """The same for any descriptors of a sample's items.

    Parameters
    ----------
    sample
        Or whatever has its name, labels, groups and items, say an `audit.Case`.
    views : mapping of (N, W)
        By name; rows of NaN where there is no descriptor.
    learned : (N,) bool, optional
        Which items may be learned from, see `training.out_of_fold`. Default: all.
    decided : mapping of Recipe, optional
        For views whose probes are trained by another recipe.
    """
    started, decided = time.monotonic(), decided or {}
    cases = [
        (rows, sample.labels, sample.groups, decided.get(view, recipe), seeds, learned)
        for view, rows in views.items()
    ]
    found = _at_once(training.out_of_fold, cases, sample.name)
    held = dict(zip(views, found, strict=True))
    return Scores(
        sample.labels,
        sample.groups,
        {view: one.scores for view, one in held.items()},
        probes=next(iter(held.values())).folds,
        items=sample.items,
        thresholds={view: one.thresholds for view, one in held.items()},
        title=sample.name,
        seconds=time.monotonic() - started,
    )


def across(
    train: Sample,
    test: Sample,
    views: Sequence[str],
    recipe: Recipe,
    seeds: Sequence[int] = SEEDS,
) -> Scores:
    """Scores of each view on people and forgeries that its probes never met; a probe a seed."""
    started, scores, thresholds = time.monotonic(), {}, {}
    title = f"{train.name} → {test.name}"
    known = train.labels, train.groups, recipe, seeds
    cases = [(train.descriptors.view(view), *known) for view in views]
    fitted = _at_once(training.fit_seeds, cases, title)
    for view, probes in zip(views, fitted, strict=True):
        unseen = test.descriptors.view(view)
        scores[view] = np.stack([probing.score(probe, unseen) for probe in probes])
        thresholds[view] = np.array([[probe.threshold] for probe in probes])
    return Scores(
        test.labels,
        test.groups,
        scores,
        items=test.items,
        thresholds=thresholds,
        title=title,
        seconds=time.monotonic() - started,
    )


def dealt(
    labels: np.ndarray,
    groups: np.ndarray,
    rng: np.random.Generator,
    among: np.ndarray | None = None,
) -> np.ndarray:
    """Labels dealt out anew inside each group, ``(N,)``: what is still found is a leak.

    among ``(N,)`` bool: only the labels of these items.
    """
    found = labels.copy()
    rows = np.arange(len(labels)) if among is None else np.flatnonzero(among)
    for group in np.unique(groups):
        members = rows[groups[rows] == group]
        found[members] = rng.permutation(found[members])
    return found


def _at_once(train: Callable, cases: Sequence[tuple], title: str) -> list:
    """Train on each case, several at a time: one probe keeps only one core busy."""
    jobs = (delayed(train)(*case) for case in cases)
    done = Parallel(n_jobs=-1, return_as="generator")(jobs)
    return list(tqdm(done, title, len(cases), unit="view", leave=False))
