"""One decision of the method changed at a time, and what the AUC makes of it.

An *axis* is one decision and its alternatives, the recipe's own choice first. All are probed on
the same pictures in the same folds of people, so that each lead is paired. Nothing is chosen by
these numbers: the recipe was fixed before they were known. Taught in chapter 04.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache, partial

import numpy as np
import pandas as pd
from tqdm import tqdm

from seglib import demo, evaluation, probing, training, trials
from seglib.demo import Sample
from seglib.evaluation import Scores
from seglib.recipe import CHOICES, Recipe
from seglib.training import SEEDS, HeldOut

FORGED = ("orl", "mouth", "poisson")
# Two axes take another look at every picture, which takes minutes: they are measured on the
# smaller collection, beside the recipe's own choice there.
LOOKS = ("input-size", "backbone")
SMALLER = ("csu", "mouth", "feathered")
BLOCKS = 12  # of the demo's encoder
NAMES = {
    "largest": "largest share",
    0.25: "more than a quarter",
    0.75: "more than three quarters",
    "mean+std": "mean and deviation",
    **{layer: f"block {BLOCKS + 1 + layer}" for layer in range(-BLOCKS, 0)},
}


def _alternatives(field: str) -> dict[str, dict]:
    """The recipe's own choice, then those that the demo makes along, by what readers call them."""
    own = next(one.default for one in fields(Recipe) if one.name == field)
    return {NAMES.get(one, one): {field: one} for one in (own, *demo.AXES[field])}


# By axis and alternative, what it changes in the recipe.
AXES: Mapping[str, Mapping[str, Mapping]] = {
    "patch-rule": _alternatives("patch_rule"),
    "input-size": {
        f"{side} pixels": {"crop_size": side, "input_size": side} for side in (280, 140, 224)
    },
    "pooling": _alternatives("pooling"),
    "conditioning": {
        name: {"conditioning": name}
        for name in ("standardise", "none", "l2", "layernorm", "ln-affine")
    },
    "layer": _alternatives("layer"),
    "encoding": {name: {"encoding": name} for name in CHOICES["encoding"]},
    # Random weights are a control; they do not stand for FaRL, which only the paper's mode has.
    "backbone": {
        "trained": {"backbone": "dinov2-s"},
        "random weights": {"backbone": "dinov2-s-random"},
    },
}
COUPLES = (8, 4)  # to learn from, of the 16 that each fold trains on
PICTURES = (10, 5, 2, 1)  # of a person, who has 10


def changed(axis: str, recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """Held-out scores under each alternative of one of the `AXES`; the alternatives are views."""
    own, *others = AXES[axis]
    forged = SMALLER if axis in LOOKS else FORGED
    decided = {name: recipe.but(**AXES[axis][name]) for name in others}
    made = {name: demo.sample(*forged, one) for name, one in decided.items()}
    rows = {name: sample.descriptors.view("mouth") for name, sample in made.items()}
    found = trials.held_out(demo.sample(*forged, recipe), rows, recipe, seeds, decided=decided)
    return _beside(axis, own, found, recipe.but(**AXES[axis][own]), seeds, forged)


def fewer_people(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """A learning curve: the same folds, and probes that learn from few of their couples."""
    started, sample = time.monotonic(), demo.sample(*FORGED, recipe)
    held = {
        f"{couples} couples": learned_from(couples, sample, recipe, seeds)
        for couples in tqdm(COUPLES, "fewer people", unit="view", leave=False)
    }
    found = Scores(
        sample.labels,
        sample.groups,
        {name: one.scores for name, one in held.items()},
        thresholds={name: one.thresholds for name, one in held.items()},
        seconds=time.monotonic() - started,
    )
    return _beside("people", "all couples", found, recipe, seeds)


def learned_from(couples: int, sample: Sample, recipe: Recipe, seeds: Sequence[int]) -> HeldOut:
    """As `training.out_of_fold`, but each probe learns from so many of its training groups only.

    They are drawn anew for every seed and fold, fewer of them a part of more.
    """
    labels, groups, rows = sample.labels, sample.groups, sample.descriptors.view("mouth")
    folds = training.outer_folds(labels, groups, recipe, seeds)
    scores, thresholds = np.full(folds.shape, np.nan), np.zeros((len(seeds), recipe.folds))
    for place in np.ndindex(thresholds.shape):
        row, fold = place
        test = folds[row] == fold
        rng = np.random.default_rng((recipe.seed, seeds[row], fold))
        known = np.isin(groups, rng.permutation(np.unique(groups[~test]))[:couples])
        probe = training.fit(rows[known], labels[known], groups[known], recipe, seeds[row])
        scores[row, test] = probing.score(probe, rows[test])
        thresholds[place] = probe.threshold
    return HeldOut(scores, folds, thresholds)


def fewer_pictures(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """A person's pictures as if they were the frames of a video: the mean of the first few.

    An item is a person, bona fide or forged; a score the mean log-odds of their pictures under
    the probes of single ones. Pictures taken apart differ more than frames do.
    """
    here = _standard(recipe, tuple(seeds), FORGED)
    people = pd.Series(here.items).str.replace(r"/\S+", "", regex=True)  # "s1/3 forged" and so on
    rank, first = people.groupby(people).cumcount().to_numpy(), ~people.duplicated().to_numpy()
    means = {}
    for few in PICTURES:
        seen = people.to_numpy()[rank < few], here.views["mouth"][:, rank < few]
        means["1 picture" if few == 1 else f"{few} pictures"] = evaluation.score_videos(
            *seen, people[first]
        )
    return Scores(
        here.labels[first],
        here.groups[first],
        means,
        probes=here.probes[:, first],
        items=people[first].to_numpy(),
        title=f"{here.title}: frames",
        seconds=here.seconds,
    )


@cache  # every axis asks for it
def _standard(recipe: Recipe, seeds: tuple[int, ...], forged: tuple[str, ...]) -> Scores:
    """Held-out scores of the recipe's own choices."""
    return trials.within(demo.sample(*forged, recipe), ["mouth"], recipe, seeds)


def _beside(
    axis: str,
    own: str,
    found: Scores,
    recipe: Recipe,
    seeds: Sequence[int],
    forged: tuple[str, ...] = FORGED,
) -> Scores:
    """Scores under other choices, after those of the recipe's own by the name it has here."""
    here = _standard(recipe, tuple(seeds), forged)
    return replace(
        here,
        views={own: here.views["mouth"], **found.views},
        thresholds={own: here.thresholds["mouth"], **found.thresholds},
        title=f"{here.title}: {axis.replace('-', ' ')}",
        seconds=here.seconds + found.seconds,
    )


# By the name of its record.
EXPERIMENTS: dict[str, Callable[..., Scores]] = {
    **{f"ablation-{axis}": partial(changed, axis) for axis in AXES},
    "ablation-people": fewer_people,
    "ablation-frames": fewer_pictures,
}
