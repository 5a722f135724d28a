"""Is the attribution true? What a part's tokens know of the other parts, and what they do not.

A token of the mouth has attended to the whole face before it is kept, so that a verdict read from
the mouth's tokens is not yet one read from the mouth's pixels. The audit asks, with forgeries whose
region is known and under both encodings: what a part's tokens tell when another part was forged
(*leakage*), what happens to its score when pixels elsewhere are replaced, and whether the highest
score names the forged part. Taught in chapter 05.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations, compress, permutations

import numpy as np
from tqdm import tqdm

from seglib import (
    alignment,
    counterfactual,
    demo,
    indexing,
    localisation,
    media,
    metrics,
    regions,
    training,
    trials,
)
from seglib.counterfactual import CHANGES
from seglib.descriptors import Descriptors
from seglib.evaluation import Scores
from seglib.faces import Crop
from seglib.metrics import Interval
from seglib.recipe import Recipe
from seglib.results import ISOLATED

DATASET, BLEND = "orl", "poisson"
FORGED = ("mouth", "eyes", "nose")  # what was forged, and whose probes compete to name it
PARTS = demo.ISOLATED  # whose tokens are read
SEEDS = (0, 1, 2, 3, 4)
ENCODINGS = {"contextual": "", "isolated": ISOLATED}  # and what their views' names begin with


@dataclass(frozen=True)
class Case:
    """Bona fide pictures and forgeries of several parts of them.

    labels ``(N,)`` with 1 = fake, groups ``(N,)``, items ``(N,)`` a name for each, forged ``(N,)``
    which part was forged, empty for a bona fide picture. views: by name the descriptors that
    probes are trained on, ``(N, W)``, NaN where there is none.
    """

    name: str
    labels: np.ndarray
    groups: np.ndarray
    items: np.ndarray
    forged: np.ndarray
    views: Mapping[str, np.ndarray]

    def scores(
        self,
        trained_on: str,
        views: Sequence[str],
        recipe: Recipe,
        seeds: Sequence[int] = SEEDS,
    ) -> Scores:
        """What probes say of every picture that learned one kind of forgery, from other people.

        Parameters
        ----------
        trained_on : str
            The part whose forgeries, beside the bona fide pictures, are learned from.
        views : sequence of str
        """
        learned = np.isin(self.forged, ("", trained_on))
        wanted = {view: self.views[view] for view in views}
        return trials.held_out(self, wanted, recipe, seeds, learned)

    def tested_on(self, scores: Scores, part: str, views: Sequence[str] | None = None) -> Scores:
        """The same scores, of the bona fide pictures and the forgeries of one part alone."""
        rows = np.isin(self.forged, ("", part))
        views = scores.views if views is None else views
        return replace(
            scores,
            labels=scores.labels[rows],
            groups=scores.groups[rows],
            items=scores.items[rows],
            probes=scores.probes[:, rows],
            views={view: scores.views[view][:, rows] for view in views},
            thresholds={view: scores.thresholds[view] for view in views},
            title=f"{scores.title}: {part} forged",
        )

    def extended(self, rows: np.ndarray, views: Mapping[str, np.ndarray]) -> Case:
        """Some pictures once more, changed: how often follows from the views' rows.

        The changed ones are never learned from.
        """
        copies = len(next(iter(views.values()))) // len(rows)
        again = np.tile(rows, copies)
        return Case(
            f"{self.name}, changed",
            np.concatenate([self.labels, self.labels[again]]),
            np.concatenate([self.groups, self.groups[again]]),
            np.arange(len(self.labels) + len(again)).astype(str),
            np.concatenate([self.forged, np.full(len(again), "changed")]),
            {view: np.concatenate([self.views[view], made]) for view, made in views.items()},
        )


def view_name(part: str, encoding: str) -> str:
    """How the view of a part is called: ``"mouth"``, or ``"isolated mouth"``."""
    return ENCODINGS[encoding] + part


@cache
def case(recipe: Recipe) -> Case:
    """The demo's: ORL's people and a Poisson blend of each of the parts in `FORGED`.

    Its views are each part under both encodings, all patches, and the controls: as many tokens
    from anywhere (``"random mouth"``), and all in the part's bounding box (``"box mouth"``), which
    was made for the mouth alone and abstains elsewhere.
    """
    made = {part: demo.sample(DATASET, part, BLEND, recipe) for part in FORGED}
    first, count = made[FORGED[0]], int((made[FORGED[0]].labels == 0).sum())
    views = {view: _stacked(view, made, count) for view in ("all", *_kinds(*PARTS))}
    for part in PARTS:
        alone = recipe.but(encoding="isolated", region=part)
        own = {forged: demo.sample(DATASET, forged, BLEND, alone) for forged in FORGED}
        views |= {ISOLATED + view: _stacked(view, own, count) for view in _kinds(part)}
    box = {
        "mouth": demo.sample(DATASET, "mouth", BLEND, recipe.but(patch_rule="box", region="mouth"))
    }
    views["box mouth"] = _stacked("mouth", box, count)
    return Case(
        DATASET,
        np.repeat([0, 1], [count, count * len(FORGED)]),
        np.tile(first.groups[:count], 1 + len(FORGED)),
        np.concatenate([first.items[:count], *(_items(one, part) for part, one in made.items())]),
        np.repeat(["", *FORGED], count),
        views,
    )


def _kinds(*parts: str) -> list[str]:
    """Each part's own tokens, and as many from anywhere."""
    return [kind + part for part in parts for kind in ("", "random ")]


def _stacked(view: str, made: Mapping[str, demo.Sample], count: int) -> np.ndarray:
    """A view of the bona fide pictures, then of each part's forgeries; NaN where none were made."""
    rows = {part: sample.descriptors.view(view) for part, sample in made.items()}
    real = next(iter(rows.values()))[:count]
    absent = np.full_like(real, np.nan)
    fakes = [rows[part][count:] if part in rows else absent for part in FORGED]
    return np.concatenate([real, *fakes])


def _items(sample: demo.Sample, part: str) -> list[str]:
    return [f"{item} {part}" for item in sample.items[sample.labels == 1]]


# -- part x forged part ------------------------------------------------------------------------


@cache
def trained(recipe: Recipe, part: str, seeds: tuple[int, ...]) -> Scores:
    """Scores of all pictures by probes that learned one part's forgeries, with the controls."""
    of = (part, *(one for one in PARTS if one != part), f"random {part}")
    views = [view_name(one, encoding) for one in of for encoding in ENCODINGS]
    if part == "mouth":
        views.append("box mouth")
    return case(recipe).scores(part, views, recipe, seeds)


def matrix(part: str, recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """One column of the matrix: every part's tokens where one part was forged, and the controls.

    The probes have learned just this forgery. What they find with the tokens of another part is
    leakage, as far as that part's patches hold no forged pixel, see `touched`. The crop and the
    label map are made anew for each picture, so that a little may come through them.
    """
    return case(recipe).tested_on(trained(recipe, part, tuple(seeds)), part)


def elsewhere(learned: str, forged: str, recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """What a part's own model says where another part was forged."""
    views = [view_name(learned, encoding) for encoding in ENCODINGS]
    found = case(recipe).tested_on(trained(recipe, learned, tuple(seeds)), forged, views)
    return replace(found, title=f"{DATASET}: {learned} forged → {forged} forged")


def shuffled(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> Scores:
    """The control of the matrix: labels dealt out anew inside each couple, forged mouths."""
    known, rng = case(recipe), np.random.default_rng(recipe.seed)
    rows = np.isin(known.forged, ("", "mouth"))
    dealt = trials.dealt(known.labels, known.groups, rng, rows)
    views = [view_name(part, encoding) for part in FORGED for encoding in ENCODINGS]
    other = replace(known, labels=dealt, name="shuffled labels")
    return other.tested_on(other.scores("mouth", views, recipe, seeds), "mouth")


def touched(recipe: Recipe, seeds: Sequence[int] = ()) -> dict[str, Interval]:
    """Which share of a part's kept patches holds forged pixels: ``FORGED-PART.touched``.

    Of one picture of each couple. Nothing is trained.
    """
    del seeds
    extractor, asked = demo.networks(recipe), _few(recipe)
    groups, found = demo.people(DATASET, recipe.seed).group[asked].to_numpy(), {}
    for forged in FORGED:
        crops, masks = zip(*_cropped(recipe, forged, asked), strict=True)
        grid = extractor.backbone.grid(crops)
        share = localisation.forged_share(np.stack(masks), grid)
        labels = indexing.patch_labels(extractor.parser(crops), grid)
        for part in PARTS:
            own = np.isin(labels, regions.part_ids(part))
            with np.errstate(invalid="ignore"):  # a part without a patch abstains: 0 / 0
                hit = (own & (share > 0)).sum((1, 2)) / own.sum((1, 2))
            if not np.isnan(hit).all():
                found[f"{forged}-{part}.touched"] = _mean(hit, groups)
    return found


# Over those that have a value under every seed; coverage says how many.
_mean = partial(metrics.mean, abstained="dropped")


# -- counterfactuals ---------------------------------------------------------------------------


def counterfactuals(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> dict[str, Interval]:
    """How far the mouth's score moves when pixels outside its patches, or inside, are replaced.

    One picture of each couple and its forgery; which patches are kept stays as it was, and the
    other face is the partner's, bona fide, whom the probe has not met either.
    ``ENCODING-SIDE-HOW.moved`` is the mean distance between the scores before and after, in
    standard deviations of these scores before; ``.fakes`` and ``.reals`` are the mean shifts of the
    forgeries and of the originals, which have the same seam;
    ``ENCODING-outside-less-inside-HOW.moved`` is the paired difference of two distances.
    """
    known, made = case(recipe), _changed_mouths(recipe)
    asked = np.tile(_few(recipe), 1 + len(FORGED))
    rows = np.flatnonzero(asked & np.isin(known.forged, ("", "mouth")))
    fake, groups = known.labels[rows] == 1, known.groups[rows]
    found = {}
    for encoding in ENCODINGS:
        view = view_name("mouth", encoding)
        both = known.extended(rows, {view: made[view]})
        scores = both.scores("mouth", [view], recipe, seeds).views[view]
        before = scores[:, rows]
        after = scores[:, len(known.labels) :].reshape(len(scores), len(CHANGES), len(rows))
        shifts = (after - before[:, None]) / np.nanstd(before, axis=1)[:, None, None]
        moved = {}
        for change, shift in zip(CHANGES, shifts.swapaxes(0, 1), strict=True):
            key, moved[change] = "-".join((encoding, *change)), np.abs(shift)
            found[f"{key}.moved"] = _mean(moved[change], groups)
            found[f"{key}.fakes"] = _mean(shift[:, fake], groups[fake])
            found[f"{key}.reals"] = _mean(shift[:, ~fake], groups[~fake])
        for how in counterfactual.SUBSTITUTES:
            less = moved["outside", how] - moved["inside", how]
            found[f"{encoding}-outside-less-inside-{how}.moved"] = _mean(less, groups)
    return found


def _few(recipe: Recipe) -> np.ndarray:
    """Which pictures are taken where each costs much: the first of each couple."""
    return ~demo.people(DATASET, recipe.seed).group.duplicated().to_numpy()


def _changed_mouths(recipe: Recipe) -> dict[str, np.ndarray]:
    """The mouth's descriptors after each of `CHANGES`, by view: bona fide, then forged, of each."""
    alone = recipe.but(encoding="isolated", region="mouth")
    made_by = (counterfactual, _few, _cropped, _lent, _changed, _changed_mouths)

    def describe(recipes: Sequence[Recipe]) -> list[Descriptors]:
        extractor, asked = demo.networks(recipe), _few(recipe)
        crops = [one for part in ("", "mouth") for one, _ in _cropped(recipe, part, asked)]
        others = _lent(recipe, asked) * 2
        parsed = extractor.parser.parse(crops)
        kept = indexing.keep(parsed[0], extractor.backbone.grid(crops), "mouth")
        side, step = extractor.backbone.patch, extractor.batch
        inside = kept.repeat(side, 1).repeat(side, 2)
        rows, rng = [], np.random.default_rng(recipe.seed)
        for change in tqdm(CHANGES, "counterfactuals", unit="change", leave=False):
            trios = zip(crops, others, inside, strict=True)
            made = [_changed(*trio, *change, rng) for trio in trios]
            for some in (slice(at, at + step) for at in range(0, len(crops), step)):
                seeds = [(recipe.seed, i) for i in range(len(crops))[some]]
                same = tuple(one[some] for one in parsed)
                rows.append(extractor.describe(made[some], seeds, recipes, same))
        return [Descriptors.joined(several) for several in zip(*rows, strict=True)]

    return {
        view_name("mouth", encoding): demo.kept(
            f"{DATASET}-mouth-{BLEND}-changed", decided, describe, [recipe, alone], made_by
        ).view("mouth")
        for encoding, decided in (("contextual", recipe), ("isolated", alone))
    }


def _lent(recipe: Recipe, asked: np.ndarray) -> list[np.ndarray]:
    """Another face for each picture asked for: the last one of the couple's other person."""
    table = demo.people(DATASET, recipe.seed)
    last = ~table.group.duplicated("last").to_numpy()
    crops = [crop.image for crop, _ in _cropped(recipe, "", last)]
    of = dict(zip(table.group[last], crops, strict=True))
    return [of[group] for group in table.group[asked]]


def _changed(
    crop: Crop,
    other: np.ndarray,
    inside: np.ndarray,
    side: str,
    how: str,
    rng: np.random.Generator,
) -> Crop:
    """A crop with the pixels of one side replaced."""
    where = inside if side == "inside" else ~inside
    return replace(crop, image=counterfactual.substituted(crop.image, where, how, rng, other))


def _cropped(recipe: Recipe, part: str, asked: np.ndarray) -> Iterator[tuple[Crop, np.ndarray]]:
    """Crops of the pictures asked for, or of their forgeries, and the forged pixels of each."""
    extractor = demo.networks(recipe)
    if part:
        forged = demo.forge(DATASET, part, BLEND, extractor.detector, recipe.seed)
        made = ((one.image, one.mask) for one in compress(forged, asked))
    else:
        images = map(media.read_image, demo.people(DATASET, recipe.seed).path[asked])
        made = ((image, np.zeros(image.shape[:2], bool)) for image in images)
    for image, mask in made:
        crop = extractor.crop(image)
        moved = alignment.warp(mask.astype(np.uint8) * 255, crop.matrix, recipe.crop_size)
        yield crop, moved > 127


# -- localisation ------------------------------------------------------------------------------


def localised(recipe: Recipe, seeds: Sequence[int] = SEEDS) -> dict[str, Interval]:
    """Does the part with the highest score name what was forged, and does it lie there?

    Each part's score comes from its own model. ``ENCODING.named`` is how often the highest is the
    forged part's, over all forgeries; ``ENCODING-PART.named`` over those of one part. What begins
    with ``few-`` is of one picture of each couple, where the part scores have rivals: the gradient
    of a probe on all patches that has learned all three forgeries, and chance. All may choose among
    the patches of the three parts; the overlap takes as many as the forged part has.
    """
    known = case(recipe)
    models = [trained(recipe, part, tuple(seeds)) for part in FORGED]
    fakes = np.flatnonzero(known.labels)
    forged = np.array([FORGED.index(part) for part in known.forged[fakes]])
    groups, found, scores, hits = known.groups[fakes], {}, {}, {}
    for encoding in ENCODINGS:
        own = [one.views[view_name(p, encoding)] for p, one in zip(FORGED, models, strict=True)]
        scores[encoding] = np.stack(own, -1)[:, fakes]  # seeds, forgeries, parts
        hits[encoding] = np.stack([localisation.named(one, forged) for one in scores[encoding]])
        found[f"{encoding}.named"] = _mean(hits[encoding], groups)
        for i, part in enumerate(FORGED):
            of = forged == i
            found[f"{encoding}-{part}.named"] = _mean(hits[encoding][:, of], groups[of])
    lead = hits["contextual"] - hits["isolated"]
    found["contextual-over-isolated.named"] = _mean(lead, groups)
    few = np.tile(_few(recipe), len(FORGED))
    shown = {encoding: several[:, few] for encoding, several in scores.items()}
    for measure, by_map in _pointed(recipe, shown, groups[few], forged[few]).items():
        for name, values in by_map.items():
            found[f"few-{name}.{measure}"] = _mean(values, groups[few])
        for one, other in combinations(by_map, 2):
            lead = by_map[one] - by_map[other]
            found[f"few-{one}-over-{other}.{measure}"] = _mean(lead, groups[few])
    return found


def _pointed(
    recipe: Recipe, scores: Mapping[str, np.ndarray], groups: np.ndarray, forged: np.ndarray
) -> dict[str, dict[str, np.ndarray]]:
    """Measure -> map -> its values ``(S, n)``; scores are those of the parts, ``(S, n, 3)``."""
    extractor, asked = demo.networks(recipe), _few(recipe)
    seen = [one for part in FORGED for one in _cropped(recipe, part, asked)]
    crops, masks = [crop for crop, _ in seen], np.stack([mask for _, mask in seen])
    grid = extractor.backbone.grid(crops)
    labels = indexing.patch_labels(extractor.parser(crops), grid)
    share = localisation.forged_share(masks, grid)
    parts = np.stack([np.isin(labels, regions.part_ids(part)) for part in FORGED], 1)
    area = parts.sum((2, 3))[np.arange(len(crops)), forged]
    heats = {
        encoding: [localisation.part_heat(one, FORGED, labels) for one in several]
        for encoding, several in scores.items()
    }
    # The part scores know that one of three parts was forged: so may their rivals.
    among = parts.any(1)
    heats["saliency"] = [np.where(among, _saliency(recipe, crops, groups), -np.inf)]
    heats["chance"] = [np.where(among, 0.0, -np.inf)]
    measures = {
        "named": lambda heat: localisation.named(_hottest(heat, parts), forged),
        "pointing": lambda heat: localisation.pointing(heat, share),
        "overlap": lambda heat: localisation.overlap(heat, share, area),
    }
    return {
        measure: {name: np.stack([of(heat) for heat in several]) for name, several in heats.items()}
        for measure, of in measures.items()
    }


def _hottest(heat: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Mean heat of the patches of each part, ``(B, 3)``; heat ``(B, gh, gw)``, parts bool."""
    with np.errstate(invalid="ignore"):  # a part without a patch abstains: 0 / 0
        return np.where(parts, heat[:, None], 0).sum((2, 3)) / parts.sum((2, 3))


def _saliency(recipe: Recipe, crops: Sequence[Crop], groups: np.ndarray) -> np.ndarray:
    """Gradients of probes on all patches that never met the person, ``(B, gh, gw)``; one seed."""
    known, extractor = case(recipe), demo.networks(recipe)
    folds = training.outer_folds(known.labels, known.groups, recipe, [recipe.seed])[0]
    tested_in = dict(zip(known.groups, folds, strict=True))
    whose = np.array([tested_in[group] for group in groups])
    heat = np.empty((len(crops), *extractor.backbone.grid(crops)), np.float32)
    bar = tqdm(total=len(crops), desc="saliency", unit="picture", leave=False)
    for fold in np.unique(whose):
        rows, there = folds != fold, np.flatnonzero(whose == fold)
        probe = training.fit(
            known.views["all"][rows], known.labels[rows], known.groups[rows], recipe, recipe.seed
        )
        for some in np.array_split(there, -(-len(there) // extractor.batch)):
            pixels = extractor.backbone.pixels([crops[i] for i in some])
            heat[some] = localisation.saliency(extractor.backbone, pixels, probe.direction)
            bar.update(len(some))
    bar.close()
    return heat


# By the name of its record.
EXPERIMENTS: dict[str, Callable[..., Scores | Mapping[str, Interval]]] = {
    **{f"audit-{DATASET}-{part}": partial(matrix, part) for part in FORGED},
    **{
        f"audit-{DATASET}-{one}--{DATASET}-{other}": partial(elsewhere, one, other)
        for one, other in permutations(FORGED, 2)
    },
    "audit-shuffled": shuffled,
    "audit-touched": touched,
    "counterfactuals": counterfactuals,
    "localisation": localised,
}
