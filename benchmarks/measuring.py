"""What all benchmarks share: turns taken in one process, rows of ratios, and the command line.

A figure of this machine says little about another one. So whatever is short takes turns with its
floor, call by call in one process: the machine's moods meet both, and the median of their ratios
is what is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from seglib import __version__

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Row:
    """One thing that was measured; ratios say how many times as long as its floors it takes.

    Of what is no time, bytes for one, how many times as much as they it is.
    """

    key: str
    what: str
    value: float
    unit: str
    ratios: Mapping[str, float] = field(default_factory=dict)


def turns(calls: Mapping[str, Callable[[], object]], rounds: int, label: str) -> dict[str, list]:
    """Seconds of each call, a number a round; the first round warms up and is left out.

    In random order, so that no call always finds caches and threads as the same other leaves them.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    orders = random.Random(0)
    for number in tqdm(range(-1, rounds), label, unit="round", leave=False):
        for name in orders.sample([*calls], len(calls)):
            start = time.perf_counter()
            calls[name]()
            if number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(one: list[float], other: list[float]) -> float:
    """The median of how many times the other one is, round by round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def against(key: str, what: str, seconds: Mapping[str, list], per: int, unit: str) -> Row:
    """A row from `turns`: milliseconds of "ours" for one of `per`, and its ratio to the others."""
    ours = seconds["ours"]
    floors = {name: ratio(ours, other) for name, other in seconds.items() if other is not ours}
    return Row(key, what, 1e3 * statistics.median(ours) / per, unit, floors)


def machine() -> dict[str, str | int]:
    """What the figures were made on."""
    import torch  # here: the book reads rows without it

    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seglib": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }


def options(description: str, examples: str) -> argparse.ArgumentParser:
    """A command line that can say where the numbers go."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the numbers; the book reads them"
    )
    return parser


def report(rows: list[Row], target: Path | None, **made: object) -> None:
    """Print the rows and, if asked for, write them."""
    width = max(len(row.what) for row in rows)
    for row in rows:
        ratios = " · ".join(f"{value:.2f} x {name}" for name, value in row.ratios.items())
        print(f"{row.what:<{width}}  {row.value:>10.4g} {row.unit:<16} {ratios}")
    if target:
        found = {"made": machine() | made, "rows": [asdict(row) for row in rows]}
        target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
