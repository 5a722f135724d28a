"""The interval of an AUC: 2000 draws of groups of people, against scikit-learn in a loop.

The loop draws the same groups and asks `roc_auc_score` each time; it is timed with fewer draws,
and the ratio is a draw's. Scores are generated: five videos a person, fakes a little higher.
"""

from __future__ import annotations

import statistics

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.measuring import Row, options, ratio, report, turns
from seglib import metrics, resampling

SIZES = (100, 1000, 10_000)  # videos
VIDEOS = 5  # of a person
LOOPED = 50  # draws of the loop
EXAMPLES = "  python -m benchmarks.bootstrap\n  python -m benchmarks.bootstrap --rounds 1\n"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--rounds", type=int, default=5, help="timings of each (default: 5)")
    arguments = parser.parse_args()
    report([measure(size, arguments.rounds) for size in SIZES], arguments.json)


def measure(size: int, rounds: int) -> Row:
    """Our interval's time for a draw, and its ratio to the loop's."""
    rng = np.random.default_rng(0)
    groups, labels = np.arange(size) // VIDEOS, np.arange(size) % 2
    scores = rng.normal(labels, 1.0)
    found = turns(
        {
            "ours": lambda: metrics.auc(labels, scores, groups),
            "the loop": lambda: loop(labels, scores, groups, rng),
        },
        rounds,
        f"{size} videos",
    )
    a_draw = {"ours": resampling.RESAMPLES, "the loop": LOOPED}
    each = {name: [one / a_draw[name] for one in times] for name, times in found.items()}
    return Row(
        f"auc-{size}",
        f"interval of an AUC, {size} videos",
        statistics.median(found["ours"]),
        "seconds",
        {"scikit-learn in a loop": ratio(each["ours"], each["the loop"])},
    )


def loop(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, rng) -> np.ndarray:
    """AUCs of a few draws of groups, one after the other."""
    found, names = [], np.unique(groups)
    of_group = [np.flatnonzero(groups == name) for name in names]
    for _ in range(LOOPED):
        drawn = np.concatenate([of_group[i] for i in rng.integers(len(names), size=len(names))])
        found.append(roc_auc_score(labels[drawn], scores[drawn]))
    return np.array(found)


if __name__ == "__main__":
    main()
