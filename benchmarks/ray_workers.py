"""What a second worker of a Ray cluster brings, beside what a second process brings at best.

The same clips are taken through one worker and through two, each with one thread, in turns. Only
the second half of a run's files is timed, by when they appeared: so the start of Ray and of the
networks, which a long extraction does not notice, is left out. Beside it stands the machine's own
ceiling, measured in the same turns: how much more two plain processes get through the networks
than one, each with one thread, when they share nothing and neither decode nor write.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from benchmarks.measuring import Row, options, ratio, report
from seglib import clips, cluster, faces, manifest, recipe, video
from seglib.extraction import Extractor
from seglib.recipe import Recipe

EXAMPLES = """\
  python -m benchmarks.ray_workers
  python -m benchmarks.ray_workers --videos 12 --rounds 1 --passes 3
  python -m benchmarks.ray_workers --json benchmarks/ray_workers.json
"""
PEOPLE = 4  # each clip has several names


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--videos", type=int, default=48, help="how many (default: 48)")
    parser.add_argument("--frames", type=int, default=8, help="of each video (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="of one and two (default: 3)")
    parser.add_argument("--passes", type=int, default=20, help="for the ceiling (default: 20)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(arguments, Path(folder))
    report(rows, arguments.json, videos=arguments.videos, frames=arguments.frames)


def videos(count: int, folder: Path) -> pd.DataFrame:
    """Clips of four seconds as a manifest."""
    detector, paths = faces.load("mesh"), [folder / f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        if number < PEOPLE:
            clips.write(path, number, detector, frames=100)
        else:
            shutil.copy(paths[number % PEOPLE], path)
    return manifest.from_rows(
        {"video_uid": path.stem, "path": str(path), "label": 0,
         "dataset": "benchmark", "split": "test"} for path in paths
    )  # fmt: skip


def measure(arguments: argparse.Namespace, folder: Path) -> list[Row]:
    """Videos a second, by one and by two."""
    decisions = recipe.demo().but(frames=arguments.frames)
    table = videos(arguments.videos, folder)
    seen = {"workers": {1: [], 2: []}, "processes": {1: [], 2: []}}
    for turn in range(arguments.rounds):
        for count in (1, 2):
            with cluster.Workers(decisions, count, "cpu") as workers:
                rate = throughput(table, workers, folder / f"{turn} {count}")
            seen["workers"][count].append(rate)
            rate = ceiling(decisions, table.path[0], count, arguments.passes)
            seen["processes"][count].append(rate)
    rows = []
    for who, name in (("workers", "workers under Ray"), ("processes", "bare processes")):
        one, two = seen[who][1], seen[who][2]
        gain, unit = {"one of them": ratio(two, one)}, "videos a second"
        rows += [
            Row(f"{who}-1", f"{name}: one", statistics.median(one), unit),
            Row(f"{who}-2", f"{name}: two", statistics.median(two), unit, gain),
        ]
    return rows


def throughput(table: pd.DataFrame, workers: cluster.Workers, root: Path) -> float:
    """Videos a second of these workers, when all of them are at work."""
    cluster.extract(table, workers, root)
    appeared = sorted(path.stat().st_mtime for path in root.rglob("*.parquet"))
    half = len(appeared) // 2
    return (len(appeared) - half) / (appeared[-1] - appeared[half - 1])


def ceiling(decisions: Recipe, path: str, count: int, passes: int) -> float:
    """Videos a second that so many processes get through the networks, already decoded."""
    fresh = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    together, said = fresh.Barrier(count), fresh.Queue()
    given = decisions, path, passes, together, said
    processes = [fresh.Process(target=alone, args=given) for _ in range(count)]
    for process in processes:
        process.start()
    seconds = [said.get() for _ in processes]
    for process in processes:
        process.join()
    return count * passes / max(seconds)


def alone(decisions: Recipe, path: str, passes: int, together, said) -> None:
    """One process: it says how many seconds its passes took while the others were at work."""
    torch.set_num_threads(1)
    extractor = Extractor(decisions, "cpu")
    frames = list(video.read(path, video.evenly(video.length(path), decisions.frames)))
    extractor.follow(frames)
    together.wait()
    start = time.perf_counter()
    for _ in range(passes):
        extractor.follow(frames)
    said.put(time.perf_counter() - start)


if __name__ == "__main__":
    main()
