"""Data sets whose truth is known: do the intervals hold it as often as they say?

People differ, a fake looks like its target, its source and the very video it was made from, and
no formula need be believed about what that does to an interval: the data are made a thousand
times and the intervals counted. Taught in chapter 03.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from seglib import metrics
from seglib.errors import unknown_name
from seglib.metrics import Interval

STRUCTURES = ("couples", "crossed")


@dataclass(frozen=True)
class Design:
    """How a data set is made; spreads are standard deviations of the score.

    What videos of one person have not in common has a spread of 1.
    """

    structure: str = "couples"
    """``"couples"``, as in FaceForensics++: A lends the face to B and B to A, and a couple is a
    group. ``"crossed"``, as in Celeb-DF: every fake has a target and a source drawn among all
    people, who so hang together; the group is the target."""
    people: int = 40
    videos: int = 10
    """Bona fide videos of each person, and as many fakes: each video is the target of one."""
    lead: float = 0.8
    """By how much a fake scores higher than a bona fide video."""
    spread: float = 0.5
    """Between people."""
    source: float = 0.6
    """How much of a fake's likeness is its source's, the rest its target's; squares add to 1."""
    ease: float = 0.6
    """Between people, in how easily their fakes are told."""
    shared: float = 0.8
    """Correlation of a fake and its video, beyond the person."""
    alike: float = 0.8
    """Correlation of two detectors, in all of this."""

    @property
    def auc(self) -> float:
        """The AUC over endless people: all scores are normal."""
        return stats.norm.cdf(self.lead / np.sqrt(2 * (1 + self.spread**2) + self.ease**2))


@dataclass(frozen=True)
class Sample:
    """One simulated data set of N videos.

    labels, target, source ``(N,)``, source -1 for a bona fide video; groups ``(N,)``; scores
    ``(2, N)``, a row a detector, the two equally good.
    """

    labels: np.ndarray
    target: np.ndarray
    source: np.ndarray
    groups: np.ndarray
    scores: np.ndarray


def sample(design: Design, seed: int) -> Sample:
    """Simulate one data set.

    Raises
    ------
    seglib.errors.UnknownName
    """
    if design.structure not in STRUCTURES:
        raise unknown_name("structure", design.structure, STRUCTURES)
    rng = np.random.default_rng(seed)

    def normal(count: int) -> np.ndarray:
        """Standard normal for both detectors, ``(2, count)``."""
        common, own = rng.normal(size=count), rng.normal(size=(2, count))
        return np.sqrt(design.alike) * common + np.sqrt(1 - design.alike) * own

    people = np.arange(design.people)
    target = np.repeat(people, design.videos)
    if design.structure == "couples":
        source, group = target ^ 1, target // 2
    else:
        source = (target + rng.integers(1, design.people, target.size)) % design.people
        group = target
    person, ease = design.spread * normal(people.size), design.ease * normal(people.size)
    video = design.shared * normal(target.size)
    rest = np.sqrt(1 - design.shared**2) * normal(2 * target.size)
    likeness = np.sqrt(1 - design.source**2) * person[:, target] + design.source * person[:, source]
    bona_fide = person[:, target] + video
    fake = design.lead + likeness + ease[:, target] + video
    return Sample(
        np.repeat([0, 1], target.size),
        np.tile(target, 2),
        np.concatenate([np.full(target.size, -1), source]),
        np.tile(group, 2),
        np.concatenate([bona_fide, fake], axis=1) + rest,
    )


def _bootstrap(one: Sample, seed: int, **options) -> Interval:
    return metrics.auc(one.labels, one.scores[0], one.groups, seed=seed, **options)


INTERVALS: dict[str, Callable[[Sample, int], Interval]] = {
    "expanded": _bootstrap,
    "percentile": lambda one, seed: _bootstrap(one, seed, method="percentile"),
    "bca": lambda one, seed: _bootstrap(one, seed, method="bca"),
    "two stages": lambda one, seed: _bootstrap(one, seed, within=True),
    "DeLong, clustered": lambda one, seed: metrics.delong(one.labels, one.scores[0], one.groups),
    "naive": lambda one, seed: metrics.auc(
        one.labels, one.scores[0], np.arange(one.labels.size), seed=seed
    ),
    "naive DeLong": lambda one, seed: metrics.delong(one.labels, one.scores[0]),
}


def coverage(
    design: Design, sets: int = 1000, seed: int = 0, intervals: Sequence[str] | None = None
) -> pd.DataFrame:
    """How often 95 % intervals of an AUC hold the truth, clustered and naive.

    Parameters
    ----------
    design : Design
    sets : int
        How many data sets are simulated; 1000 give a covered share a standard error of 0.7 points.
    intervals : of `INTERVALS`, optional
        Default: all.

    Returns
    -------
    DataFrame
        One row a kind of interval: the shares ``covered``, ``too low`` (the interval ends below
        the truth) and ``too high``, and the mean ``width``. Naive: as if no videos shared people.
    """
    intervals = tuple(INTERVALS) if intervals is None else intervals
    ends = np.empty((2, len(intervals), sets))
    for at in _seeds(seed, sets):
        one = sample(design, at)
        found = [INTERVALS[name](one, at) for name in intervals]
        ends[..., at - seed] = [[i.low for i in found], [i.high for i in found]]
    low, high = ends
    below, above = (high < design.auc).mean(1), (low > design.auc).mean(1)
    columns = {
        "covered": 1 - below - above,
        "too low": below,
        "too high": above,
        "width": (high - low).mean(1),
    }
    return pd.DataFrame(columns, index=pd.Index(intervals, name="interval"))


def false_positives(
    design: Design, sets: int = 1000, seed: int = 0, metric: str = "auc", **options
) -> float:
    """How often a paired difference of two equally good detectors leaves 0 out of its interval.

    options as in `seglib.metrics.measures`.
    """
    found = 0
    for at in _seeds(seed, sets):
        one = sample(design, at)
        lead = metrics.difference(one.labels, *one.scores, one.groups, metric, seed=at, **options)
        found += lead.low > 0 or lead.high < 0
    return found / sets


def _seeds(first: int, sets: int) -> tqdm:
    return tqdm(range(first, first + sets), "simulating", unit="set", delay=2, leave=False)
