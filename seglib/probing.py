"""The probe: standardise, then logistic regression. Its strength is chosen across people.

The probe *is* a scikit-learn pipeline; nothing here is ours but the grouping. Rows without a
descriptor (NaN: no token of the part) are left out of training and get no score. On disk a
probe is safetensors and a JSON card beside it: loading executes nothing. Taught in chapter 03.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from seglib import files
from seglib.errors import SeglibError
from seglib.recipe import Recipe


class TooFewGroups(SeglibError, ValueError):
    """Person-disjoint folds need as many groups of each class as there are folds."""


class BadProbe(SeglibError):
    """The files hold no probe, or one for other descriptors."""


def fit(
    descriptors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    recipe: Recipe,
    seed: int = 0,
) -> Pipeline:
    """Train on all rows that have a descriptor; choose C by person-disjoint cross-validation.

    Parameters
    ----------
    descriptors : (N, D) float
    labels : (N,) of 0 (bona fide) and 1 (fake)
    groups : (N,)
        No group is on both sides of a fold.
    recipe : Recipe
        Its ``c_grid`` (Alain & Bengio, arXiv 1610.01644, for linear probes in general; DINOv3's
        own evaluation sweeps C in the same manner).
    seed : int
        Which people fall into which fold.
    """
    seen = ~np.isnan(descriptors).any(1)
    # Same optimum as scikit-learn's default solver, but ten times sooner on a few hundred rows:
    # lbfgs spends its time in hundreds of tiny products that threads of BLAS then quarrel over.
    classifier = LogisticRegression(solver="newton-cg")
    search = GridSearchCV(
        make_pipeline(StandardScaler(), classifier),
        {"logisticregression__C": list(recipe.c_grid)},
        scoring="roc_auc",
        cv=_folds(labels[seen], groups[seen], recipe.inner_folds, seed),
        n_jobs=1,
    )
    search.fit(descriptors[seen], labels[seen], groups=groups[seen])
    return search.best_estimator_


def score(probe: Pipeline, descriptors: np.ndarray) -> np.ndarray:
    """Logits ``(N,)``, higher is more fake; NaN for a row without a descriptor."""
    seen = ~np.isnan(descriptors).any(1)
    scores = np.full(len(descriptors), np.nan)
    if seen.any():
        scores[seen] = probe.decision_function(descriptors[seen])
    return scores


def out_of_fold(
    descriptors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    recipe: Recipe,
    seeds: Sequence[int] = (0, 1, 2),
) -> np.ndarray:
    """Scores ``(S, N)`` in which nobody was scored by a probe that had seen them.

    One row a seed. Which probe gave a score is what `outer_folds` says of the same arguments.
    """
    scores = np.full((len(seeds), len(labels)), np.nan)
    for row, where, seed in zip(
        scores, outer_folds(labels, groups, recipe, seeds), seeds, strict=True
    ):
        for fold in range(recipe.folds):
            train, test = where != fold, where == fold
            probe = fit(descriptors[train], labels[train], groups[train], recipe, seed)
            row[test] = score(probe, descriptors[test])
    return scores


def outer_folds(
    labels: np.ndarray, groups: np.ndarray, recipe: Recipe, seeds: Sequence[int] = (0, 1, 2)
) -> np.ndarray:
    """Who is tested in which of the ``recipe.folds`` folds, ``(S, N)`` integers, one row a seed.

    A fold is also the number of the probe that scored it.
    """
    where = np.zeros((len(seeds), len(labels)), int)
    for row, seed in zip(where, seeds, strict=True):
        splits = _folds(labels, groups, recipe.folds, seed).split(labels, labels, groups)
        for fold, (_, test) in enumerate(splits):
            row[test] = fold
    return where


def _folds(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> StratifiedGroupKFold:
    found = [len(np.unique(groups[labels == kind])) for kind in (0, 1)]
    if min(found) < folds:
        raise TooFewGroups(
            f"{found[0]} groups of people with a bona fide item and {found[1]} with a fake for "
            f"{folds} folds; expected at least as many of each as folds. Add people, or lower "
            "`folds` or `inner_folds` in the recipe."
        )
    return StratifiedGroupKFold(folds, shuffle=True, random_state=seed)


# -- on disk ----------------------------------------------------------------------------------


def save(probe: Pipeline, path: Path, card: dict) -> None:
    """Write ``path`` (safetensors) and a card of what was trained how beside it (JSON)."""
    scaler, classifier = probe[0], probe[-1]
    numbers = {
        "mean": scaler.mean_,
        "scale": scaler.scale_,
        "weight": classifier.coef_,
        "bias": classifier.intercept_,
    }
    card = card | {"C": classifier.C}
    with files.replacing(path) as part:
        save_file({name: np.ascontiguousarray(array) for name, array in numbers.items()}, part)
        with files.replacing(path.with_suffix(".json")) as written:
            written.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[Pipeline, dict]:
    """The probe and its card, as `save` wrote them.

    Raises
    ------
    BadProbe
        A file is absent, cut, or something else.
    """
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        numbers = load_file(path)
        mean, scale, weight, bias = (numbers[n] for n in ("mean", "scale", "weight", "bias"))
        scaler, classifier = StandardScaler(), LogisticRegression(C=card["C"])
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise BadProbe(
            f"{path} and its card hold no probe ({error}); expected what `seglib train` writes. "
            "Train it again."
        ) from error
    scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
    scaler.n_features_in_ = classifier.n_features_in_ = len(mean)
    classifier.coef_, classifier.intercept_ = weight, bias
    classifier.classes_ = np.array([0, 1])
    return make_pipeline(scaler, classifier), card
