"""How extraction grows: 100, 1000 and 10 000 videos, each number in a process of its own.

A simulation in one respect: all videos are one generated clip under many names, so that what the
networks said of it the first time is right for all others, and is replayed. All else is what it
is in life: the manifest, decoding, hashing, the claims, cropping, labels, pooling, the Parquet
files, taking up an interrupted run, reading a view back. What the networks themselves take is
measured once in each process, and their median counts for every video of all.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.measuring import Row, options, report
from seglib import clips, extraction, faces, manifest, recipe
from seglib.extraction import Extractor
from seglib.store import Store, at_most

SIZES = (100, 1000, 10_000)
FRAMES = 8  # a video, which is one batch
NETWORKS = {"detector": ("batch",), "parser": ("parse",), "backbone": ("layers",)}
EXAMPLES = """\
  python -m benchmarks.growth
  python -m benchmarks.growth --sizes 10 100
  python -m benchmarks.growth --json benchmarks/growth.json
"""


class Replayed:
    """A network that is asked once, and from then on answers the same at no cost."""

    def __init__(self, network, methods: tuple[str, ...]) -> None:
        self.network, self.methods, self.said, self.seconds = network, methods, {}, 0.0

    def __getattr__(self, name):
        found = getattr(self.network, name)
        return partial(self._ask, name, found) if name in self.methods else found

    def _ask(self, name, network, *given):
        if name not in self.said:
            network(*given)  # warms up
            start = time.perf_counter()
            self.said[name] = network(*given)
            self.seconds += time.perf_counter() - start
        return self.said[name]


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of videos")
    parser.add_argument("--one", type=int, metavar="N", help="one of them, as JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    own = [sys.executable, "-m", "benchmarks.growth", "--one"]
    found = {}
    for size in arguments.sizes:
        said = subprocess.run([*own, str(size)], check=True, stdout=subprocess.PIPE).stdout
        found[size] = json.loads(said.splitlines()[-1])
    report(rows(found), arguments.json, recipe=str(decisions()), frames=FRAMES)


def decisions() -> recipe.Recipe:
    """The demo's, with as many frames a video as fill one batch."""
    return recipe.demo().but(frames=FRAMES)


def measure(size: int) -> dict[str, float]:
    """Seconds, bytes and peak memory for so many videos."""
    extractor = Extractor(decisions(), "cpu")
    replayed = [Replayed(getattr(extractor, name), runs) for name, runs in NETWORKS.items()]
    for name, network in zip(NETWORKS, replayed, strict=True):
        setattr(extractor, name, network)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        clips.write(clip, 0, faces.load("mesh"))
        extraction.extract(named(clip, 1), extractor, folder)  # the networks are asked here
        table = named(clip, size)
        before, start = peak(), time.perf_counter()
        done = extraction.extract(table, extractor, folder)
        made, start = time.perf_counter() - start, time.perf_counter()
        assert done.made == size - 1
        assert extraction.extract(table, extractor, folder).there == size
        looked, start = time.perf_counter() - start, time.perf_counter()
        store = Store.find(folder, extractor.recipe)
        store.view("mouth", table.video_uid)
        viewed = time.perf_counter() - start
        held = sum(file.stat().st_size for file in (store.folder / "videos").iterdir())
    return {
        "networks": sum(one.seconds for one in replayed),
        "made": made / done.made,
        "looked": looked / size,
        "viewed": viewed / size,
        "bytes": held / size,
        "at most": at_most(FRAMES, extractor.backbone.width, extractor.recipe),
        "memory": peak(),
        "memory before": before,
    }


def named(clip: Path, size: int) -> pd.DataFrame:
    """A manifest that has one clip under many names."""
    names, same = [], {"label": 0, "dataset": "benchmark", "split": "test"}
    for number in range(size):
        name = clip.with_name(f"{number}.mp4")
        name.unlink(missing_ok=True)
        name.hardlink_to(clip)
        names.append({"video_uid": str(number), "path": str(name)} | same)
    return manifest.from_rows(names)


def peak() -> float:
    """Bytes that the process has held at most."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def rows(found: dict[int, dict[str, float]]) -> list[Row]:
    """A few rows for each number of videos."""
    made, networks = [], statistics.median(one["networks"] for one in found.values())
    for size, one in found.items():
        whole = one["made"] + networks
        floor = {"the networks alone": whole / networks}
        made += [
            Row(f"rate-{size}", f"{size} videos", FRAMES / whole, "frames a second"),
            Row(f"whole-{size}", f"{size} videos: all", 1e3 * whole, "ms a video", floor),
            Row(f"made-{size}", f"{size} videos: beside the networks", 1e3 * one["made"],
                "ms a video"),
            Row(f"looked-{size}", f"{size} videos: seeing that all is there", 1e3 * one["looked"],
                "ms a video"),
            Row(f"viewed-{size}", f"{size} videos: reading the mouth's descriptors",
                1e3 * one["viewed"], "ms a video"),
            Row(f"memory-{size}", f"{size} videos: peak memory", one["memory"] / 1e6, "MB",
                {"memory before the first video": one["memory"] / one["memory before"]}),
            Row(f"store-{size}", f"{size} videos: the store", one["bytes"] / FRAMES / 1e3,
                "kB a frame", {"uncompressed": one["bytes"] / one["at most"]}),
        ]  # fmt: skip
    return made


if __name__ == "__main__":
    main()
