"""Videos into descriptors, from end to end: against the bare networks, and against plain loops.

Each clip is taken through the whole chain into a store; then the networks alone are given exactly
the inputs that they had in it; then two loops are run that a user might write instead, one frame
at a time, around transformers' image-feature-extraction pipeline. The careful one encodes a frame
once; the one by part calls a function for each label, as a notebook often does. FaRL, which facer
would run, cannot be had without its weights: all parse by the face mesh. That all make the same
descriptors is asserted. Stages are timed one after the other.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.measuring import Row, options, ratio, report
from seglib import clips, devices, extraction, faces, indexing, manifest, recipe, video
from seglib.backbones import NORMALISATIONS
from seglib.descriptors import Descriptors
from seglib.extraction import Extractor
from seglib.regions import LABELS
from seglib.store import Store

NETWORKS = ("detector", "parser", "backbone")
RUNS = ("batch", "parse", "layers", "isolated")  # the methods by which the chain asks them
STAGES = "detect + parse + encode"  # those of the networks
EQUAL = 1e-5  # of the largest number in a descriptor
EXAMPLES = """\
  python -m benchmarks.extraction
  python -m benchmarks.extraction --data DATA/videos --videos 4
  python -m benchmarks.extraction --videos 1 --frames 2
  python -m benchmarks.extraction --json benchmarks/extraction.json
"""


class Recorded:
    """A network that remembers what it was asked."""

    def __init__(self, network) -> None:
        self.network, self.asked = network, []

    def __getattr__(self, name):
        found = getattr(self.network, name)
        return partial(self._ask, found) if name in RUNS else found

    def __call__(self, *given):
        """Ask the network, and remember it."""
        return self._ask(self.network, *given)

    def _ask(self, network, *given):
        self.asked.append((network, given))
        return network(*given)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--data", type=Path, help="a folder of videos (default: clips of the demo)")
    parser.add_argument("--videos", type=int, default=6, help="how many (default: 6)")
    parser.add_argument("--frames", type=int, default=32, help="of each (default: 32)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = videos(arguments.data, arguments.videos, Path(folder))
        decisions = recipe.demo().but(frames=arguments.frames)
        rows = measure(Extractor(decisions), paths, Path(folder, "stores"))
        pixels = "{1} x {0}".format(*next(video.read(paths[0], [0]))[1].shape)
    report(rows, arguments.json, recipe=str(decisions), videos=len(paths), pixels=pixels)


def videos(data: Path | None, count: int, folder: Path) -> list[Path]:
    """The videos to take through: those of a folder, or clips of four seconds."""
    if data is not None:
        return sorted(data.rglob("*.mp4"))[:count]
    detector = faces.load("mesh")
    paths = [folder / f"{person}.mp4" for person in range(count)]
    for person, path in enumerate(paths):
        clips.write(path, person, detector, frames=100)
    return paths


def measure(extractor: Extractor, paths: list[Path], stores: Path) -> list[Row]:
    """The chain's frames a second, and what its stages take."""
    seconds, stages = defaultdict(list), defaultdict(list)
    described = features(extractor)
    for number, path in enumerate(tqdm([paths[0], *paths], "videos", unit="video")):
        table = manifest.from_rows([{"video_uid": str(number), "path": str(path), "label": 0,
                                     "dataset": "benchmark", "split": "test"}])  # fmt: skip
        (uid,) = table.video_uid
        took, found = pair(extractor, table, stores), {}
        for name, loop in (("a careful loop", careful), ("a loop by part", by_part)):
            start = time.perf_counter()
            found[name] = loop(extractor, described, path)
            took[name] = time.perf_counter() - start
        store, count = Store.find(stores, extractor.recipe), len(found["a careful loop"])
        check(store, uid, found)
        one_by_one = by_stage(extractor, store, next(table.itertuples(index=False)))
        if number:  # the first one warms up
            for name, one in took.items():
                seconds[name].append(one / count)
            for name, one in one_by_one.items():
                stages[name].append(one / count)
    return [*whole(seconds), *shares(stages)]


def whole(seconds: dict[str, list]) -> list[Row]:
    """Milliseconds a frame of the chain and of what it is compared with."""
    rows = []
    for name, each in seconds.items():
        others = {key: value for key, value in seconds.items() if key != name}
        floors = {key: ratio(each, value) for key, value in others.items()}
        took = 1e3 * statistics.median(each)
        floors = floors if name == "the chain" else {}
        rows.append(Row(name.replace(" ", "-"), name, took, "ms a frame", floors))
    return rows


def shares(stages: dict[str, list]) -> list[Row]:
    """Milliseconds a frame of each stage, and how they compare with the networks'."""
    medians = {name: statistics.median(each) for name, each in stages.items()}
    networks = sum(medians[name] for name in STAGES.split(" + "))
    others = sum(medians.values()) - networks
    rows = [
        Row(name, f"stage: {name}", 1e3 * one, "ms a frame", {STAGES: one / networks})
        for name, one in medians.items()
    ]
    total = {STAGES: others / networks}
    return [*rows, Row("others", "all stages but the networks", 1e3 * others, "ms a frame", total)]


def pair(extractor: Extractor, table: pd.DataFrame, stores: Path) -> dict[str, float]:
    """Seconds of the whole chain, and of the networks alone."""
    watched = extractor.choosing(face_choice=extractor.recipe.face_choice)
    recorded = [Recorded(getattr(extractor, name)) for name in NETWORKS]
    for name, network in zip(NETWORKS, recorded, strict=True):
        setattr(watched, name, network)
    start = time.perf_counter()
    extraction.extract(table, watched, stores)
    chain = time.perf_counter() - start
    start = time.perf_counter()
    for network, given in (call for one in recorded for call in one.asked):
        network(*given)
    return {"the chain": chain, "the networks alone": time.perf_counter() - start}


def by_stage(extractor: Extractor, store: Store, row) -> dict[str, float]:
    """Seconds of each stage for one video, one batch and one stage after the other."""
    path, uid = row.path, row.video_uid
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, call: Callable, *given):
        start = time.perf_counter()
        answer = call(*given)
        seconds[name] += time.perf_counter() - start
        return answer

    timed("hash", extraction._content, row, extractor.recipe)
    indices = video.evenly(video.length(path), extractor.recipe.frames)
    images = [image for _, image in timed("decode", list, video.read(path, indices))]
    for start in range(0, len(images), extractor.batch):
        some = images[start : start + extractor.batch]
        seen = timed("detect", extractor._detect, some)
        crops = timed("crop", list, map(partial(cut, extractor), some, seen))
        maps, _ = timed("parse", extractor.parser.parse, crops)
        pixels = timed("pixels", extractor.backbone.pixels, crops)
        with torch.inference_mode():
            timed("encode", extractor.backbone.hidden, pixels)
        tokens = {-1: extractor.backbone(crops)}
        labels = timed("label", indexing.patch_labels, maps, extractor.backbone.grid(crops))
        seeds, sets = [(0, i) for i in range(len(crops))], indexing.by_label(labels)
        timed("pool", extractor._under, extractor.recipe, crops, sets, seeds, tokens)
    ledger, found = store.ledger([uid]), Descriptors.load(store.path(uid))
    timed("write", store.write, uid, store.made_from(uid), ledger, found)
    return seconds


def cut(extractor: Extractor, image: np.ndarray, seen: list):
    """The crop of the largest face."""
    return extractor._cut(image, faces.choose(seen, image.shape[1::-1], "largest", None))


# -- what a user would write instead ----------------------------------------------------------


def features(extractor: Extractor) -> Callable[[np.ndarray], np.ndarray]:
    """transformers' pipeline around the same encoder: a crop to its tokens ``(1 + P, D)``."""
    devices.let_torchvision_import()
    from transformers import BitImageProcessor, pipeline

    mean, std = NORMALISATIONS[extractor.recipe.normalisation]
    processor = BitImageProcessor(
        do_resize=False, do_center_crop=False, do_rescale=True, image_mean=mean, image_std=std
    )
    made = pipeline(
        "image-feature-extraction",
        model=extractor.backbone.model,
        image_processor=processor,
        device=extractor.device,
    )
    return lambda image: np.array(made(Image.fromarray(image))[0], np.float32)


def read_frames(path: Path, count: int) -> Iterator[np.ndarray]:
    """All frames are turned into pictures; evenly spaced ones are taken."""
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    yield from (images[i] for i in video.evenly(len(images), count))


def prepared(extractor: Extractor, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One frame's crop and the labels of its patches, in a loop over patches."""
    crop = extractor.crop(image)
    (label_map,), (rows, columns) = extractor.parser([crop]), extractor.backbone.grid([crop])
    height, width = (side // n for side, n in zip(label_map.shape, (rows, columns), strict=True))
    labels = np.zeros((rows, columns), int)
    for row, column in np.ndindex(rows, columns):
        patch = label_map[row * height : (row + 1) * height, column * width : (column + 1) * width]
        labels[row, column] = np.bincount(patch.ravel(), minlength=len(LABELS)).argmax()
    return crop.image, labels.ravel()


def careful(extractor: Extractor, described: Callable, path: Path) -> list[np.ndarray]:
    """Of each frame the sums of tokens by label ``(11, D)``, each frame encoded once."""
    found = []
    for image in read_frames(path, extractor.recipe.frames):
        crop, labels = prepared(extractor, image)
        patches = described(crop)[1:]
        found.append(np.stack([patches[labels == i].sum(0) for i in range(len(LABELS))]))
    return found


def by_part(extractor: Extractor, described: Callable, path: Path) -> list[np.ndarray]:
    """The same by a function that describes one label of one frame."""

    def describe(image: np.ndarray, label: int) -> np.ndarray:
        crop, labels = prepared(extractor, image)
        return described(crop)[1:][labels == label].sum(0)

    images = read_frames(path, extractor.recipe.frames)
    return [np.stack([describe(one, label) for label in range(len(LABELS))]) for one in images]


def check(store: Store, uid: str, found: dict[str, list]) -> None:
    """Refuse to compare what is not equal."""
    pools = Descriptors.load(store.path(uid)).pools
    for sums in found.values():
        assert np.abs(np.stack(sums) - pools).max() <= EQUAL * np.abs(pools).max()


if __name__ == "__main__":
    main()
