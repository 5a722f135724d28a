"""How well scores tell fakes, with intervals that respect shared identities.

Videos of one person, and fakes made from them, rise and fall together: resampling videos one by
one pretends to know more than it does. Here the bootstrap draws *groups* (connected components of
shared identities) with replacement. A draw is a weight per item, see `seglib.roc`: the estimate
and every resample go through the same lines. Taught in chapter 03.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import expit

from seglib import resampling, roc
from seglib.errors import SeglibError
from seglib.items import ABSTENTIONS, BadItems, Items, MissingScores, OneClass, known

RANKED = {
    "auc": roc.auc,
    "ap": roc.average_precision,
    "eer": roc.equal_error_rate,
    "tpr@1%": partial(roc.tpr_at_fpr, level=0.01),
    "tpr@5%": partial(roc.tpr_at_fpr, level=0.05),
}
FEWEST = {"tpr@1%": 100, "tpr@5%": 20}  # bona fide items of a probe, else the rate is beyond reach
METRICS = (*RANKED, "accuracy", "brier")


class NoThreshold(SeglibError, ValueError):
    """Accuracy needs thresholds that were chosen on training groups."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, and on how much it stands.

    low and high are NaN where no interval can be had. They speak of the chance in who was
    scored, not in training; and where all resamples agree, as under perfect separation, they
    meet, however few the groups. coverage is the share of items that had a score at all, whatever
    rule says what the others count; method is one of `resampling.METHODS`, or ``"delong"``.
    """

    value: float
    low: float
    high: float
    items: int
    groups: int
    coverage: float
    method: str = "expanded"

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "none"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def share(found: int, asked: int) -> Interval:
    """A share of independent cases, say of people, with Wilson's interval (Wilson 1927)."""
    ends = stats.binomtest(int(found), asked).proportion_ci(method="wilson")
    return Interval(found / asked, *ends, asked, asked, 1.0, "wilson")


def measures(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    metrics: Sequence[str] | None = None,
    *,
    rival: np.ndarray | None = None,
    seed: int = 0,
    probes: np.ndarray | None = None,
    thresholds: np.ndarray | None = None,
    abstained: str | None = None,
    half: float = 0.0,
    method: str = "expanded",
    within: bool = False,
) -> dict[str, Interval]:
    """Metrics with group-bootstrap intervals, all from the same draws.

    Parameters
    ----------
    labels : (N,) of 0 (bona fide) and 1 (fake)
    scores : (N,) or (S, N) float
        Log-odds of being fake, 0 = undecided; for all but accuracy and Brier score only the order
        counts. One row a seed: the estimate is the mean over the rows, and each resample is drawn
        for all rows at once. NaN means that the detector abstained.
    groups : (N,)
        Items that share an identity, directly or through others, share a group.
    metrics : of `METRICS`, optional
        Default: all, accuracy only with thresholds. See `seglib.roc` for how each is defined. A
        TPR at an FPR is NaN where a probe scored too few bona fide items for it, see `FEWEST`.
    rival : like scores, optional
        Then each interval is of the paired difference: of `scores` less of `rival`.
    seed : int
        The draws are the same for one seed, so that intervals can be compared.
    probes : like scores, integers, optional
        Which probe gave each score. Scores of two probes have no common scale, so a fake is
        compared with the bona fide items of its own probe only (Forman & Scholz, *Apples-to-Apples
        in Cross-Validation Studies*, SIGKDD Explorations 12(1), 2010); probes are averaged by how
        many pairs they compare. Default: one probe a row.
    thresholds : (S, P), or a pair of these with a rival, optional
        Above its threshold probe p of row s calls an item fake. To be chosen on training groups.
    abstained : of `ABSTENTIONS`, optional
        What an item without a score counts: it is ``"dropped"``, gets the score `half`, or the
        ``"worst"`` there is. Default: a missing score is refused.
    half : float
        The score under the rule ``"half"``: at 0, probability 0.5, as SBI's evaluation does
        without saying so (Shiohara & Yamasaki, CVPR 2022).
    method : of `resampling.METHODS`
        ``"percentile"``; ``"expanded"``, its tails widened for few groups as Student's t would
        (Hesterberg, *What Teachers Should Know About the Bootstrap*, The American Statistician
        69, 2015); or ``"bca"`` (Efron, *Better Bootstrap Confidence Intervals*, JASA 82, 1987),
        widened too. With 15 or 20 groups the plain ones cover near 91 %, see `seglib.simulation`.
    within : bool
        Draw also items, with replacement, within each group drawn. That counts their chance
        twice (Davison & Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8):
        nominal 95 % intervals then cover nearly always, see `seglib.simulation`.

    Raises
    ------
    BadItems, MissingScores, OneClass, NoThreshold, seglib.errors.UnknownName

    Notes
    -----
    A group drawn twice stands for two groups, but the AUC does not compare its copies with each
    other: resamples would hold more pairs within a group than the sample, and be off centre. What
    that takes from the spread, tails other than the plain percentile's give back.
    BCa's acceleration is that of the delete-one-group jackknife. Of more groups than
    `resampling.JACKKNIFE` it deletes blocks, drawn at random: second and third moments of sums of
    independent influences add up, so their ratio stays.
    """
    metrics = _asked(metrics, thresholds)
    known("method", method, resampling.METHODS)
    several = [scores] if rival is None else [scores, rival]
    each = [thresholds] if rival is None or thresholds is None else list(thresholds)
    each = each * len(several) if thresholds is None else each
    if len(each) != len(several):
        raise BadItems(
            f"found thresholds of {len(each)} detectors; expected a pair, those of the scores and "
            "those of the rival."
        )
    items = Items.of(labels, several, groups, probes, abstained, half)
    cases = zip(items.scores, each, strict=True)
    detectors = [_Detector.of(items, *one, whole=not within) for one in cases]
    fewest = min(detector.fewest_reals for detector in detectors)
    shown = [name for name in metrics if fewest >= FEWEST.get(name, 0)]
    value, resampled, deleted = _resampled(
        shown, detectors, items.groups, items.count, items.fewest_groups, seed, method, within
    )
    found = {}
    for name in metrics:
        if name not in shown:
            found[name] = _interval(items, np.nan, np.nan, np.nan, method)
            continue
        kept = detectors[0].influence if name == "auc" else 1.0
        samples = value[name][0], resampled[name], deleted[name]
        ends = resampling.ends(method, items.fewest_groups, kept, *samples)
        found[name] = _interval(items, value[name][0], *ends, method)
    return found


def auc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, **options) -> Interval:
    """Area under the ROC curve with a group-bootstrap interval; options as in `measures`."""
    return measures(labels, scores, groups, ["auc"], **options)["auc"]


def difference(
    labels: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    groups: np.ndarray,
    metric: str = "auc",
    **options,
) -> Interval:
    """The metric of a less that of b, on the same items, resampled together; see `measures`."""
    return measures(labels, a, groups, [metric], rival=b, **options)[metric]


def mean(
    values: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int = 0,
    method: str = "expanded",
    abstained: str | None = None,
) -> Interval:
    """Mean of what was found of each item, say a share of hits or by how much a score moved.

    A resample is a weight an item here too: the mean of a draw is a ratio of two sums, of which
    both move. The difference of two means on the same items is ``mean(a - b, groups)``: the paired
    one, which leaves out an item that either has left out. Taught in chapter 05.

    Parameters
    ----------
    values : (N,) or (S, N) float or bool
        One row a seed; the estimate is the mean over the rows, as in `measures`. NaN means that
        nothing could be said of the item.
    groups, seed, method
        As in `measures`.
    abstained : ``"dropped"``, optional
        An item without a value, in whatever row, is left out, and `Interval.coverage` says how
        many are not. Default: a missing value is refused.

    Raises
    ------
    BadItems, MissingScores, seglib.errors.UnknownName
    """
    known("method", method, resampling.METHODS)
    values, groups = np.atleast_2d(np.asarray(values, float)), np.asarray(groups)
    kept = _valued(values, groups, abstained)
    group, names = pd.factorize(groups)
    group = group[kept]
    stands = len(np.unique(group))
    of_items = _Detector(len(values), [], {"mean": values[:, kept].mean(0)})
    found = _resampled(["mean"], [of_items], group, len(names), stands, seed, method)
    (value,), resampled, deleted = (one["mean"] for one in found)
    ends = resampling.ends(method, stands, 1.0, value, resampled, deleted)
    return Interval(*map(float, (value, *ends)), len(group), stands, float(kept.mean()), method)


def delong(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    rival: np.ndarray | None = None,
    abstained: str | None = None,
) -> Interval:
    """AUC, or its difference to a rival's, with an interval by normal approximation.

    A second opinion without resampling. Each fake's share of bona fide items below it, and each
    bona fide item's share of fakes above, take mid-ranks (DeLong, DeLong & Clarke-Pearson,
    Biometrics 44, 1988; Sun & Xu, IEEE Signal Processing Letters 21, 2014). With groups the
    shares are summed within each before their variance is taken (Obuchowski, *Nonparametric
    Analysis of Clustered ROC Curve Data*, Biometrics 53, 1997). Taught in chapter 03.

    Parameters
    ----------
    labels, scores, groups, rival, abstained
        As in `measures`. Without groups every item is its own. An AUC's interval ends at 0 and 1.

    Raises
    ------
    BadItems, MissingScores, OneClass
    """
    groups = np.arange(len(labels)) if groups is None else groups
    several = [scores] if rival is None else [scores, rival]
    items = Items.of(labels, several, groups, abstained=abstained)
    fake, count = items.fake, items.count
    shares = [np.mean([roc.placements(fake, row) for row in rows], 0) for rows in items.scores]
    share = shares[0] if rival is None else shares[0] - shares[1]
    value = share[fake].mean()
    reach = np.nan
    if items.fewest_groups > 1:
        sums = [
            np.bincount(items.groups[kind], share[kind] - value, count) / kind.sum()
            for kind in (fake, ~fake)
        ]
        variance = resampling.factor(count) * 2 * (sums[0] @ sums[1]) + sum(
            resampling.factor(len(np.unique(items.groups[kind]))) * (own @ own)
            for kind, own in zip((fake, ~fake), sums, strict=True)
        )
        reach = stats.norm.isf((1 - resampling.LEVEL) / 2) * np.sqrt(max(variance, 0))
    floor = 0.0 if rival is None else -1.0
    ends = np.clip([value - reach, value + reach], floor, 1.0)
    return _interval(items, value, *ends, "delong")


def reliability(
    labels: np.ndarray, scores: np.ndarray, bins: int = 10, abstained: str | None = None
) -> pd.DataFrame:
    """How often items of one predicted probability are fake, in bins of equal counts.

    Parameters
    ----------
    labels, scores, abstained
        As in `measures`; all rows of scores count as items.

    Returns
    -------
    DataFrame with the columns ``predicted`` (mean probability), ``observed`` (share of fakes) and
    ``items``, one row a bin; scores that are equal share a bin, so there may be fewer.

    Raises
    ------
    BadItems, MissingScores, OneClass
    """
    items = Items.of(labels, [scores], np.arange(len(labels)), abstained=abstained)
    predicted = expit(items.scores[0]).ravel()
    edges = np.quantile(predicted, np.arange(1, bins) / bins)
    table = pd.DataFrame(
        {"predicted": predicted, "observed": np.tile(items.fake, len(items.scores[0]))}
    )
    found = table.groupby(np.searchsorted(edges, predicted))
    means = found.mean().assign(items=found.size())
    return means.reset_index(drop=True).rename_axis("bin")


def _interval(items: Items, value: float, low: float, high: float, method: str) -> Interval:
    groups = len(np.unique(items.groups))
    ends = float(value), float(low), float(high)
    return Interval(*ends, len(items.fake), groups, items.coverage, method)


def _asked(metrics: Sequence[str] | None, thresholds: object) -> tuple[str, ...]:
    """The metrics asked for, all by default; accuracy only where there are thresholds."""
    if metrics is None:
        return tuple(name for name in METRICS if thresholds is not None or name != "accuracy")
    for name in metrics:
        known("metric", name, METRICS)
    if "accuracy" in metrics and thresholds is None:
        raise NoThreshold(
            "accuracy was asked for, and no thresholds were given. Pass those that the probe "
            "chose on its training groups; one chosen on these items would flatter it."
        )
    return tuple(metrics)


def _valued(values: np.ndarray, groups: np.ndarray, abstained: str | None) -> np.ndarray:
    """Which items have a value in every row, ``(N,)`` bool; refuse what `mean` cannot take."""
    if values.ndim != 2 or groups.shape != values.shape[1:] or not len(groups):
        raise BadItems(
            f"found values {values.shape} and groups {groups.shape}; expected (S, N) or (N,), and "
            "(N,), of the same N > 0 items in the same order."
        )
    if abstained is not None:
        known("rule for abstained items", abstained, ABSTENTIONS[:1])
    kept = ~np.isnan(values).any(0)
    for error, found, rows in (
        (BadItems, "no group (NaN)", pd.isna(groups)),
        (MissingScores, "an infinite value", np.isinf(values).any(0)),
        (MissingScores, "no value (NaN)", ~kept & (abstained is None or not kept.any())),
    ):
        if rows.any():
            first = ", ".join(map(str, np.flatnonzero(rows)[:5]))
            raise error(
                f"{rows.sum()} of {len(rows)} items have {found}, the first in rows {first}; "
                "expected a group and a finite value each. Those without a value, unless all are, "
                'can be left out: abstained="dropped".'
            )
    return kept


# -- the estimate ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stratum:
    """What one probe scored in one row; wins and pairs ``(G,)`` are those within each group.

    alone: the curve of each group by itself, where groups are drawn as whole as they are, and are
    few enough to be held.
    """

    ranking: roc.Ranking
    wins: np.ndarray
    pairs: np.ndarray
    alone: roc.Curve | None

    @classmethod
    def of(cls, items: Items, scores: np.ndarray, chosen: np.ndarray, whole: bool) -> _Stratum:
        fake, groups = items.fake[chosen], items.groups[chosen]
        levels, level = np.unique(scores[chosen], return_inverse=True)
        place = groups * len(levels) + level  # by group, then by score
        reals, fakes = np.sort(place[~fake]), place[fake]
        # Ties count half: the mean of "below" and "not above".
        below = sum(np.searchsorted(reals, fakes, side) for side in ("left", "right")) / 2
        below -= np.searchsorted(reals, groups[fake] * len(levels))
        wins = np.bincount(groups[fake], below, items.count)
        counts = [np.bincount(groups[kind], minlength=items.count) for kind in (fake, ~fake)]
        ranking, alone = roc.Ranking.of(items.fake, scores, chosen), None
        if whole and items.count * len(items.fake) <= resampling.CHUNK:
            alone = ranking.curve(
                np.equal.outer(np.arange(items.count), items.groups).astype(float)
            )
        return cls(ranking, wins, np.multiply(*counts), alone)

    def curve(self, drawn: np.ndarray, weights: np.ndarray) -> roc.Curve:
        """That of each draw, from its groups where it can be: sorted and summed only once."""
        return self.ranking.curve(weights) if self.alone is None else self.alone.added(drawn)


@dataclass(frozen=True)
class _Detector:
    """One detector's scores: strata in which only the order counts, and means over its rows.

    rows: how many; means: for accuracy and Brier score what each item adds, ``(N,)``.
    """

    rows: int
    strata: list[_Stratum]
    means: dict[str, np.ndarray]

    @classmethod
    def of(
        cls, items: Items, scores: np.ndarray, thresholds: np.ndarray | None, whole: bool
    ) -> _Detector:
        made = np.zeros(scores.shape, int) if items.probes is None else items.probes
        strata = [
            _Stratum.of(items, row, chosen, whole)
            for row, by in zip(scores, made, strict=True)
            for chosen in (np.flatnonzero(by == probe) for probe in np.unique(by))
            if 0 < items.fake[chosen].sum() < len(chosen)
        ]
        if not strata:
            raise OneClass(
                "no probe has scored both a fake and a bona fide item, and scores of two probes "
                "have no common scale; expected one that has. Check probes and labels."
            )
        means = {"brier": ((expit(scores) - items.fake) ** 2).mean(0)}
        if thresholds is not None:
            thresholds = np.atleast_2d(thresholds)
            if len(thresholds) != len(scores) or made.max() >= thresholds.shape[1]:
                raise BadItems(
                    f"found thresholds {thresholds.shape} for {len(scores)} rows of scores by "
                    f"{made.max() + 1} probes; expected one a row and probe, (S, P)."
                )
            called = scores > np.take_along_axis(thresholds, made, 1)
            means["accuracy"] = (called == items.fake).mean(0)
        return cls(len(scores), strata, means)

    @property
    def fewest_reals(self) -> int:
        """How many bona fide items the probe scored that scored the fewest."""
        return min(int((~stratum.ranking.fake).sum()) for stratum in self.strata)

    @property
    def influence(self) -> float:
        """How much of a group's influence on the AUC is left where copies are not compared.

        Of G groups alike one is compared with G - 1 others, not with G, in a resample that holds
        it twice. Several probes make up for it: resamples also differ in how much each weighs.
        """
        if len(self.strata) > self.rows:
            return 1.0
        own = sum(stratum.pairs.sum() for stratum in self.strata)
        return float(1 - own / sum(stratum.ranking.pairs for stratum in self.strata))

    @cached_property
    def between(self) -> list[np.ndarray] | None:
        """What the fakes of each group win over the bona fide items of each, and how many pairs
        they make, ``(G, G)`` each, in all strata; where these hold the groups' own curves.

        With them the AUC of a draw of whole groups is a ratio of quadratic forms.
        """
        alone = [stratum.alone for stratum in self.strata]
        if None in alone:
            return None
        return [sum(map(of, alone)) for of in (roc.wins_between, roc.pairs_between)]

    def values(
        self, metrics: Sequence[str], drawn: np.ndarray, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Each metric under ``(B, N)`` weights of the items, ``(B,)``; NaN where there is none.

        drawn ``(B, G)``: how often each group was.
        """
        # So many pairs of copies a group makes, none of which are compared. A second stage draws
        # each copy's items anew: then this is what they are expected to win.
        again = drawn * (drawn - 1.0)
        ranked = [name for name in metrics if name in RANKED]
        with np.errstate(invalid="ignore", divide="ignore"):
            found = {
                name: weights @ self.means[name] / weights.sum(1)
                for name in metrics
                if name not in RANKED
            }
            if "auc" in ranked and self.between is not None:
                ranked.remove("auc")
                won, compared = (
                    np.einsum("bg,bg->b", drawn @ of, drawn) - again @ of.diagonal()
                    for of in self.between
                )
                found["auc"] = won / compared
            return found | self._summed(ranked, drawn, weights, again)

    def _summed(
        self, ranked: Sequence[str], drawn: np.ndarray, weights: np.ndarray, again: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Metrics of the order of scores, by how many pairs each stratum compares."""
        sums, pairs = dict.fromkeys(ranked, 0), 0
        for stratum in self.strata if ranked else ():
            curve = stratum.curve(drawn, weights)
            apart = curve.pairs - again @ stratum.pairs
            pairs = pairs + np.maximum(apart, 0)
            for name in ranked:
                if name == "auc":
                    total = roc.wins(curve) - again @ stratum.wins
                else:
                    total = RANKED[name](curve) * apart
                sums[name] = sums[name] + np.where(apart > 0, total, 0)
        return {name: sums[name] / pairs for name in ranked}


def _resampled(
    metrics: Sequence[str],
    detectors: Sequence[_Detector],
    groups: np.ndarray,
    count: int,
    stands: int,
    seed: int,
    method: str,
    within: bool = False,
) -> tuple[dict[str, np.ndarray], ...]:
    """Each metric itself, of all draws, and, where the method asks for it, of the jackknife.

    stands: on how many groups they stand; a single one is not resampled.
    """
    estimate = partial(_estimated, metrics, detectors)
    value = estimate([(np.ones((1, count)), np.ones((1, len(groups))))])
    resampled = deleted = value
    if stands > 1:
        resampled = estimate(resampling.drawn(groups, count, seed, within))
        if method == "bca":
            deleted = estimate(resampling.deleted(groups, count, seed))
    return value, resampled, deleted


def _estimated(
    metrics: Sequence[str],
    detectors: Sequence[_Detector],
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Each metric, or its paired difference, for all draws of all chunks."""
    found = {name: [] for name in metrics}
    for drawn, weights in chunks:
        values = [detector.values(metrics, drawn, weights) for detector in detectors]
        for name, several in found.items():
            several.append(np.subtract.reduce([value[name] for value in values]))
    return {name: np.concatenate(several) for name, several in found.items()}
