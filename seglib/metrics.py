"""AUC with intervals that respect shared identities, and paired differences.

Pictures of one person, and fakes made from them, rise and fall together: resampling pictures
one by one pretends to know more than it does. Here the bootstrap draws *groups* (connected
components of shared identities) with replacement. Taught in chapter 03.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from seglib.errors import SeglibError

RESAMPLES = 2000
LEVEL = 0.95


class OneClass(SeglibError, ValueError):
    """An AUC needs at least one fake and one bona fide item with a score."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, and on how much it stands.

    low and high are NaN where no interval can be had. They speak of the chance in who was
    scored, not in training; and where all resamples agree, as under perfect separation, they
    meet, however few the groups. coverage is the share of items that had a score at all; the
    others abstained and were dropped from the estimate.
    """

    value: float
    low: float
    high: float
    items: int
    groups: int
    coverage: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def auc(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    probes: np.ndarray | None = None,
) -> Interval:
    """Area under the ROC curve with a group-bootstrap interval.

    Parameters
    ----------
    labels : (N,) of 0 (bona fide) and 1 (fake)
    scores : (N,) or (S, N) float
        Higher means more fake. One row a seed: the estimate is the mean over the rows, and each
        resample is drawn for all rows at once. NaN means that the detector abstained.
    groups : (N,)
        Items that share an identity, directly or through others, share a group.
    probes : like scores, integers, optional
        Which probe gave each score. Scores of two probes have no common scale, so a fake is
        compared with the bona fide items of its own probe only (Forman & Scholz, *Apples-to-Apples
        in Cross-Validation Studies*, SIGKDD Explorations 12(1), 2010). Default: one probe a row.

    Raises
    ------
    OneClass
    """
    wins = _wins(labels, np.atleast_2d(scores), groups, probes)
    return _interval(wins.auc(), wins.resampled(seed), wins)


def difference(
    labels: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    probes: np.ndarray | None = None,
) -> Interval:
    """``AUC(a) - AUC(b)`` on the items that both have scored, resampled together; see `auc`."""
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    both = ~(np.isnan(a).any(0) | np.isnan(b).any(0))
    first, second = (_wins(labels, np.where(both, s, np.nan), groups, probes) for s in (a, b))
    return _interval(
        first.auc() - second.auc(), first.resampled(seed) - second.resampled(seed), first
    )


@dataclass(frozen=True)
class _Wins:
    """How often fakes of one group score above bona fide items of another.

    An AUC of any resample of groups is a ratio of two quadratic forms in how often each group
    was drawn; nothing has to be sorted again. wins and pairs are ``(G, G)``, fakes by bona fide,
    summed over seeds; fakes and reals are ``(G,)`` counts of items.
    """

    wins: np.ndarray
    pairs: np.ndarray
    fakes: np.ndarray
    reals: np.ndarray
    coverage: float

    def auc(self, drawn: np.ndarray | None = None) -> np.ndarray:
        """AUC for ``(..., G)`` draw counts; NaN where a draw holds no pair to compare.

        A group drawn twice stands for two groups, but its copies are not compared with each
        other: resamples would hold more pairs within a group than the sample, and be off centre.
        """
        drawn = np.ones(len(self.fakes)) if drawn is None else drawn

        def total(pairs: np.ndarray) -> np.ndarray:
            own = np.diag(pairs)
            return ((drawn @ (pairs - np.diag(own))) * drawn).sum(-1) + drawn @ own

        with np.errstate(invalid="ignore"):
            return total(self.wins) / total(self.pairs)

    def resampled(self, seed: int) -> np.ndarray:
        """AUC of `RESAMPLES` draws of as many groups as there are, the same for one seed."""
        count = len(self.fakes)
        rng = np.random.default_rng(seed)
        return self.auc(rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES))


def _wins(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, probes: np.ndarray | None
) -> _Wins:
    labels, (names, groups) = np.asarray(labels), np.unique(groups, return_inverse=True)
    scored = ~np.isnan(scores).any(0)
    fake, real = (labels == 1) & scored, (labels == 0) & scored
    if not fake.any() or not real.any():
        raise OneClass(
            f"{fake.sum()} fake and {real.sum()} bona fide items have a score; an AUC needs at "
            "least one of each. Check the labels (1 = fake) and the coverage."
        )
    wins, pairs = np.zeros((2, len(names), len(names)))
    by_probe = np.zeros(scores.shape, int) if probes is None else np.atleast_2d(probes)
    for row, made in zip(scores, by_probe, strict=True):
        for probe in np.unique(made):
            rivals, theirs = fake & (made == probe), real & (made == probe)
            members = np.bincount(groups[rivals], minlength=len(names))
            for column in np.unique(groups[theirs]):
                reals = np.sort(row[theirs & (groups == column)])
                # Ties count half: the mean of "below" and "not above".
                above = np.searchsorted(reals, row[rivals], "left")
                above = (above + np.searchsorted(reals, row[rivals], "right")) / 2
                wins[:, column] += np.bincount(groups[rivals], above, len(names))
                pairs[:, column] += members * len(reals)
    counts = [np.bincount(groups[kind], minlength=len(names)) for kind in (fake, real)]
    return _Wins(wins, pairs, *counts, coverage=float(scored.mean()))


def _interval(value: float, resampled: np.ndarray, wins: _Wins) -> Interval:
    """The percentile interval, its tails widened for few groups as Student's t would.

    With 15 or 20 groups the plain one covers nearer 90 than 95 %. The expansion is Hesterberg's
    (*What Teachers Should Know About the Bootstrap*, The American Statistician 69, 2015). A class
    that stands on a single group tells nothing of how groups differ: no interval, NaN.
    """
    present = wins.fakes + wins.reals
    low = high = np.nan
    count = min((wins.fakes > 0).sum(), (wins.reals > 0).sum())
    if count > 1:
        t = stats.t.ppf((1 - LEVEL) / 2, count - 1)
        tail = stats.norm.cdf(t * np.sqrt(count / (count - 1)))
        low, high = np.nanquantile(resampled, [tail, 1 - tail])
    items, groups = int(present.sum()), int((present > 0).sum())
    return Interval(float(value), float(low), float(high), items, groups, wins.coverage)
