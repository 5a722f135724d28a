"""What extraction costs beyond its networks: decoding, cropping, indexing, pooling, writing.

Each video is taken through the whole chain into a store, and then the networks alone are given
exactly the inputs that they had in it. The two alternate video by video in one process, so that
the machine's moods meet both; the median over videos is the figure. Decoding runs beside the
networks and takes cores from them: what it costs them is in the ratio too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import pandas as pd

from seglib import clips, devices, extraction, faces, manifest, recipe, video
from seglib.extraction import Extractor

NETWORKS = ("detector", "parser", "backbone")
RUNS = ("batch", "parse", "layers", "isolated")  # the methods by which the chain asks them
EXAMPLES = """\
examples:
  python benchmarks/extraction_overhead.py
  python benchmarks/extraction_overhead.py --data DATA/videos --videos 4
  python benchmarks/extraction_overhead.py --json benchmarks/extraction_overhead.json
"""


class Recorded:
    """A network that remembers what it was asked, and how long it took."""

    def __init__(self, network) -> None:
        self.network, self.asked, self.seconds = network, [], 0.0

    def __getattr__(self, name):
        found = getattr(self.network, name)
        return partial(self._ask, found) if name in RUNS else found

    def __call__(self, *given):
        """Ask the network, and remember it."""
        return self._ask(self.network, *given)

    def _ask(self, network, *given):
        start = time.perf_counter()
        answer = network(*given)
        self.seconds += time.perf_counter() - start
        self.asked.append((network, given))
        return answer


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="a folder of videos (default: clips of the demo)")
    parser.add_argument("--videos", type=int, default=12, help="how many (default: 12)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = videos(arguments.data, arguments.videos, Path(folder))
        found = measure(paths, Path(folder))
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def videos(data: Path | None, count: int, folder: Path) -> list[Path]:
    """The videos to take through: those of a folder, or clips of four seconds."""
    if data is not None:
        return sorted(data.rglob("*.mp4"))[:count]
    detector = faces.load("mesh")
    paths = [folder / f"{person}.mp4" for person in range(count)]
    for person, path in enumerate(paths):
        clips.write(path, person, detector, frames=100)
    return paths


def measure(paths: list[Path], folder: Path) -> dict:
    """Overheads of each video, as shares of the networks' own time."""
    decisions = recipe.demo()
    plain = Extractor(decisions)
    against_alone, against_inside = [], []
    for number, path in enumerate([paths[0], *paths]):  # the first one warms up
        table = manifest.from_rows([{"video_uid": str(number), "path": str(path), "label": 0,
                                     "dataset": "benchmark", "split": "test"}])  # fmt: skip
        whole, alone, inside = pair(plain, table, folder / "stores")
        if number:
            against_alone.append(whole / alone - 1)
            against_inside.append(whole / inside - 1)
    return {
        "recipe": str(decisions),
        "device": devices.choose(),
        "cores": os.cpu_count(),
        "videos": len(paths),
        "pixels of a frame": next(video.read(paths[0], [0]))[1].shape[1::-1],
        "frames a video": decisions.frames,
        "overhead, median": statistics.median(against_alone),
        "overhead of what waits its turn, median": statistics.median(against_inside),
        "overhead, each": against_alone,
    }


def pair(plain: Extractor, table: pd.DataFrame, stores: Path) -> tuple[float, float, float]:
    """Seconds of the whole chain, of the networks alone, of the networks inside the chain."""
    extractor = plain.choosing(plain.recipe.face_choice)
    recorded = [Recorded(getattr(plain, name)) for name in NETWORKS]
    for name, network in zip(NETWORKS, recorded, strict=True):
        setattr(extractor, name, network)
    start = time.perf_counter()
    extraction.extract(table, extractor, stores)
    whole = time.perf_counter() - start
    start = time.perf_counter()
    for network, given in (call for one in recorded for call in one.asked):
        network(*given)
    alone = time.perf_counter() - start
    return whole, alone, sum(one.seconds for one in recorded)


if __name__ == "__main__":
    main()
