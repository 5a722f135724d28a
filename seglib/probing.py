"""The probe: condition a descriptor, then logistic regression, then calibrate.

The probe *is* a scikit-learn pipeline; ours is only who counts how much and who is kept apart.
Each video weighs the same however many frames it has, and then each class the same. Strength,
calibration and threshold come from training people who were held out of the probe that scored
them. Rows without a descriptor (NaN: no token of the part) are left out of training and get no
score.

Five conditionings, as many as the companion paper (arXiv 2603.26387) compares. ``none``; ``l2``:
each row to the norm sqrt(D), so that C means as much as for the others; ``layernorm``: each row
to mean 0 and variance 1 (Ba et al., arXiv 1607.06450); ``standardise``: each feature to mean 0
and variance 1 over the training rows; ``ln-affine``: layernorm, then an affine map of each feature
learned from the training rows, that is, standardise. The paper means the affine map of the
backbone's own output norm; our tokens are taken behind it, so that this one is our reading.

On disk probes are safetensors and a JSON card beside them: loading executes nothing. Taught in
chapter 03.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as tensors
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, normalize
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import has_fit_parameter

from seglib import __version__, files
from seglib.errors import SeglibError, unknown_name
from seglib.recipe import Recipe

SEEDS = (0, 1, 2)
ATTEMPTS = 20
EPSILON = 1e-6  # under the root of LayerNorm, as in DINOv2
FLATTEST = 0.01  # log-odds a standard deviation of the logits: the least that Platt may say
FORMAT = 1  # raised when the files change their form
ARRAYS = ("weight", "bias", "C", "slope", "offset", "threshold")
SCALER = ("mean", "scale")  # only where the conditioning standardises
MATRICES = ("weight", *SCALER)  # a row a seed; the others hold a number a seed
NOTES = {
    "what": "Linear probes, one a seed, on frozen descriptors of face parts. A score is the "
    "log-odds of fake at even odds of both classes; a video's is the mean over its frames.",
    "limits": "Calibrated on the kinds of forgery and on the cameras it was trained with. On "
    "others its log-odds may be far too sure and its ranking may be at chance or inverted. It "
    "says nothing of who made a picture or why.",
    "licence": "The code is MIT. What was learned derives from the encoder and from the training "
    "data that are named here: their licences bind whoever passes these files on.",
    "load": "probes, card = seglib.probing.load(path)",
}


class TooFewGroups(SeglibError, ValueError):
    """Person-disjoint folds need as many groups of each class as there are folds."""


class MixedVideo(SeglibError, ValueError):
    """Rows of one video differ in label or group."""


class NotLinear(SeglibError, ValueError):
    """A direction was asked of a probe whose score is no linear function of the descriptor."""


class BadProbe(SeglibError):
    """The files hold no probe, or one for other descriptors."""


# -- conditioning -----------------------------------------------------------------------------


def _l2(rows: np.ndarray) -> np.ndarray:
    return normalize(rows) * np.sqrt(rows.shape[1])


def _layernorm(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.sqrt(rows.var(1, keepdims=True) + EPSILON)


CONDITIONINGS = {
    "none": (),
    "l2": (FunctionTransformer(_l2),),
    "layernorm": (FunctionTransformer(_layernorm),),
    "standardise": (StandardScaler(),),
    "ln-affine": (FunctionTransformer(_layernorm), StandardScaler()),
}
AFFINE = ("none", "standardise")  # those that look at each feature by itself


def _pipeline(conditioning: str, C: float) -> Pipeline:
    return make_pipeline(*map(clone, CONDITIONINGS[conditioning]), _classifier(C))


def _classifier(C: float) -> LogisticRegression:
    # Same optimum as scikit-learn's default solver, but without its hundreds of tiny steps.
    return LogisticRegression(C=C, solver="newton-cg")


# -- the probe --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """A fitted pipeline and how to read it.

    conditioning: a name of `CONDITIONINGS`; pipeline: it, then the classifier, whose
    ``decision_function`` gives logits. ``slope * logit + offset`` are calibrated log-odds at even
    odds of both classes. threshold: the log-odds above which to call an item fake.
    """

    conditioning: str
    pipeline: Pipeline
    slope: float
    offset: float
    threshold: float

    @property
    def C(self) -> float:
        """Inverse strength of the L2 penalty that was chosen."""
        return self.pipeline[-1].C

    @property
    def direction(self) -> np.ndarray:
        """Where in the space of raw descriptors the score climbs, and how fast, ``(D,)`` float64.

        The score of x is ``x @ direction`` and a constant: by this and nothing else two
        descriptors differ for the probe. Taught in chapter 05.

        Raises
        ------
        NotLinear
            The conditioning divides a row by what is in it, so that no one direction is right for
            all descriptors.
        """
        scaler, weight = self._affine(), self.pipeline[-1].coef_[0]
        return self.slope * (weight if scaler is None else weight / scaler.scale_)

    @property
    def centre(self) -> np.ndarray:
        """The descriptor that says nothing, ``(D,)`` float64: conditioning makes it 0.

        The score of x is ``(x - centre) @ direction + constant``. Raises as `direction` does.
        """
        scaler = self._affine()
        return np.zeros(self.pipeline[-1].n_features_in_) if scaler is None else scaler.mean_

    @property
    def constant(self) -> float:
        """Calibrated log-odds of the `centre`."""
        return self.slope * self.pipeline[-1].intercept_.item() + self.offset

    def _affine(self) -> StandardScaler | None:
        """The scaler, if there is one, of a conditioning that keeps the score linear."""
        if self.conditioning not in AFFINE:
            raise NotLinear(
                f"found a probe conditioned by {self.conditioning!r}, whose score is not linear "
                f"in the descriptor; expected {' or '.join(AFFINE)}. Train one with such a "
                "`conditioning` in the recipe."
            )
        return _scaler(self.pipeline)


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
    # In single precision the solver's line search gives up now and then.
    rows, labels, groups = descriptors[seen].astype(float), np.asarray(labels)[seen], groups[seen]
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
    pipeline = _pipeline(recipe.conditioning, C)
    pipeline.fit(rows, labels, **_weighting(pipeline, weights))
    return Probe(recipe.conditioning, pipeline, slope, offset, threshold)


def score(probe: Probe, descriptors: np.ndarray) -> np.ndarray:
    """Calibrated log-odds ``(N,)``, higher is more fake; NaN for a row without a descriptor.

    They are an affine map of the logits: their mean over a video's frames is the calibrated mean
    logit, exactly.
    """
    seen = ~np.isnan(descriptors).any(1)
    scores = np.full(len(descriptors), np.nan)
    if seen.any():
        logits = probe.pipeline.decision_function(descriptors[seen].astype(float))
        scores[seen] = probe.slope * logits + probe.offset
    return scores


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
    hangs on who was trained on, and nothing of what kinds of forgery were. Taught in chapter 08.
    """
    seen = ~np.isnan(descriptors).any(1)
    rows, labels = descriptors[seen].astype(float), np.asarray(labels)[seen]
    names, which = np.unique(np.asarray(groups)[seen], return_inverse=True)
    chance, balance = np.full(len(names), 1 / len(names)), compute_sample_weight("balanced", labels)
    found = []
    for times in np.random.default_rng(seed).multinomial(len(names), chance, size=draws):
        pipeline = _pipeline(probe.conditioning, probe.C)
        pipeline.fit(rows, labels, **_weighting(pipeline, balance * times[which]))
        found.append(replace(probe, pipeline=pipeline))
    return tuple(found)


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
            scores[row, test] = score(probe, descriptors[test])
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

    What scikit-learn's ``cross_val_predict`` would give for each C, in less time: a fold's rows
    are conditioned once for all of them.
    """
    logits = {C: np.zeros(len(rows)) for C in sorted(recipe.c_grid)}
    for fold in np.unique(folds):
        test = folds == fold
        known, unseen = rows[~test], rows[test]
        for step in map(clone, CONDITIONINGS[recipe.conditioning]):
            takes = has_fit_parameter(step, "sample_weight")
            known = step.fit_transform(known, **{"sample_weight": weights[~test]} if takes else {})
            unseen = step.transform(unseen)
        for C, found in logits.items():
            classifier = _classifier(C).fit(known, labels[~test], sample_weight=weights[~test])
            found[test] = classifier.decision_function(unseen)
    return logits


def _auc(labels: np.ndarray, logits: np.ndarray, folds: np.ndarray) -> float:
    """Mean over the folds; in each there is a video of either class, see `_tested_in`."""
    within = [folds == fold for fold in np.unique(folds)]
    return np.mean([roc_auc_score(labels[fold], logits[fold]) for fold in within])


def _weighting(pipeline: Pipeline, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The weights, for every step that takes them."""
    takers = [name for name, step in pipeline.steps if has_fit_parameter(step, "sample_weight")]
    return {f"{name}__sample_weight": weights for name in takers}


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
    platt = _classifier(np.inf)
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


# -- on disk ----------------------------------------------------------------------------------


def save(probes: Sequence[Probe], path: Path, card: dict) -> None:
    """Write the probes of several seeds and, beside them, the card of what was trained how.

    Parameters
    ----------
    probes : sequence of Probe
        Of one conditioning and one width, as `fit_seeds` gives them.
    path : Path
        Of the safetensors file; the card has the same name and the suffix ``.json``.
    card : dict
        What only the caller knows: view, recipe, networks, training data, metrics. What the
        probes say of themselves is added.
    """
    content = tensors.save(_stacked(probes))
    own = {
        "format": FORMAT,
        "made_by": f"seglib {__version__}",
        "sha256": hashlib.sha256(content).hexdigest(),
        **NOTES,
        "conditioning": probes[0].conditioning,
        "width": probes[0].pipeline[-1].n_features_in_,
        "C": [probe.C for probe in probes],
        "threshold": [probe.threshold for probe in probes],
        "calibration": [{"slope": probe.slope, "offset": probe.offset} for probe in probes],
    }
    with files.replacing(path) as part:
        part.write_bytes(content)
        with files.replacing(path.with_suffix(".json")) as written:
            written.write_text(json.dumps(card | own, indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[tuple[Probe, ...], dict]:
    """The probes and their card, as `save` wrote them; scores are the same to the last bit.

    Raises
    ------
    BadProbe
        A file is absent, cut or something else, or the two do not belong together.
    """
    try:
        card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        content = path.read_bytes()
        arrays = tensors.load(content)
    except (OSError, ValueError, KeyError, RecursionError, SafetensorError) as error:
        raise _bad(path, str(error)) from error
    if not isinstance(card, dict):
        raise _bad(path, f"the card holds a {type(card).__name__}")
    if card.get("format") != FORMAT:
        raise _bad(path, f"the card says format {card.get('format')!r}, not {FORMAT}")
    if card.get("sha256") != hashlib.sha256(content).hexdigest():
        raise _bad(path, "the card belongs to another file: its sha256 differs")
    conditioning = card.get("conditioning")
    if conditioning not in list(CONDITIONINGS):
        raise _bad(path, str(unknown_name("conditioning", conditioning, CONDITIONINGS)))
    _check(path, arrays, conditioning)
    return tuple(_rebuilt(conditioning, arrays, seed) for seed in range(len(arrays["C"]))), card


def _scaler(pipeline: Pipeline) -> StandardScaler | None:
    return pipeline.named_steps.get("standardscaler")


def _stacked(probes: Sequence[Probe]) -> dict[str, np.ndarray]:
    """All numbers of several probes, a row each."""
    classifiers = [probe.pipeline[-1] for probe in probes]
    scalers = [_scaler(probe.pipeline) for probe in probes]
    arrays = {
        "weight": [classifier.coef_[0] for classifier in classifiers],
        "bias": [classifier.intercept_[0] for classifier in classifiers],
        **{name: [getattr(probe, name) for probe in probes] for name in ARRAYS[2:]},
    }
    if None not in scalers:
        arrays |= {name: [getattr(one, f"{name}_") for one in scalers] for name in SCALER}
    return {name: np.array(rows, float) for name, rows in arrays.items()}


def _rebuilt(conditioning: str, arrays: dict[str, np.ndarray], seed: int) -> Probe:
    """The way back of `_stacked`, for one row."""
    one = {name: rows[seed] for name, rows in arrays.items()}
    pipeline = _pipeline(conditioning, float(one["C"]))
    classifier, scaler = pipeline[-1], _scaler(pipeline)
    classifier.coef_, classifier.intercept_ = one["weight"][None], one["bias"][None]
    classifier.classes_, classifier.n_features_in_ = np.array([0, 1]), len(one["weight"])
    if scaler is not None:
        scaler.mean_, scaler.scale_, scaler.var_ = one["mean"], one["scale"], one["scale"] ** 2
        scaler.n_features_in_ = len(one["weight"])
    return Probe(conditioning, pipeline, *(float(one[name]) for name in ARRAYS[3:]))


def _check(path: Path, arrays: dict[str, np.ndarray], conditioning: str) -> None:
    """Refuse arrays that no probe can be rebuilt from."""
    expected = set(ARRAYS)
    if _scaler(_pipeline(conditioning, 1.0)) is not None:
        expected |= set(SCALER)
    if set(arrays) != expected:
        raise _bad(path, f"arrays {sorted(arrays)} where {conditioning} has {sorted(expected)}")
    shape = arrays["weight"].shape
    if len(shape) != 2 or 0 in shape:
        raise _bad(path, f"weight is {shape} where (seeds, width) is expected")
    for name, array in arrays.items():
        if array.shape != (shape if name in MATRICES else shape[:1]) or array.dtype != float:
            raise _bad(path, f"{name} is {array.dtype} {array.shape} beside a weight {shape}")
        if not np.isfinite(array).all():
            raise _bad(path, f"{name} holds a number that is not finite")
        if name in ("C", "scale", "slope") and (array <= 0).any():
            raise _bad(path, f"{name} holds a number that is not above 0")


def _bad(path: Path, found: str) -> BadProbe:
    return BadProbe(
        f"{path} and its card hold no probe ({found}); expected what `seglib train` writes. "
        "Train it again."
    )
