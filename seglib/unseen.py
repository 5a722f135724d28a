"""What in its training helps a probe against forgeries of a kind it has never met.

Probes learn from one of the demo's two collections and are tested on the other: other people,
another camera, and whole faces swapped, which only the probes of one control were taught. One
decision of `zeroshot` is changed at a time, everything else stays. Taught in chapter 06.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import permutations, product

import numpy as np
from tqdm import tqdm

from seglib import demo, evaluation, panel, results, trials, zeroshot
from seglib import recipe as recipes
from seglib.demo import Sample
from seglib.evaluation import Scores
from seglib.recipe import Recipe
from seglib.training import SEEDS

TESTED = ("poisson", "feathered")  # whole faces, in two blends


@dataclass(frozen=True)
class Training:
    """What is decided before a probe is trained: the defaults are what `zeroshot.train` does.

    changed: fields of the recipe, and their values.
    """

    taught: tuple[str, ...] = zeroshot.TAUGHT
    treated: bool = True
    draws: int = zeroshot.DRAWS
    changed: tuple[tuple[str, object], ...] = ()


OWN = Training()


def _changing(**fields: object) -> Training:
    return Training(changed=tuple(fields.items()))


# By decision and alternative, what is trained; the first is what the panel does.
AXES: Mapping[str, Mapping[str, Training]] = {
    "taught": {
        "both": OWN,
        "self-blends": Training(taught=("mismatch",)),
        "eigenfaces": Training(taught=("recoded",)),
        "swaps": Training(taught=("poisson",)),
    },
    "treatment": {"treated": OWN, "untouched": Training(treated=False)},
    "draws": {"twice": OWN, "once": Training(draws=1)},
    "layer": {"block 9": OWN, "block 12": _changing(layer=-1), "block 6": _changing(layer=-7)},
    "penalty": {
        "strong": OWN,
        "stronger": _changing(c_grid=(1e-4,)),
        "weak": _changing(c_grid=(1.0,)),
    },
    "conditioning": {
        "none": OWN,
        "standardise": _changing(conditioning="standardise"),
        "layernorm": _changing(conditioning="layernorm"),
    },
}


def changed(axis: str, recipe: Recipe | None = None, seeds: Sequence[int] = SEEDS) -> Scores:
    """What the parts say together under each alternative of one of the `AXES`, as views.

    Items are all bona fide pictures and their swaps, each scored by probes of the other collection.
    """
    recipe = recipe or recipes.panel()
    bar = tqdm(AXES[axis].items(), axis, unit="training", leave=False)
    found = {name: _tested(training, recipe, tuple(seeds)) for name, training in bar}
    first = next(iter(found.values()))
    return replace(
        first,
        views={name: one.views[panel.OVERALL] for name, one in found.items()},
        title=f"faces of other people swapped: {axis}",
        seconds=sum(one.seconds for one in found.values()),
    )


@cache  # every axis asks for the panel's own
def _tested(training: Training, recipe: Recipe, seeds: tuple[int, ...]) -> Scores:
    """Scores of both collections, each by probes of the other."""
    decided = recipe.but(**dict(training.changed))
    both = [
        _across(_taught(source, training, decided), target, decided, seeds)
        for source, target in permutations(demo.DATASETS, 2)
    ]
    names = ("labels", "groups", "items", "methods")
    scores = [one.views[panel.OVERALL] for one in both]
    return Scores(
        **{name: np.concatenate([vars(one)[name] for one in both]) for name in names},
        views={panel.OVERALL: np.hstack(scores)},
        probes=np.hstack([np.full(one.shape, probe) for probe, one in enumerate(scores)]),
        seconds=sum(one.seconds for one in both),
    )


def _taught(dataset: str, training: Training, recipe: Recipe) -> Sample:
    """All that is learned from."""
    made = product(training.taught, range(training.draws))
    return Sample.joined(
        [zeroshot.in_the_wild(dataset, how, recipe, draw, training.treated) for how, draw in made]
    )


def _across(train: Sample, target: str, recipe: Recipe, seeds: Sequence[int]) -> Scores:
    """The parts' mean log-odds for the bona fide pictures of a collection and for its swaps."""
    several = [zeroshot.in_the_wild(target, method, recipe) for method in TESTED]
    test = Sample.joined(several)
    found = trials.across(train, test, panel.PARTS, recipe, seeds)
    methods = np.repeat(TESTED, [len(one.labels) for one in several])
    fake = test.labels == 1
    once = fake | (methods == TESTED[0])  # bona fide pictures are there each time
    return Scores(
        test.labels[once],
        test.groups[once],
        {panel.OVERALL: panel.together(list(found.views.values()))[:, once]},
        items=test.items[once],
        methods=np.where(fake, methods, "")[once],
        seconds=found.seconds,
    )


# By the name of its record.
EXPERIMENTS: dict[str, Callable[..., Scores]] = {
    f"unseen-{axis}": partial(changed, axis) for axis in AXES
}


def publish() -> None:
    """Measure all of them and keep the records, as `make probes` does beside training the panel.

    Describing the pictures takes long; interrupted, it goes on where it was.
    """
    for name, measured in EXPERIMENTS.items():
        scores = measured()
        results.save(name, scores, recipes.panel(), chapter="06", folder=results.FOLDER)
        print(f"{scores.title}\n{evaluation.verdict(scores.table(next(iter(scores.views))))}\n")
