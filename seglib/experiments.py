"""What the demo measures, by name: on held-out people, on other people; controls and ablations.

The protocol mirrors the paper's claim of generalising without target data: one set of people and
one way of forging to train on, another set and another way to test on. Taught in chapters 03 to
07.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from joblib import Parallel, delayed
from scipy import special
from tqdm import tqdm

from seglib import ablation, audit, demo, media, robustness, simulation, training, trials
from seglib.demo import Sample
from seglib.errors import unknown_name
from seglib.evaluation import Scores
from seglib.extraction import Extractor
from seglib.metrics import Interval, share
from seglib.recipe import Recipe
from seglib.training import SEEDS

SETS = 1000  # simulated data sets: a share of them has a standard error of 0.7 points near 95 %
CERTAIN = 1 - 2**-25  # stands for 1; single precision, in which it is kept, ends before this
PARTS = ("mouth", "eyes", "brows", "nose", "skin")  # parts with tokens of their own
VIEWS = (*PARTS, "all", "cls")
WITHIN = (
    ("orl", "mouth", "poisson"),
    ("orl", "eyes", "poisson"),
    ("csu", "mouth", "feathered"),
    ("csu", "eyes", "feathered"),
)
# Trained on one collection and one blend, tested on the other: other people, another camera,
# another way of forging, as FaceForensics++ stands to Celeb-DF in the protocol we chose.
TRANSFERS = (
    (("orl", "mouth", "poisson"), ("csu", "mouth", "feathered")),
    (("orl", "mouth", "poisson"), ("csu", "mouth", "self-blend")),
    (("csu", "mouth", "feathered"), ("orl", "mouth", "poisson")),
    (("orl", "mouth", "poisson"), ("csu", "mouth", "poisson")),
)
# Where tokens are counted, and what choosing them says of a picture without any probe, ``(N,)``.
# The parser has no confidence in a face that it did not label: it abstains.
FORGED = {"orl": (*WITHIN[:2], ("orl", "nose", "poisson")), "csu": WITHIN[2:]}
SELECTION: dict[str, tuple[str, Callable[[Sample], np.ndarray]]] = {
    "token-counts": (
        "number of the forged part's tokens",
        lambda sample: sample.descriptors.tokens(sample.part),
    ),
    "parser-confidence": ("the parser's confidence", lambda sample: _log_odds(sample)),
}


def views_of(part: str) -> list[str]:
    """The views of an experiment in which a part was forged, that part's first."""
    return [part, *(view for view in VIEWS if view != part)]


def _held_out(names: Sequence[str], recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    here = demo.sample(*names, recipe)
    return trials.within(here, [*views_of(here.part), f"random {here.part}"], recipe, seeds)


def _transferred(
    source: Sequence[str],
    target: Sequence[str],
    recipe: Recipe,
    seeds: Sequence[int] = SEEDS,
) -> Scores:
    train, test = demo.sample(*source, recipe), demo.sample(*target, recipe)
    return trials.across(train, test, views_of(train.part), recipe, seeds)


def _shuffled(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """Labels dealt out anew inside each group: what is still found is a leak."""
    here, rng = demo.sample(*WITHIN[0], recipe), np.random.default_rng(recipe.seed)
    dealt = trials.dealt(here.labels, here.groups, rng)
    return trials.within(
        replace(here, labels=dealt, name="shuffled labels"), [here.part], recipe, seeds
    )


def _selected(control: str, dataset: str, recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """One of `SELECTION` in place of a probe: what the choice of tokens alone gives away."""
    del seeds  # nothing is trained
    title, measured = SELECTION[control]
    samples = [demo.sample(*names, recipe) for names in FORGED[dataset]]
    return Scores(
        samples[0].labels,
        samples[0].groups,
        {f"{one.part} forged": measured(one) for one in samples},
        items=samples[0].items,
        ordinal=True,
        title=f"{dataset}: {title}",
    )


def _log_odds(sample: Sample) -> np.ndarray:
    """How sure the parser is of each face, so that also near certainty two differ visibly."""
    return special.logit(sample.descriptors.sure.astype(float).clip(max=CERTAIN))


def _protocol(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> dict[str, float]:
    """Two numbers that must be nought."""
    return {
        "people-on-both-sides.count": _on_both_sides(recipe, seeds),
        "encoder-changes.count": _changes_to_the_encoder(recipe),
    }


def _on_both_sides(recipe: Recipe, seeds: Sequence[int]) -> int:
    """How many people were both trained and tested on, over all splits of all experiments."""
    both = 0
    audited = [(audit.DATASET, part, audit.BLEND) for part in audit.FORGED]
    for names in dict.fromkeys([*WITHIN, *audited]):
        here, shown = demo.sample(*names, recipe), _shown(names, recipe)
        dealt = {*seeds, *audit.SEEDS} if names in audited else seeds
        for folds in training.outer_folds(here.labels, here.groups, recipe, sorted(dealt)):
            for fold in np.unique(folds):
                learned, tested = shown[folds != fold], shown[folds == fold]
                both += len(np.intersect1d(learned, tested))
    for source, target in TRANSFERS:
        both += len(np.intersect1d(_shown(source, recipe), _shown(target, recipe)))
    return both


def _changes_to_the_encoder(recipe: Recipe) -> int:
    """How many of its weights are other ones after a picture was encoded and a probe trained."""
    here, chain = demo.sample(*WITHIN[0], recipe), Extractor(recipe)
    weights = chain.backbone.model.state_dict()
    before = {name: values.clone() for name, values in weights.items()}
    chain([media.read_image(demo.people(WITHIN[0][0], recipe.seed).path.iloc[0])])
    training.fit(here.descriptors.view(here.part), here.labels, here.groups, recipe)
    return sum(int((before[name] != values).sum()) for name, values in weights.items())


def _shown(names: Sequence[str], recipe: Recipe) -> np.ndarray:
    """The two people of each item of a sample, ``(N, 2)``: whose picture it is, who lends."""
    table = demo.people(names[0], recipe.seed)
    lender = table.person if names[2] == "self-blend" else table.partner
    return np.array([(*table.person, *table.person), (*table.person, *lender)]).T


def _simulated(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> dict[str, Interval]:
    """How often intervals hold the truth, where it is known; and the false alarms of pairs."""
    del recipe, seeds
    kinds, starts = ("expanded", "naive DeLong"), range(0, SETS, SETS // 10)
    sets = {"design": simulation.Design(), "sets": SETS // 10}
    jobs = [delayed(simulation.coverage)(**sets, seed=at, intervals=kinds) for at in starts]
    jobs += [delayed(simulation.false_positives)(**sets, seed=at) for at in starts]
    done = Parallel(n_jobs=-1, return_as="generator")(jobs)
    found = list(tqdm(done, "simulating", len(jobs), unit="part", leave=False))
    covered = np.mean([table.covered for table in found[:10]], 0)
    return {
        "couples-clustered.covered": share(round(covered[0] * SETS), SETS),
        "couples-naive.covered": share(round(covered[1] * SETS), SETS),
        "couples-paired.false-positives": share(round(np.mean(found[10:]) * SETS), SETS),
    }


def record_name(*cases: Sequence[str]) -> str:
    """``"orl-mouth-poisson"``; of two, what was trained on and what was tested on."""
    return "--".join("-".join(case) for case in cases)


# Everything that the demo measures, by the name of its record.
EXPERIMENTS: dict[str, Callable[..., Scores | Mapping]] = {
    **{record_name(names): partial(_held_out, names) for names in WITHIN},
    **{record_name(*pair): partial(_transferred, *pair) for pair in TRANSFERS},
    "shuffled-labels": _shuffled,
    **{
        f"{control}-{dataset}": partial(_selected, control, dataset)
        for control in SELECTION
        for dataset in FORGED
    },
    "protocol": _protocol,
    "simulation": _simulated,
    **ablation.EXPERIMENTS,
    **audit.EXPERIMENTS,
    **robustness.EXPERIMENTS,
}


def run(name: str, recipe: Recipe, seeds: Sequence[int] | None = None) -> Scores | Mapping:
    """One of the `EXPERIMENTS`: its scores, or numbers that come from none.

    seeds are those of the folds of people. Default: the experiment's own.

    Raises
    ------
    UnknownName
    """
    if name not in EXPERIMENTS:
        raise unknown_name("experiment", name, EXPERIMENTS)
    return EXPERIMENTS[name](recipe) if seeds is None else EXPERIMENTS[name](recipe, seeds)
