"""Pictures and videos -> descriptors: the whole chain, with a ledger of what was dropped and why.

detect, choose, align and crop (`faces`), label map (`parsing`), tokens (`backbones`), patch
labels and sums (`indexing`). A frame without a usable face is recorded with its reason; it never
stops the batch and never becomes a score. Taught in chapters 02 and 06.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count, islice, repeat
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from seglib import backbones, devices, faces, files, indexing, parsing, perturbation, video
from seglib.backbones import Preprocessing, Tokens
from seglib.descriptors import Descriptors, Layout
from seglib.errors import SeglibError
from seglib.faces import Crop, Face
from seglib.perturbation import Perturbation
from seglib.recipe import OF_TOKENS, UNTOUCHED, Recipe
from seglib.store import Store

AHEAD = 2  # videos that are decoded while the networks work on another
LOOKING = 8  # videos that are looked for in a store at a time
MASKED = 127  # a mask's pixels are brighter: compressed, they are neither black nor white
MAX_HELD = 1_200_000_000  # bytes of one video's frames, all in memory: 32 of 4K take two thirds
WHOLE = -1  # in place of a frame's index: the whole video could not be read
# What a video was made from that could not be read this time: the next run looks at it again.
ANYTHING = {"stamp": "", "content": ""}


class NoMask(SeglibError):
    """The recipe chooses the face by a mask, and this frame of a fake has none."""


class OtherCrop(SeglibError, ValueError):
    """Recipes that should share one look at a crop differ in what comes before."""


@dataclass
class Frames:
    """The frames of one video, or any pictures, as far as they got; lists of one length.

    rows hold a row of descriptors for each recipe that was asked for. grids are the patch labels
    ``(gh, gw)`` and tokens ``(gh, gw, D)`` of those with a descriptor, by their frame's index, kept
    on request.
    """

    index: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)  # faces in the frame
    chosen: list[Face | None] = field(default_factory=list)
    rows: list[Sequence[Descriptors]] = field(default_factory=list)
    grids: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def ledger(self, uid: str) -> pd.DataFrame:
        """The columns of `store.LEDGER`, a row a frame."""
        nothing = np.full(5, np.nan)
        places = [nothing if f is None else np.array([f.score, *f.box]) for f in self.chosen]
        table = pd.DataFrame(np.reshape(places, (-1, 5)), columns=["score", "x0", "y0", "x1", "y1"])
        return table.assign(video_uid=uid, frame=self.index, faces=self.seen)

    def descriptors(self) -> list[Descriptors]:
        """A row a frame, for each recipe that was asked for."""
        return [Descriptors.joined(rows) for rows in zip(*self.rows, strict=True)]


@dataclass(frozen=True)
class Look:
    """What the networks made of B crops.

    maps ``(B, H, W)`` and labels ``(B, gh, gw)``: of pixels and of patches. For each recipe there
    are descriptors, the members ``(B, K, gh, gw)`` of its sets of patches, and the tokens
    ``(B, gh, gw, D)``, of which under an isolated encoding only the members' mean anything.
    """

    maps: np.ndarray
    labels: np.ndarray
    descriptors: list[Descriptors]
    members: list[np.ndarray]
    patches: list[torch.Tensor]


class Extractor:
    """The three networks of a recipe, loaded once, and the chain through them."""

    def __init__(self, recipe: Recipe, device: str | None = None) -> None:
        self.recipe, self.device = recipe, devices.choose(device)
        self.detector = faces.load(recipe.detector, self.device)
        self.parser = parsing.load(recipe.parser, self.device)
        seen = Preprocessing(recipe.input_size, recipe.resize, recipe.normalisation)
        self.backbone = backbones.load(recipe.backbone, self.device, seen)
        self.batch = devices.batch(self.device, self._trial)

    @property
    def networks(self) -> dict:
        """What was loaded, for the header of a store."""
        return {
            "detector": self.detector.digest,
            "parser": self.parser.digest,
            "backbone": self.backbone.digest,
            "width": self.backbone.width,
            "precision": str(devices.dtype(self.device)).removeprefix("torch."),
        }

    def choosing(self, **changes: str) -> Extractor:
        """The same networks under another `face_choice` or `perturbation`."""
        other = copy.copy(self)
        other.recipe = self.recipe.but(**changes)
        return other

    def crop(self, image: np.ndarray) -> Crop:
        """The upright crop of the largest face of a ``(H, W, 3)`` uint8 picture, as it is.

        A perturbation of the recipe is what `follow` does.

        Raises
        ------
        seglib.faces.NoFace, seglib.faces.FaceTooSmall
        """
        return self._cut(image, faces.largest(image, self.detector))

    def describe(
        self,
        crops: Sequence[Crop],
        seeds: Sequence[Sequence[int]],
        recipes: Sequence[Recipe] = (),
        parsed: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> list[Descriptors]:
        """Descriptors of one batch of crops, under each recipe; see `follow`.

        Parameters
        ----------
        crops : B crops of one size
        seeds : B seeds
            Of the random controls.
        recipes : sequence of Recipe
            Default: its own.
        parsed : tuple, optional
            What `parsing.Parser.parse` said, of these crops or of those whose selection they
            should keep. Default: they are parsed.

        Raises
        ------
        OtherCrop
        """
        return self.look(crops, seeds, recipes, parsed).descriptors

    def look(
        self,
        crops: Sequence[Crop],
        seeds: Sequence[Sequence[int]],
        recipes: Sequence[Recipe] = (),
        parsed: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Look:
        """The same, and what it was made of: label maps, patch labels and tokens."""
        recipes = recipes or [self.recipe]
        self._check(recipes)
        maps, sure = self.parser.parse(crops) if parsed is None else parsed
        grid = self.backbone.grid(crops)
        labels = indexing.patch_labels(maps, grid)
        depths = {one.layer for one in recipes if one.encoding == "contextual"}
        whole = self.backbone.layers(crops, depths) if depths else {}
        members = [
            indexing.by_label(labels)
            if one.partitions
            else indexing.keep(maps, grid, one.region, one.patch_rule)[:, None]
            for one in recipes
        ]
        found = [
            self._under(recipe, crops, sets, seeds, whole)
            for recipe, sets in zip(recipes, members, strict=True)
        ]
        reasons = np.full(len(crops), "")
        described = [  # a copy of CLS: a view would hold all tokens of the batch in memory
            Descriptors(*columns, tokens.cls.cpu().numpy().copy(), sure, reasons, Layout.of(recipe))
            for recipe, (tokens, *columns) in zip(recipes, found, strict=True)
        ]
        patches = [tokens.patches for tokens, *_ in found]
        return Look(maps, labels, described, members, patches)

    def __call__(
        self,
        pictures: Iterable[np.ndarray | SeglibError],
        total: int | None = None,
        label: str = "pictures",
    ) -> Descriptors:
        """Descriptors of many pictures, one row each, in their order, with a progress bar.

        An item may be an error that a reader recorded (`media.read_all`): its row says so.
        """
        return self.several(pictures, [self.recipe], total, label)[0]

    def several(
        self,
        pictures: Iterable[np.ndarray | SeglibError],
        recipes: Sequence[Recipe],
        total: int | None = None,
        label: str = "pictures",
    ) -> list[Descriptors]:
        """The same under several recipes, which share the look at each crop; see `follow`."""
        bar = tqdm(pictures, label, total, unit="picture", leave=False)
        found = self.follow(zip(count(), bar), recipes=recipes)
        # Beginning with no rows: no picture at all is no error either.
        found.rows.insert(0, self._missing([], recipes))
        return found.descriptors()

    def follow(
        self,
        frames: Iterable[tuple[int, np.ndarray | SeglibError]],
        masks: Iterable[np.ndarray | SeglibError | None] | None = None,
        stream: Sequence[int] = (),
        tokens: bool = False,
        recipes: Sequence[Recipe] = (),
    ) -> Frames:
        """Take frames through the whole chain.

        Parameters
        ----------
        frames : iterable of (index, image or error)
        masks : iterable, optional
            A mask ``(H, W, 3)`` for each frame, bright where it was forged, for a recipe that
            chooses the face by it; None has the largest face taken.
        stream : sequence of int
            With the recipe's seed and the frame's index, the seed of its random control, so
            that it stays the same whatever the other frames are.
        tokens : bool
            Keep the whole grids too.
        recipes : sequence of Recipe
            Describe them under each of these, which may differ from the extractor's own in
            `recipe.OF_TOKENS` only. Default: under its own.

        Raises
        ------
        OtherCrop
            A recipe differs in more.
        """
        found, waiting = Frames(), []
        recipes = recipes or [self.recipe]
        self._check(recipes)

        def encode(batch: list[tuple[int, Crop]]) -> None:
            places, crops = zip(*batch, strict=True)
            seeds = [(self.recipe.seed, *stream, found.index[place]) for place in places]
            seen = self.look(crops, seeds, recipes)
            rows = zip(*(one.rows() for one in seen.descriptors), strict=True)
            for i, (place, row) in enumerate(zip(places, rows, strict=True)):
                found.rows[place] = row
                if tokens:
                    grid = seen.patches[0][i].cpu().numpy()
                    found.grids[found.index[place]] = seen.labels[i], grid

        for index, seen, face, crop in _ahead(self._crops(frames, masks, stream), self.batch):
            found.index.append(index)
            found.seen.append(seen)
            found.chosen.append(face)
            found.rows.append(None)
            if isinstance(crop, Crop):
                waiting.append((len(found.rows) - 1, crop))
            else:
                reason = f"{type(crop).__name__}: {crop}"
                found.rows[-1] = self._missing([reason], recipes)
            if len(waiting) == self.batch:
                encode(waiting)
                waiting.clear()
        if waiting:
            encode(waiting)
        return found

    def _crops(
        self,
        frames: Iterable[tuple[int, np.ndarray | SeglibError]],
        masks: Iterable[np.ndarray | SeglibError | None] | None,
        stream: Sequence[int],
    ) -> Iterator[tuple[int, int, Face | None, Crop | SeglibError]]:
        """Of each frame its index, how many faces are seen, the chosen one, and its crop."""
        items = zip(frames, repeat(None) if masks is None else masks, strict=False)
        change = Perturbation.of(self.recipe.perturbation)
        while chunk := list(islice(items, self.batch)):
            seeds = [(self.recipe.seed, *stream, index) for (index, _), _ in chunk]
            pictures = self._perturbed(chunk, change, seeds)
            seen = self._detect(pictures)
            taken = zip(chunk, pictures, seen, seeds, strict=True)
            for ((index, _), mask), image, faces_seen, seed in taken:
                face = None
                try:
                    face = self._choose(image, faces_seen, mask)
                    crop = self._cut(image, change.face(face, seed))
                except SeglibError as error:
                    crop = error
                yield index, len(faces_seen), face, crop

    def _perturbed(
        self, chunk: Sequence, change: Perturbation, seeds: Sequence[Sequence[int]]
    ) -> list[np.ndarray | SeglibError]:
        """The pictures after what the recipe does to them; what covers a face has to find it."""
        pictures, masks = [image for (_, image), _ in chunk], [mask for _, mask in chunk]
        boxes: Iterable[np.ndarray | None] = repeat(None, len(pictures))
        if change.on_face:
            boxes = map(self._place, pictures, self._detect(pictures), masks)
        return [
            change.picture(image, seed, box) if isinstance(image, np.ndarray) else image
            for image, seed, box in zip(pictures, seeds, boxes, strict=True)
        ]

    def _place(self, *seen) -> np.ndarray | None:
        """The box of the face that would be chosen, see `_choose`; None without one."""
        try:
            return self._choose(*seen).box
        except SeglibError:
            return None

    def _detect(self, pictures: Sequence[np.ndarray | SeglibError]) -> list[list[Face]]:
        """Faces of each picture, none for an error; in one batch where sizes agree."""
        sound = [picture for picture in pictures if isinstance(picture, np.ndarray)]
        alike = len({picture.shape for picture in sound}) == 1
        seen = iter(self.detector.batch(sound) if alike else map(self.detector, sound))
        return [next(seen) if isinstance(p, np.ndarray) else [] for p in pictures]

    def _choose(
        self,
        image: np.ndarray | SeglibError,
        seen: list[Face],
        mask: np.ndarray | SeglibError | None,
    ) -> Face:
        for one in (image, mask):
            if isinstance(one, SeglibError):
                raise one
        rule = self.recipe.face_choice
        bright = None if mask is None else mask.mean(-1) > MASKED
        return faces.choose(seen, image.shape[1::-1], rule, bright)

    def _cut(self, image: np.ndarray, face: Face) -> Crop:
        return faces.crop(image, face, self.recipe.crop_size, self.recipe.crop_scale)

    def _under(
        self,
        recipe: Recipe,
        crops: Sequence[Crop],
        members: np.ndarray,
        seeds: Sequence[Sequence[int]],
        whole: Mapping[int, Tokens],
    ) -> tuple[Tokens, np.ndarray, np.ndarray, np.ndarray]:
        """Tokens of some sets of patches; their pools and counts; pools of as many anywhere."""
        dealt = np.concatenate(
            [
                indexing.shuffled(one[None], np.random.default_rng(tuple(seed)))
                for one, seed in zip(members, seeds, strict=True)
            ]
        )
        tokens = elsewhere = self._encoded(crops, members, recipe, whole)
        if not np.array_equal(members.any(1), dealt.any(1)):  # else the same patches are encoded
            elsewhere = self._encoded(crops, dealt, recipe, whole)
        pools, counts = indexing.partial_pools(tokens.patches, members, recipe.pooling)
        random, _ = indexing.partial_pools(elsewhere.patches, dealt, recipe.pooling)
        return tokens, pools, counts, random

    def _encoded(
        self, crops: Sequence[Crop], members: np.ndarray, recipe: Recipe, whole: Mapping
    ) -> Tokens:
        """The tokens of sets of patches ``(B, K, gh, gw)``, as the recipe encodes them."""
        if recipe.encoding == "contextual":
            return whole[recipe.layer]
        bare = recipe.encoding == "isolated-bare"
        return self.backbone.isolated(crops, members.any(1), not bare, recipe.layer)

    def _trial(self, count: int) -> None:
        """Encode so many black crops."""
        side = self.recipe.crop_size
        black = np.zeros((side, side, 3), np.uint8)
        (whole,) = faces.load("whole")(black)
        self.backbone([faces.crop(black, whole, side, 1.0)] * count)

    def _missing(self, reasons: Sequence[str], recipes: Sequence[Recipe]) -> list[Descriptors]:
        width = self.backbone.width
        return [Descriptors.missing(reasons, width, Layout.of(one)) for one in recipes]

    def _check(self, recipes: Sequence[Recipe]) -> None:
        ours = dataclasses.asdict(self.recipe.look)
        for recipe in recipes:
            theirs = dataclasses.asdict(recipe.look)
            differ = [name for name in ours if name != "mode" and theirs[name] != ours[name]]
            if differ:
                found = " and ".join(f"{name}={theirs[name]!r}" for name in differ)
                raise OtherCrop(
                    f"a recipe with {found} for an extractor with "
                    f"{' and '.join(f'{name}={ours[name]!r}' for name in differ)}; expected "
                    f"recipes that differ in {', '.join(OF_TOKENS)} only. Make an Extractor of it."
                )


def _ahead(items: Iterable, count: int) -> Iterator:
    """The same items; the next few are being made while one is worked on."""
    source, end, worker = iter(items), object(), ThreadPoolExecutor(1, "looking ahead")
    try:
        made = deque(worker.submit(next, source, end) for _ in range(count))
        while (item := made.popleft().result()) is not end:
            made.append(worker.submit(next, source, end))
            yield item
    finally:
        worker.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Outcome:
    """What a run over a manifest did: videos made now, there before, held by another process."""

    made: int
    there: int
    elsewhere: int


def extract(
    table: pd.DataFrame, extractor: Extractor, root: str | Path, tokens: bool = False
) -> Outcome:
    """Bring every video of a manifest into the store of a recipe; what is there is passed over.

    Interrupted or killed, the next call goes on from there. Several processes may run it on the
    same store at once: each takes the videos that no other one holds.

    Parameters
    ----------
    table : DataFrame
        A manifest, see `manifest`.
    root : path-like
        Where stores lie, see `store.Store`.
    tokens : bool
        Keep the whole token grids too, which takes many times the space.
    """
    recipe = extractor.recipe
    store = Store(root, recipe, extractor.networks)
    store.sweep()
    rows = list(table.itertuples(index=False))
    todo = missing(store, rows, tokens)
    bar = tqdm(total=len(rows), initial=len(rows) - len(todo), desc="videos", unit="video")
    reader, pending, made = ThreadPoolExecutor(1, "decoding ahead"), deque(), 0

    def finish() -> None:
        row, _, reading = pending[0]
        make(row, reading.result(), extractor, store, tokens)
        pending.popleft()[1].release()
        bar.update()

    try:
        for row in todo:
            claim = store.claim(row.video_uid)
            if claim is None:
                continue
            if is_there(store, row, tokens):  # another process made it meanwhile
                claim.release()
                continue
            pending.append((row, claim, reader.submit(read, row, recipe)))
            made += 1
            if len(pending) > AHEAD:
                finish()
        while pending:
            finish()
    finally:
        reader.shutdown(cancel_futures=True)
        for _, claim, _ in pending:
            claim.release()
        bar.close()
    return Outcome(made, len(rows) - len(todo), len(todo) - made)


def missing(store: Store, rows: Sequence, tokens: bool) -> list:
    """The rows of a manifest that are still to be brought into the store."""
    # Several at a time: a shared disk or an object store makes each of them wait.
    looks = Parallel(LOOKING, prefer="threads", return_as="generator")
    there = looks(delayed(is_there)(store, row, tokens) for row in rows)
    bar = tqdm(there, "looking what is there", len(rows), unit="video", leave=False)
    return [row for row, found in zip(rows, bar, strict=True) if not found]


def is_there(store: Store, row, tokens: bool) -> bool:
    """Whether a video's file is in the store, made from what the video holds today."""
    made_from = store.made_from(row.video_uid)
    if not made_from or (tokens and made_from["tokens"] == str(False)):
        return False
    try:
        # Hashing hundreds of gigabytes takes hours: files of the same size and time are trusted.
        return made_from["stamp"] == _stamp(row, store.recipe) or made_from["content"] == _content(
            row, store.recipe
        )
    except OSError:  # it vanished just now, or cannot be read: `read` will tell
        return False


def _sources(row, recipe: Recipe) -> list[tuple[str, Path]]:
    """Name and path of each file that a row's descriptors are made from, as far as it is there."""
    masked = row.label == 1 and recipe.face_choice == "mask"
    found = []
    for name in filter(None, (row.path, row.mask if masked else "")):
        path = Path(name)
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [(file.relative_to(path).as_posix(), file) for file in inside if file.is_file()]
    return found


def _stamp(row, recipe: Recipe) -> str:
    """Changes when a file is written or replaced."""
    stats = [(name, file.stat()) for name, file in _sources(row, recipe)]
    text = json.dumps([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return hashlib.sha256(text.encode()).hexdigest()


def _content(row, recipe: Recipe) -> str:
    """SHA-256 of all that a row's descriptors are made from, wherever it lies."""
    digest = hashlib.sha256()
    for name, file in _sources(row, recipe):
        digest.update(name.encode())
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class Read:
    """One video: what it is made from, its frames and masks, and what is still to be done to them.

    A video that cannot be read is its one error.
    """

    made_from: dict[str, str]
    frames: list[tuple[int, np.ndarray | SeglibError]]
    masks: list[np.ndarray | SeglibError] | None = None
    perturbation: str = UNTOUCHED


def read(row, recipe: Recipe) -> Read:
    """Decode one video: its frames, or why there are none.

    Raises
    ------
    seglib.files.CannotWrite
        There is no room to encode it anew.
    """
    try:
        return _whole(row, recipe)
    except OSError as error:  # no permission, a network drive that is gone
        return Read(ANYTHING, [(WHOLE, video.out_of_reach(error.filename or row.path, error))])


def _whole(row, recipe: Recipe) -> Read:
    # The stamp first: whatever is changed from now on will be seen to have changed.
    made_from = {"stamp": _stamp(row, recipe), "content": _content(row, recipe)}
    change, left = Perturbation.of(recipe.perturbation), recipe.perturbation
    try:
        with ExitStack() as stack:
            path = row.path
            if change.reencodes(path):
                path, left = stack.enter_context(change.reencoded(path)), UNTOUCHED
            indices = video.evenly(video.length(path), recipe.frames)
            frames = _held(path, indices, row.path)
    except files.CannotWrite:  # no room to encode it anew: not this video's fault
        raise
    except SeglibError as error:
        changed = _stamp(row, recipe) != made_from["stamp"]
        return Read(ANYTHING if changed else made_from, [(WHOLE, error)])
    if recipe.face_choice != "mask" or row.label == 0:
        return Read(made_from, frames, None, left)
    masks = _masks(row, indices)
    if left != recipe.perturbation:
        masks = [perturbation.even(one) if isinstance(one, np.ndarray) else one for one in masks]
    return Read(made_from, frames, masks, left)


def _masks(row, indices: Sequence[int]) -> list[np.ndarray | SeglibError]:
    if not row.mask:
        error = NoMask(
            f"{row.video_uid} is a fake without a mask in the manifest, and the recipe chooses "
            "the face by it; expected one. Add it, or set face_choice='largest'."
        )
        return [error] * len(indices)
    try:
        return [mask for _, mask in _held(row.mask, indices, row.mask)]
    except SeglibError as error:
        return [error] * len(indices)


def _held(
    path: str | Path, indices: Sequence[int], name: str
) -> list[tuple[int, np.ndarray | SeglibError]]:
    """Some frames of a video, all at once; `name` is what an error calls it.

    Raises
    ------
    seglib.video.VideoTooLarge
        And what `seglib.video.read` raises.
    """
    held, found = 0, []
    for index, image in video.read(path, indices):
        held += getattr(image, "nbytes", 0)
        if held > MAX_HELD:
            many = f"{len(indices)} frames to look at, of more than {MAX_HELD / 1e9:.1f} GB"
            raise video.too_large(name, many, "no more, or a recipe with fewer frames")
        found.append((index, image))
    return found


def make(row, decoded: Read, extractor: Extractor, store: Store, tokens: bool) -> None:
    """Describe one video and write it: its file appears whole or not at all.

    Raises
    ------
    seglib.files.CannotWrite
    """
    uid = row.video_uid
    stream = [int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4])]
    chain = extractor.choosing(perturbation=decoded.perturbation)
    found = chain.follow(decoded.frames, decoded.masks, stream, tokens)
    (rows,) = found.descriptors()
    store.write(uid, decoded.made_from, found.ledger(uid), rows, found.grids if tokens else None)
