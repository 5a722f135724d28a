"""Training a probe: its strength, calibration and threshold come from people held out.

Logistic regression on conditioned descriptors (`logistic`); here is decided who counts how much
and who is kept apart. Each video weighs the same however many frames it has, and then each class
the same. Strength, calibration and threshold come from training people who were held out of the
probe that scored them. Rows without a descriptor (NaN: no token of the part) are left out.

Taught in chapter 03.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from joblib import Parallel, delayed
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.utils import gen_batches
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import ThreadpoolController

from seglib import logistic, probing
from seglib.errors import SeglibError
from seglib.probing import Probe
from seglib.recipe import Recipe

SEEDS = (0, 1, 2)
ATTEMPTS = 20
MANY = 2**23  # numbers in the rows: from there on, folds are worth a thread each
FLATTEST = 0.01  # log-odds a standard deviation of the logits: the least that Platt may say


class TooFewGroups(SeglibError, ValueError):
    """Person-disjoint folds need as many groups of each class as there are folds."""


class MixedVideo(SeglibError, ValueError):
    """Rows of one video differ in label or group."""


@dataclass(frozen=True)
class HeldOut:
    """Scores of items by probes that had not met their people.

    scores ``(S, N)``: calibrated log-odds, a row a seed; folds ``(S, N)`` int: the fold in which
    an item was tested (`outer_folds`), which is also the number of the probe that scored it;
    thresholds ``(S, folds)``: of each probe, from its own training people.
    """

    scores: np.ndarray
    folds: np.ndarray
    thresholds: np.ndarray


def fit(
    descriptors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    recipe: Recipe,
    seed: int = 0,
    videos: np.ndarray | None = None,
) -> Probe:
    """Train on all rows that have a descriptor.

    C is the value of the recipe's grid with the best AUC of held-out videos (a grid for linear
    probes: Alain & Bengio, arXiv 1610.01644), of equals the smallest. Only videos of one fold are
    compared with each other, as two probes have no common scale (Forman & Scholz,
    *Apples-to-Apples in Cross-Validation Studies*, SIGKDD Explorations 12(1), 2010). The same
    held-out logits give calibration and threshold.

    Parameters
    ----------
    descriptors : (N, D) float
    labels : (N,) of 0 (bona fide) and 1 (fake)
    groups : (N,)
        No group is on both sides of a fold.
    recipe : Recipe
        Its ``conditioning``, ``c_grid`` and ``inner_folds``.
    seed : int
        Which people fall into which fold.
    videos : (N,), optional
        Which video each row is a frame of. Default: each row is an item of its own.

    Raises
    ------
    TooFewGroups, MixedVideo
    """
    seen = ~np.isnan(descriptors).any(1)
    rows, labels, groups = descriptors[seen], np.asarray(labels)[seen], groups[seen]
    videos = np.arange(len(rows)) if videos is None else np.asarray(videos)[seen]
    folds = _tested_in(labels, groups, recipe.inner_folds, seed)
    first, which, frames = _frames(videos, labels, groups)
    labelled, tested_in = labels[first], folds[first]
    weights = (compute_sample_weight("balanced", labelled) / frames)[which]
    logits = _held_out_logits(recipe, rows, labels, weights, folds)
    held_out = {C: np.bincount(which, found) / frames for C, found in logits.items()}
    C = max(held_out, key=lambda C: _auc(labelled, held_out[C], tested_in))
    slope, offset = calibration(labelled, held_out[C])
    threshold = best_threshold(labelled, slope * held_out[C] + offset)
    (learned,) = _learned(recipe.conditioning, [C], rows, labels, [weights])
    decided = {"slope": slope, "offset": offset, "threshold": threshold}
    return Probe(recipe.conditioning, C, **decided, **_only(learned))


def fit_seeds(
    descriptors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    recipe: Recipe,
    seeds: Sequence[int] = SEEDS,
    videos: np.ndarray | None = None,
) -> tuple[Probe, ...]:
    """A probe a seed; see `fit`.

    Each seed leaves out another one of the recipe's ``folds`` of the people, so that the seeds
    differ in what was learned from.
    """
    probes = []
    for kept, seed in zip(outer_folds(labels, groups, recipe, seeds) > 0, seeds, strict=True):
        frames = None if videos is None else videos[kept]
        probes.append(fit(descriptors[kept], labels[kept], groups[kept], recipe, seed, frames))
    return tuple(probes)


def redrawn(
    probe: Probe,
    descriptors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    draws: int,
    seed: int = 0,
) -> tuple[Probe, ...]:
    """The same probe trained on other people: a bootstrap over groups, a probe a draw.

    C and calibration stay. How far the scores of these probes lie apart says how much a verdict
    hangs on who was trained on, and nothing of what kinds of forgery were. Draws without one of the
    classes are drawn again. Taught in chapter 08.
    """
    seen = ~np.isnan(descriptors).any(1)
    rows, labels = descriptors[seen], np.asarray(labels)[seen]
    names, which = np.unique(np.asarray(groups)[seen], return_inverse=True)
    chance, balance = np.full(len(names), 1 / len(names)), compute_sample_weight("balanced", labels)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), chance, size=draws)
    kinds = [np.unique(which[labels == kind]) for kind in np.unique(labels)]
    while any(lacking := [not all(times[kind].any() for kind in kinds) for times in drawn]):
        drawn[lacking] = rng.multinomial(len(names), chance, size=sum(lacking))
    weightings = (balance * times[which] for times in drawn)
    found = _learned(probe.conditioning, [probe.C], rows, labels, weightings)
    return tuple(replace(probe, **_only(learned)) for learned in found)


def out_of_fold(
    descriptors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    recipe: Recipe,
    seeds: Sequence[int] = SEEDS,
    learned: np.ndarray | None = None,
) -> HeldOut:
    """Score each row by probes that were trained on the other folds of people; see `fit`.

    learned ``(N,)`` bool: the rows that may be learned from (default: all). By these groups are
    dealt into folds. The others are scored too, also by probes that never met their group, say
    pictures in which another part was forged, or copies with something replaced; their labels
    count for nothing. A group of which no row is learned from is scored by one of the probes.
    """
    scores = np.full((len(seeds), len(labels)), np.nan)
    thresholds = np.zeros((len(seeds), recipe.folds))
    learned = np.ones(len(labels), bool) if learned is None else np.asarray(learned, bool)
    dealt = outer_folds(labels[learned], groups[learned], recipe, seeds)
    folds = _of_groups(dealt, groups, learned, recipe.folds)
    for row, seed in enumerate(seeds):
        for fold in range(recipe.folds):
            train, test = learned & (folds[row] != fold), folds[row] == fold
            probe = fit(descriptors[train], labels[train], groups[train], recipe, seed)
            scores[row, test] = probing.score(probe, descriptors[test])
            thresholds[row, fold] = probe.threshold
    return HeldOut(scores, folds, thresholds)


def outer_folds(
    labels: np.ndarray, groups: np.ndarray, recipe: Recipe, seeds: Sequence[int] = SEEDS
) -> np.ndarray:
    """Who is tested in which of the recipe's ``folds``, ``(S, N)`` int, a row a seed."""
    return np.stack([_tested_in(labels, groups, recipe.folds, seed) for seed in seeds])


def _of_groups(
    dealt: np.ndarray, groups: np.ndarray, learned: np.ndarray, folds: int
) -> np.ndarray:
    """The folds of the rows learned from, ``(S, L)``, for all rows of their groups, ``(S, N)``.

    A group without such a row has met no probe, any may score it: by name they take turns.
    """
    names, group = np.unique(groups, return_inverse=True)
    tested_in = np.tile(np.arange(len(names)) % folds, (len(dealt), 1))
    tested_in[:, group[learned]] = dealt
    return tested_in[:, group]


def _tested_in(labels: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Which of the person-disjoint folds each row is tested in, ``(N,)`` int."""
    found = [len(np.unique(groups[labels == kind])) for kind in (0, 1)]
    if min(found) < folds:
        raise TooFewGroups(
            f"{found[0]} groups of people with a bona fide item and {found[1]} with a fake for "
            f"{folds} folds; expected at least as many of each as folds. Add people, or lower "
            "`folds` or `inner_folds` in the recipe."
        )
    tested_in = np.zeros(len(labels), int)
    for again in range(ATTEMPTS):  # groups of very different sizes may leave a fold one class
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + 1000 * again)
        tests = [test for _, test in splitter.split(labels, labels, groups)]
        if all(len(np.unique(labels[test])) == 2 for test in tests):
            for fold, test in enumerate(tests):
                tested_in[test] = fold
            return tested_in
    raise TooFewGroups(
        f"{ATTEMPTS} ways of dealing {len(np.unique(groups))} groups into {folds} folds all left a "
        "fold with one class; expected both in each. Add people, or lower `folds` or `inner_folds`."
    )


def _frames(
    videos: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of V videos the first row ``(V,)``, the video of each row ``(N,)``, and their rows ``(V,)``.

    Raises
    ------
    MixedVideo
    """
    names, first, which, frames = np.unique(
        videos, return_index=True, return_inverse=True, return_counts=True
    )
    mixed = (labels[first][which] != labels) | (groups[first][which] != groups)
    if mixed.any():
        raise MixedVideo(
            f"rows of video '{names[which[mixed][0]]}' have several labels or groups; expected one "
            "of each. Give every video an identifier of its own, never a file stem."
        )
    return first, which, frames


def _held_out_logits(
    recipe: Recipe, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray, folds: np.ndarray
) -> dict[float, np.ndarray]:
    """Logits of all rows ``(N,)`` by probes trained on the other folds; by C, ascending.

    What scikit-learn's ``cross_val_predict`` gives for each C, driven to the end.
    """
    strengths, tests = sorted(recipe.c_grid), [folds == fold for fold in np.unique(folds)]
    weightings = (np.where(test, 0, weights) for test in tests)
    learned = _learned(recipe.conditioning, strengths, rows, labels, weightings)
    logits = np.zeros((len(strengths), len(rows)))
    for test, found in zip(tests, learned, strict=True):
        unseen = probing.ROWWISE[recipe.conditioning](rows[test].astype(float))
        unseen = (unseen - found["mean"]) / found["scale"]
        logits[:, test] = found["weight"] @ unseen.T + found["bias"][:, None]
    return dict(zip(strengths, logits, strict=True))


def _learned(
    conditioning: str,
    strengths: Sequence[float],
    rows: np.ndarray,
    labels: np.ndarray,
    weightings: Iterable[np.ndarray],
) -> list[dict[str, np.ndarray]]:
    """What a `Probe` is made of, as far as rows decide it, for each weighting; several at a time.

    weight ``(L, D)`` and bias ``(L,)``, of each strength; mean and scale ``(D,)``.
    """
    learn = delayed(_learned_once)
    jobs = (learn(conditioning, strengths, rows, labels, weights) for weights in weightings)
    threads = -1 if rows.size > MANY else 1
    # The threads of BLAS wait for each other too often here, and how many there are moves numbers.
    with _blas().limit(limits=1):
        return Parallel(threads, require="sharedmem")(jobs)


@cache
def _blas() -> ThreadpoolController:
    """Found once: looking for it takes as long as a small probe."""
    return ThreadpoolController().select(user_api="blas")


def _learned_once(
    conditioning: str,
    strengths: Sequence[float],
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
) -> dict[str, np.ndarray]:
    counted = weights > 0
    known, weights = rows[counted].astype(float), weights[counted]
    known = probing.ROWWISE[conditioning](known)
    mean, scale = _scaling(conditioning, known, weights)
    known -= mean  # in place: of a large collection each copy is felt
    known /= scale
    weight, bias = logistic.fit(known, labels[counted], weights, strengths)
    return {"weight": weight, "bias": bias, "mean": mean, "scale": scale}


def _only(learned: dict[str, np.ndarray]) -> dict[str, np.ndarray | float]:
    """Of what was learned under one strength, that one."""
    return learned | {"weight": learned["weight"][0], "bias": learned["bias"].item()}


def _scaling(
    conditioning: str, rows: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale ``(D,)`` of each feature, where they are learned; elsewhere 0 and 1."""
    if conditioning not in probing.STANDARDISED:
        return np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    scaler = StandardScaler()
    for batch in gen_batches(len(rows), logistic.BATCH):  # it copies what it is given, twice
        scaler.partial_fit(rows[batch], sample_weight=weights[batch])
    return scaler.mean_, scaler.scale_


def _auc(labels: np.ndarray, logits: np.ndarray, folds: np.ndarray) -> float:
    """Mean over the folds; in each there is a video of either class, see `_tested_in`."""
    within = [folds == fold for fold in np.unique(folds)]
    return np.mean([roc_auc_score(labels[fold], logits[fold]) for fold in within])


def calibration(labels: np.ndarray, logits: np.ndarray) -> tuple[float, float]:
    """Slope and offset of Platt scaling, both classes weighing the same.

    With the targets of Platt (*Probabilistic Outputs for Support Vector Machines*, 1999), which
    stop short of 0 and 1: perfectly separated logits get a finite slope. A probe whose held-out
    logits point the wrong way learned nothing that it should be believed for: its ranking stays,
    its log-odds stay near 0.
    """
    weights = compute_sample_weight("balanced", labels)
    scaler = StandardScaler()
    units = scaler.fit_transform(logits[:, None], sample_weight=weights)
    count = np.bincount(labels)[labels]
    sure = (count + 1) / (count + 2)
    platt = LogisticRegression(C=np.inf, solver="newton-cg")
    # A target between 0 and 1 is an item of either class, with the weights divided.
    platt.fit(
        np.concatenate([units, units]),
        np.concatenate([labels, 1 - labels]),
        sample_weight=np.concatenate([weights * sure, weights * (1 - sure)]),
    )
    slope, offset = platt.coef_.item(), platt.intercept_.item()
    if slope < FLATTEST:
        slope, offset = FLATTEST, 0.0
    slope /= scaler.scale_.item()
    return slope, offset - slope * scaler.mean_.item()


def best_threshold(labels: np.ndarray, odds: np.ndarray) -> float:
    """The log-odds above which to say fake: best balanced accuracy, in the middle of its gap.

    Of several gaps between neighbours that are equally good the widest. Where no gap beats
    answering always the same, even odds: 0.
    """
    false, true, cuts = roc_curve(labels, odds, drop_intermediate=False)
    gain, gaps = (true - false)[1:-1], -np.diff(cuts[1:])
    if not gain.size or gain.max() <= 0:
        return 0.0
    best = np.argmax(np.where(np.isclose(gain, gain.max()), gaps, 0))
    return float(cuts[1:][best] - gaps[best] / 2)
