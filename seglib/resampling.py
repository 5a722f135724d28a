"""Resampling groups: what is drawn, and where an interval ends.

A draw is a weight per item. Groups are drawn with replacement, as whole as they are, because what
they hold rises and falls together. Taught in chapter 03.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95
JACKKNIFE = 2000  # at most so many deletions, see `metrics.measures`
CHUNK = 2**15  # weights held at once: 256 kB an array stay in the processor's cache
METHODS = ("expanded", "percentile", "bca")


# -- the draws ---------------------------------------------------------------------------------


def drawn(
    groups: np.ndarray, count: int, seed: int, within: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`RESAMPLES` draws of as many groups as there are, and what they make each item weigh.

    Parameters
    ----------
    groups : (N,) of numbers below `count`
        The group of each item.
    within : bool
        Draw also items, with replacement, within each group drawn.

    Yields
    ------
    drawn : (B, count)
        How often each group was drawn; so many draws at a time that memory stays bounded.
    weights : (B, N)
    """
    rng, inner = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    chance = np.full(count, 1 / count)
    for draws in _chunks(max(len(groups), count), RESAMPLES):
        times = rng.multinomial(count, chance, size=len(draws))
        if within:
            yield times, _redrawn(inner, groups, times)
        else:
            yield times, np.take(times.astype(float), groups, axis=1)


def _redrawn(rng: np.random.Generator, groups: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """From each group as many items as its copies hold, with replacement; ``(B, N)``."""
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups, minlength=drawn.shape[1])
    place = np.arange(len(groups)) - (np.cumsum(sizes) - sizes)[groups[order]]
    left, weights = drawn * sizes, np.empty((len(drawn), len(groups)))
    # A multinomial, item by item: of those left, each gets its share among the items to come.
    for at in range(sizes.max()):
        items = order[place == at]
        own = groups[items]
        taken = rng.binomial(left[:, own], 1 / (sizes[own] - at))
        weights[:, items] = taken
        left[:, own] -= taken
    return weights


def deleted(groups: np.ndarray, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All groups but one, or but one block of them, for each; as `drawn`."""
    blocks_in_all = min(count, JACKKNIFE)
    block = np.random.default_rng(seed).permutation(count) % blocks_in_all
    for blocks in _chunks(max(len(groups), count), blocks_in_all):
        kept = np.not_equal.outer(blocks, block).astype(float)
        yield kept, np.take(kept, groups, axis=1)


def _chunks(width: int, draws: int) -> list[np.ndarray]:
    """So many draws at a time that memory stays bounded, however wide each is."""
    at_once = max(1, CHUNK // width)
    return np.split(np.arange(draws), range(at_once, draws, at_once))


# -- the ends ----------------------------------------------------------------------------------


def factor(count: int) -> float:
    """What makes a mean square of deviations from a mean unbiased."""
    return count / (count - 1)


def ends(
    method: str,
    groups: int,
    influence: float,
    value: float,
    resampled: np.ndarray,
    deleted: np.ndarray,
) -> tuple[float, float]:
    """Both ends of an interval by one of `METHODS`.

    Parameters
    ----------
    groups : int
        On how many the estimate stands. A single one tells nothing of how groups differ: NaN.
    influence : float
        How much of a group's influence the resamples show; the tails make up for the rest.
    value : float
        The estimate; resampled ``(R,)`` that of the draws, deleted ``(J,)`` of the jackknife.
    """
    if groups < 2:
        return np.nan, np.nan
    resampled = resampled[~np.isnan(resampled)]
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    reach = stats.norm.ppf(tails)
    if method != "percentile":
        reach = stats.t.ppf(tails, groups - 1) * np.sqrt(factor(groups)) / influence
    if method == "bca":
        reach = _accelerated(reach, value, resampled, deleted[~np.isnan(deleted)])
    return tuple(np.quantile(resampled, stats.norm.cdf(reach)))


def _accelerated(
    reach: np.ndarray, value: float, resampled: np.ndarray, deleted: np.ndarray
) -> np.ndarray:
    """Normal quantiles moved as in Efron & Tibshirani, *An Introduction to the Bootstrap*, 14.3."""
    below = stats.percentileofscore(resampled, value, "mean") / 100
    edge = 0.5 / len(resampled)  # where all resamples lie on one side of the estimate
    bias = stats.norm.ppf(np.clip(below, edge, 1 - edge))
    influence = deleted.mean() - deleted
    spread = np.sqrt((influence**2).sum())
    acceleration = (influence**3).sum() / (6 * spread**3) if spread else 0.0
    slowed = 1 - acceleration * (bias + reach)
    # Beyond its pole the formula would come back from the other side.
    with np.errstate(divide="ignore"):
        return np.where(slowed > 0, bias + (bias + reach) / slowed, np.sign(reach) * np.inf)
