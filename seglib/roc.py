"""ROC curves of many weightings of the same scored items, and what is read off them.

A bootstrap resample of 10 000 videos is a weight per video: how often it was drawn. The order of
the scores is the same in every resample, so they are sorted once, and cumulative sums of weights
give the curve of each. Unit weights give the estimate itself. Taught in chapter 03.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Curve:
    """ROC curves of B weightings, from "nothing is called fake" to "everything is".

    fakes and reals are ``(B, T + 1)``: the weight of fake and of bona fide items that score at or
    above each of T falling thresholds, one a distinct score; the first column is 0.
    """

    fakes: np.ndarray
    reals: np.ndarray

    @cached_property
    def pairs(self) -> np.ndarray:
        """Weight of all pairs of a fake and a bona fide item, ``(B,)``."""
        return self.fakes[:, -1] * self.reals[:, -1]

    @cached_property
    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """TPR and FPR, ``(B, T + 1)`` each; NaN where a class has no weight."""
        missing = np.where(self.pairs > 0, 1, np.nan)[:, None]
        return tuple(_ratio(sums, sums[:, -1:] * missing) for sums in (self.fakes, self.reals))

    def added(self, times: np.ndarray) -> Curve:
        """The curves of sums of these weightings, ``(D, B)``: each so many times.

        Weights add up along the ranking, so that the curve of a sum is the sum of the curves.
        """
        return Curve(times @ self.fakes, times @ self.reals)


@dataclass(frozen=True)
class Ranking:
    """Some of N items in falling order of their scores, sorted once.

    order ``(n,)``: the item at each rank; fake ``(n,)``: whether it is one; ends ``(T,)``: the
    last rank of each run of equal scores.
    """

    order: np.ndarray
    fake: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, fake: np.ndarray, scores: np.ndarray, items: np.ndarray) -> Ranking:
        """Sort `items`, ``(n,)`` indices of scores ``(N,)`` and of ``(N,)`` bool: is it fake?"""
        order = items[np.argsort(-scores[items], kind="stable")]
        falling = scores[order]
        ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
        return cls(order, fake[order], ends)

    @property
    def pairs(self) -> int:
        """How many pairs of a fake and a bona fide item there are."""
        return int(self.fake.sum() * (~self.fake).sum())

    def curve(self, weights: np.ndarray) -> Curve:
        """The ROC curves under ``(B, N)`` weights of the items, in the items' own order."""
        weights = np.take(weights, self.order, axis=1)
        fakes = weights * self.fake
        return Curve(self._summed(fakes), self._summed(weights - fakes))

    def _summed(self, weights: np.ndarray) -> np.ndarray:
        """What has accumulated at the end of each run of equal scores, after a first 0."""
        sums = np.zeros((len(weights), len(self.ends) + 1))
        np.take(weights.cumsum(1), self.ends, axis=1, out=sums[:, 1:])
        return sums


# What is read off a curve is (B,), and NaN where a class has no weight.


def wins(curve: Curve) -> np.ndarray:
    """Weight of the pairs in which the fake scores higher, a tie being half a win."""
    return np.einsum("bt,bt->b", *_heights(curve)) / 2


def wins_between(curve: Curve) -> np.ndarray:
    """Of the fakes of each weighting over the bona fide items of each, ``(B, B)``; see `wins`."""
    heights, widths = _heights(curve)
    return heights @ widths.T / 2


def pairs_between(curve: Curve) -> np.ndarray:
    """Weight of all pairs of a fake of each weighting and a bona fide item of each, ``(B, B)``."""
    return np.outer(curve.fakes[:, -1], curve.reals[:, -1])


def auc(curve: Curve) -> np.ndarray:
    """Area under the curve: the share of pairs that a fake wins."""
    return _ratio(wins(curve), curve.pairs)


def average_precision(curve: Curve) -> np.ndarray:
    """Precision averaged over the steps of recall, without interpolation, as in scikit-learn."""
    fakes, both = curve.fakes[:, 1:], curve.fakes[:, 1:] + curve.reals[:, 1:]
    # Above the highest score that was drawn there is no precision, and no step either.
    precision = np.divide(fakes, both, out=np.zeros_like(both), where=both > 0)
    steps = np.einsum("bt,bt->b", np.diff(curve.fakes), precision)
    return np.where(curve.pairs > 0, _ratio(steps, curve.fakes[:, -1]), np.nan)


def equal_error_rate(curve: Curve) -> np.ndarray:
    """The rate at which FPR and 1 - TPR meet on the linearly interpolated curve."""
    tpr, fpr = curve.rates
    excess = tpr + fpr - 1  # climbs from -1 to 1
    after, every = np.maximum((excess < 0).sum(1), 1), np.arange(len(excess))
    (x0, e0), (x1, e1) = ((fpr[every, at], excess[every, at]) for at in (after - 1, after))
    return x0 - e0 * _ratio(x1 - x0, e1 - e0)


def tpr_at_fpr(curve: Curve, level: float) -> np.ndarray:
    """The largest TPR of a threshold whose FPR does not exceed `level`.

    Nothing is interpolated: every value belongs to a threshold that can be set. With fewer than
    ``1 / level`` bona fide items it is the TPR above the highest of them.
    """
    tpr, fpr = curve.rates
    allowed = np.maximum((fpr <= level).sum(1), 1) - 1
    return tpr[np.arange(len(tpr)), allowed]


def placements(fake: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Of each fake the share of bona fide items below it, of these the share of fakes above.

    ``(N,)``, a tie being half, from mid-ranks; the mean over either class is the AUC.
    """
    below = stats.rankdata(scores)
    for kind in (fake, ~fake):
        below[kind] -= stats.rankdata(scores[kind])
    return np.where(fake, below / (~fake).sum(), 1 - below / fake.sum())


def _heights(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Twice the mean height of the curve over each of its steps, and their widths, ``(B, T)``."""
    return curve.fakes[:, 1:] + curve.fakes[:, :-1], np.diff(curve.reals)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / whole
