"""Pictures -> descriptors: the whole chain in batches, with a ledger of what was dropped and why.

detect, align and crop (`faces`), label map (`parsing`), tokens (`backbones`), patch labels and
sums (`indexing`). A picture without a usable face is recorded with its reason; it never stops
the batch and never becomes a score. Taught in chapter 02.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seglib import backbones, faces, indexing, parsing
from seglib.errors import SeglibError, unknown_name
from seglib.faces import Crop
from seglib.recipe import Recipe
from seglib.regions import LABELS, PARTS

BATCH = 8  # crops that travel through the encoder together


class DamagedDescriptors(SeglibError):
    """A file of descriptors is cut, or is none."""


@dataclass(frozen=True)
class Descriptors:
    """What is kept of N pictures. Any union of parts can be recombined from it exactly.

    sums ``(N, 11, D)`` and counts ``(N, 11)``: tokens of each label added up, and how many.
    random ``(N, 11, D)``: the same with the labels at random patches, see `indexing.shuffled`.
    cls ``(N, D)``. reasons ``(N,)`` str: why a row is missing (its values are NaN and its
    counts 0), or an empty string.
    """

    sums: np.ndarray
    counts: np.ndarray
    random: np.ndarray
    cls: np.ndarray
    reasons: np.ndarray

    def __len__(self) -> int:
        return len(self.reasons)

    def view(self, name: str) -> np.ndarray:
        """One descriptor a picture, ``(N, D)`` with NaN rows where there is none.

        Parameters
        ----------
        name : str
            A part of `regions.PARTS` (``"all"`` is the mean of all patches), ``"cls"``, or
            ``"random mouth"``: as many tokens as the mouth has, from anywhere.
        """
        if name == "cls":
            return self.cls
        sums = self.random if name.startswith("random ") else self.sums
        part = name.removeprefix("random ")
        if part not in PARTS:
            raise unknown_name("view", name, ["cls", *PARTS, *(f"random {p}" for p in PARTS)])
        return indexing.part_mean(sums, self.counts, part)[0]

    def save(self, path: Path) -> None:
        """Write an ``.npz`` without pickle; whole or not at all, also when killed midway."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Descriptors:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
        DamagedDescriptors
            The file is cut, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(*(stored[f.name] for f in fields(cls)))
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
            raise DamagedDescriptors(
                f"{path} holds no whole set of descriptors ({error}); expected what "
                "Descriptors.save writes. Delete it; it will be computed again."
            ) from error

    @classmethod
    def missing(cls, reasons: Sequence[str], width: int) -> Descriptors:
        """Rows of NaN and zero counts, each with its reason, for an encoder of that width."""
        nothing = np.full((len(reasons), len(LABELS), width), np.nan, np.float32)
        counts = np.zeros((len(reasons), len(LABELS)), np.int64)
        return cls(nothing, counts, nothing, nothing[:, 0], np.array(reasons, dtype=str))

    @classmethod
    def joined(cls, several: Iterable[Descriptors]) -> Descriptors:
        """Rows of all, one after the other."""
        columns = zip(*([getattr(d, f.name) for f in fields(cls)] for d in several), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


class Extractor:
    """The three networks of a recipe, loaded once, and the chain through them."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.detector = faces.load(recipe.detector)
        self.parser = parsing.load(recipe.parser)
        self.backbone = backbones.load(recipe.backbone)

    def crop(self, image: np.ndarray) -> Crop:
        """The upright crop of the largest face of a ``(H, W, 3)`` uint8 picture.

        Raises
        ------
        seglib.faces.NoFace, seglib.faces.FaceTooSmall
        """
        face = faces.largest(image, self.detector)
        return faces.crop(image, face, self.recipe.input_size, self.recipe.crop_scale)

    def describe(self, crops: Sequence[Crop], places: Sequence[int]) -> Descriptors:
        """Descriptors of one batch of crops.

        A crop's place among all pictures seeds its random control, so that it stays the same
        whatever the other pictures are.
        """
        tokens = self.backbone(crops)
        labels = indexing.patch_labels(self.parser(crops), tokens.grid)
        sums, counts = indexing.label_sums(tokens.patches, labels)
        dealt = [
            indexing.shuffled(one[None], np.random.default_rng((self.recipe.seed, place)))
            for one, place in zip(labels, places, strict=True)
        ]
        random, _ = indexing.label_sums(tokens.patches, np.concatenate(dealt))
        reasons = np.full(len(crops), "")
        return Descriptors(sums, counts, random, tokens.cls.numpy(), reasons)

    def __call__(
        self,
        pictures: Iterable[np.ndarray | SeglibError],
        total: int | None = None,
        label: str = "pictures",
    ) -> Descriptors:
        """Descriptors of many pictures, one row each, in their order, with a progress bar.

        An item may be an error that a reader recorded (`media.read_all`): its row says so.
        """
        width, rows = self.backbone.width, []
        waiting: list[tuple[int, Crop]] = []

        def encode() -> None:
            places, crops = zip(*waiting, strict=True)
            for place, row in zip(places, _rows(self.describe(crops, places)), strict=True):
                rows[place] = row
            waiting.clear()

        for picture in tqdm(pictures, label, total, unit="picture", leave=False):
            rows.append(None)
            try:
                if isinstance(picture, SeglibError):
                    raise picture
                waiting.append((len(rows) - 1, self.crop(picture)))
            except SeglibError as error:
                rows[-1] = Descriptors.missing([f"{type(error).__name__}: {error}"], width)
            if len(waiting) == BATCH:
                encode()
        if waiting:
            encode()
        # Beginning with no rows: no picture at all is no error either.
        return Descriptors.joined([Descriptors.missing([], width), *rows])


def _rows(batch: Descriptors) -> Iterator[Descriptors]:
    for i in range(len(batch)):
        yield Descriptors(*(getattr(batch, f.name)[i : i + 1] for f in fields(batch)))
