"""What it takes to fit the probes of a large study: hundreds of fits to a hundred thousand rows.

Descriptors are generated: people who differ, directions that matter less and less, and a little in
many directions that tells fakes. One part is made and fitted after the other, as a study would read
them from its store, and what is measured is written after each; a part is `training.fit`, which
chooses the strength on people held out. Before that scikit-learn fits some strengths to one fold of
the same rows, one after the other, by newton-cg to its usual tolerance, and ours the same ones.
Seconds of the processor do not count what others on the machine take. Memory is the most that the
process ever held.
"""

from __future__ import annotations

import resource
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from benchmarks.measuring import Row, options, report
from seglib import logistic, recipe, training

DECAY = 0.7  # of the directions' deviations, as a power of their rank
PEOPLE = 1000
EXAMPLES = """\
  python -m benchmarks.probe_fitting --rows 20000 --width 384 --parts 2
  python -m benchmarks.probe_fitting --json benchmarks/probe_fitting.json
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--rows", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--width", type=int, default=1024, help="default: %(default)s")
    parser.add_argument("--parts", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--strengths", type=int, default=20, help="values of C (default: 20)")
    parser.add_argument("--folds", type=int, default=5, help="inner ones (default: 5)")
    parser.add_argument("--compared", type=int, default=3, help="values of C that scikit-learn "
                        "fits too, spread over all of them (default: 3)")  # fmt: skip
    arguments = parser.parse_args()
    grid = np.geomspace(1e-5, 1e2, arguments.strengths)
    study = recipe.demo().but(c_grid=tuple(grid.tolist()), inner_folds=arguments.folds)
    chosen = np.linspace(0, len(grid) - 1, arguments.compared).round().astype(int)
    rows = compared(*generated(arguments.rows, arguments.width, 0), grid, chosen)
    seconds = []
    for part in tqdm(range(arguments.parts), "parts", unit="part"):
        case = generated(arguments.rows, arguments.width, part)
        start = time.perf_counter()
        training.fit(*case, study)
        seconds.append(time.perf_counter() - start)
        size = f"{arguments.rows:,} x {arguments.width}, {arguments.strengths} C, " \
               f"{arguments.folds} folds, {part + 1} parts"  # fmt: skip
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        whole = [
            Row("study", f"a study: {size}", sum(seconds) / 60, "minutes"),
            Row("memory", "the same: peak memory", memory, "GB"),
        ]
        report([*rows, *whole], arguments.json)


def generated(count: int, width: int, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Descriptors ``(N, D)`` in single precision, labels and people."""
    rng = np.random.default_rng(part)
    groups, labels = np.arange(count) % PEOPLE, np.arange(count) // PEOPLE % 2
    descriptors = rng.standard_normal((count, width), np.float32)
    descriptors += 0.7 * rng.standard_normal((PEOPLE, width), np.float32)[groups]
    descriptors += labels[:, None] * rng.normal(0, 0.06, width).astype(np.float32)
    descriptors *= np.arange(1, width + 1, dtype=np.float32) ** -DECAY
    turn = np.linalg.qr(rng.standard_normal((width, width), np.float32))[0]
    return descriptors @ turn, labels, groups


def compared(
    descriptors: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    grid: np.ndarray,
    chosen: np.ndarray,
) -> list[Row]:
    """Processor seconds a fit of one fold, on one thread, and how far apart the logits are."""
    kept = groups % 5 > 0
    rows, labels = descriptors[kept].astype(float), labels[kept]
    rows -= rows.mean(0)
    rows /= rows.std(0)
    theirs, apart = [], []
    with threadpool_limits(1, "blas"):
        start = time.process_time()
        logistic.fit(rows, labels, np.ones(len(rows)), grid)
        together = (time.process_time() - start) / len(grid)
        start = time.process_time()
        coefficients, intercepts = logistic.fit(rows, labels, np.ones(len(rows)), grid[chosen])
        ours = (time.process_time() - start) / len(chosen)
        for number, C in enumerate(tqdm(grid[chosen], "scikit-learn", unit="fit")):
            solver = LogisticRegression(C=C, solver="newton-cg")
            start = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                solver.fit(rows, labels)
            theirs.append(time.process_time() - start)
            step = rows @ (coefficients[number] - solver.coef_[0])
            apart.append(np.abs(step + intercepts[number] - solver.intercept_).max().item())
    floor = {"scikit-learn's newton-cg": ours / np.mean(theirs).item()}
    return [
        Row(
            "fit",
            f"a fit of {len(rows):,} rows, {len(chosen)} C at once",
            ours,
            "processor seconds a C",
            floor,
        ),
        Row("together", f"the same, {len(grid)} C at once", together, "processor seconds a C"),
        Row("apart", "logits of both apart, at most", max(apart), "log-odds"),
    ]


if __name__ == "__main__":
    main()
