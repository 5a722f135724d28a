"""Metrics and their intervals against scikit-learn, scipy, MLstatkit, and slow, plain loops."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from MLstatkit import Delong_test
from scipy import stats
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    roc_auc_score,
    roc_curve,
)

from seglib import metrics, resampling
from seglib.errors import UnknownName
from seglib.items import ABSTENTIONS, BadItems, MissingScores, OneClass
from seglib.metrics import NoThreshold

THRESHOLDS = {"thresholds": [[0.4]]}


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    """What is tested here holds for any number of them, and hypothesis asks a hundred times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "RESAMPLES", 100)
        patch.setattr(metrics, "FEWEST", {})  # it has a test of its own
        yield


@st.composite
def scored(draw, rows=None):
    """Labels of both classes, scores with many ties (one row or several), groups."""
    count = draw(st.integers(4, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = rng.integers(0, 2, count)
    assume(0 < labels.sum() < count)
    shape = (rows or draw(st.integers(1, 3)), count)
    levels = draw(st.sampled_from([2, 5, 1000]))
    return labels, rng.integers(0, levels, shape) / 7, rng.integers(0, 8, count)


def clustered(people=20, each=20, lead=0.8, spread=0.5, person=0.8, seed=0):
    """A fake of every picture; what pictures of one person, and a fake and its picture, share."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(people), each)
    shared = rng.normal(0, spread, people)[who] + rng.normal(0, person, who.size)
    noise = rng.normal(0, np.sqrt(1 - person**2), (2, who.size))
    strength = rng.normal(lead, 0.3, people)[who]  # some people are easier to forge
    scores = np.concatenate([shared + noise[0], shared + strength + noise[1]])
    return np.repeat([0, 1], who.size), scores, np.tile(who, 2)


@given(scored(), st.integers(1, 4), st.integers(0, 99))
def test_only_scores_of_one_probe_are_compared(case, count, seed):
    labels, scores, groups = case
    made = np.random.default_rng(seed).integers(0, count, scores.shape)
    won = compared = 0
    for row, by in zip(scores, made, strict=True):
        for fake in np.flatnonzero(labels == 1):
            rivals = row[(labels == 0) & (by == by[fake])]
            won += (row[fake] > rivals).sum() + (row[fake] == rivals).sum() / 2
            compared += rivals.size
    assume(compared)
    found = metrics.auc(labels, scores, groups, probes=made)
    assert found.value == pytest.approx(won / compared)
    # A probe of its own scale cannot move the estimate.
    assert metrics.auc(labels, scores + 100 * made, groups, probes=made).value == found.value


# -- the estimate ------------------------------------------------------------------------------


@given(scored())
def test_auc_equals_scikit_learns_on_scores_with_ties(case):
    labels, scores, groups = case
    expected = np.mean([roc_auc_score(labels, row) for row in scores])
    found = metrics.auc(labels, scores, groups)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.items, found.coverage) == (len(labels), 1)
    assert found.groups == len(set(groups.tolist()))


@given(scored(rows=1))
def test_only_the_order_of_scores_counts(case):
    labels, scores, groups = case
    plain = metrics.auc(labels, scores, groups)
    assert metrics.auc(labels, np.exp(scores) * 3 - 100, groups) == plain
    turned = metrics.auc(labels, -scores, groups)
    assert turned.value == pytest.approx(1 - plain.value)
    if not np.isnan(plain.low):
        assert (turned.low, turned.high) == pytest.approx((1 - plain.high, 1 - plain.low))


@given(scored())
def test_names_of_groups_do_not_matter(case):
    labels, scores, groups = case
    named = np.array([f"couple {group:02d}" for group in groups])
    np.testing.assert_equal(metrics.auc(labels, scores, named), metrics.auc(labels, scores, groups))


def test_perfect_and_constant_and_reversed_scores():
    labels, _, groups = clustered(people=6, each=2)
    for scores, value in ((labels, 1), (np.zeros(24), 0.5), (-labels, 0)):
        found = metrics.auc(labels, scores.astype(float), groups)
        assert (found.value, found.low, found.high) == pytest.approx((value,) * 3)


def test_rows_are_seeds_and_not_more_evidence():
    labels, scores, groups = clustered()
    one, thrice = (metrics.auc(labels, np.stack([scores] * n), groups) for n in (1, 3))
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((one.value, one.low, one.high))
    assert thrice.items == one.items


# -- abstentions -------------------------------------------------------------------------------


@given(scored(), st.integers(0, 2**32 - 1))
def test_a_missing_score_is_dropped_and_lowers_coverage(case, seed):
    labels, scores, groups = case
    absent = np.random.default_rng(seed).random(len(labels)) < 0.3
    assume(0 < labels[~absent].sum() < (~absent).sum())
    holed = scores.copy()
    holed[-1, absent] = np.nan  # one seed that abstains is enough: all rows score the same items
    found = metrics.auc(labels, holed, groups, abstained="dropped")
    expected = np.mean([roc_auc_score(labels[~absent], row[~absent]) for row in scores])
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.items == (~absent).sum()
    assert found.groups == len(set(groups[~absent].tolist()))
    assert found.coverage == pytest.approx((~absent).mean())


def test_one_class_alone_has_no_auc():
    groups = np.arange(4)
    with pytest.raises(OneClass, match="4 fake and 0 bona fide"):
        metrics.auc(np.ones(4), np.arange(4.0), groups)
    labels, scores = np.array([0, 0, 1, 1]), np.array([1, 2, np.nan, np.nan])
    with pytest.raises(OneClass, match="0 fake and 2 bona fide"):
        metrics.auc(labels, scores, groups, abstained="dropped")
    with pytest.raises(OneClass):
        metrics.difference(labels, np.arange(4.0), scores, groups, abstained="dropped")


# -- the interval ------------------------------------------------------------------------------


def plain_auc(labels, scores, groups, copies, made):
    """Share of pairs won, by the plainest of loops.

    Compared are a fake and a bona fide item that one probe scored, except between two copies of
    a group that was drawn more than once.
    """
    won = compared = 0
    for row, by in zip(scores, made, strict=True):
        for fake in np.flatnonzero(labels == 1):
            apart = (groups == groups[fake]) & (copies != copies[fake])
            rivals = row[(labels == 0) & (by == by[fake]) & ~apart]
            won += (row[fake] > rivals).sum() + (row[fake] == rivals).sum() / 2
            compared += rivals.size
    return won / compared if compared else np.nan


def plain_bootstrap(labels, several, groups, seed, made=None):
    """AUC of each of `several` on resamples with every item copied out."""
    names = np.unique(groups)
    chance = np.full(len(names), 1 / len(names))
    draws = np.random.default_rng(seed).multinomial(len(names), chance, resampling.RESAMPLES)
    scored = ~np.isnan(np.concatenate(several)).any(0)
    made = np.zeros((2, labels.size), int) if made is None else made
    aucs = []
    for drawn in draws:
        items, copies = [], []
        for name, times in zip(names, drawn, strict=True):
            for copy in range(times):
                members = np.flatnonzero((groups == name) & scored)
                items.extend(members)
                copies.extend([copy] * members.size)
        copies, at = np.array(copies), np.array(items, int)
        aucs.append(
            [
                plain_auc(labels[at], s[:, at], groups[at], copies, made[: len(s), at])
                for s in several
            ]
        )
    return np.array([row for row in aucs if not np.isnan(row).any()])


def expanded(resampled, groups, influence=1.0):
    """Hesterberg's expanded percentile interval, and what copies not compared take from it."""
    reach = np.sqrt(groups / (groups - 1)) * stats.t.ppf(0.025, groups - 1)
    tail = stats.norm.cdf(reach / influence)
    return np.quantile(resampled, [tail, 1 - tail])


@pytest.mark.parametrize("absent", [0, 0.2])
@pytest.mark.parametrize("probes", [1, 3])
def test_the_interval_equals_a_plain_slow_bootstrap(monkeypatch, probes, absent):
    monkeypatch.setattr(resampling, "RESAMPLES", 100)
    seed = probes + round(10 * absent)
    rng = np.random.default_rng(seed)
    labels, scores, groups = clustered(people=7, each=3, seed=seed)
    rows, rival = (np.round(scores + rng.normal(0, s, (2, scores.size)), 1) for s in (0.3, 2))
    rows[:, rng.random(scores.size) < absent] = np.nan
    made = np.stack([rng.permutation(7)[groups] % probes for _ in range(2)])
    own, other = plain_bootstrap(labels, [rows, rival], groups, seed, made).T
    options = {"seed": seed, "probes": made, "abstained": "dropped"}
    lead = metrics.difference(labels, rows, rival, groups, **options)
    scored = ~np.isnan(rows).any(0)
    fakes, reals = (np.bincount(groups[scored & (labels == kind)]) for kind in (1, 0))
    influence = 1.0 if probes > 1 else 1 - (fakes @ reals) / (fakes.sum() * reals.sum())
    assert (lead.low, lead.high) == pytest.approx(expanded(own - other, 7, influence))
    own = plain_bootstrap(labels, [rows], groups, seed, made)[:, 0]
    found = metrics.auc(labels, rows, groups, **options)
    assert (found.low, found.high) == pytest.approx(expanded(own, 7, influence))


def test_resamples_of_one_class_are_left_out(monkeypatch):
    """Real and fake people apart: some draws hold only one kind."""
    monkeypatch.setattr(resampling, "RESAMPLES", 100)
    labels, groups = np.repeat([0, 1], 6), np.repeat(np.arange(4), 3)
    scores = np.random.default_rng(0).normal(labels, 1)
    resampled = plain_bootstrap(labels, [scores[None]], groups, 0)[:, 0]
    assert len(resampled) < 300
    found = metrics.auc(labels, scores, groups)
    # Only two groups hold fakes, only two hold bona fide pictures: two is what the tails go by.
    assert (found.low, found.high) == pytest.approx(expanded(resampled, 2))


def test_a_seed_fixes_the_interval():
    case = clustered()
    assert metrics.auc(*case, seed=1) == metrics.auc(*case, seed=1)
    assert metrics.auc(*case, seed=1) != metrics.auc(*case, seed=2)


@pytest.mark.parametrize(
    "groups",
    [[0] * 8, [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 2, 2]],
    ids=["one", "one a class", "one for a class"],
)
def test_a_class_in_a_single_group_gets_no_interval(groups):
    labels, scores = np.repeat([0, 1], 4), np.array([0, 1, 2, 5, 3, 4, 6, 7.0])
    found = metrics.auc(labels, scores, np.array(groups))
    assert found.value == pytest.approx(14 / 16)
    assert np.isnan([found.low, found.high]).all()
    assert "nan" in str(found)


def test_two_groups_give_the_widest_interval_they_can():
    labels, groups = np.tile([0, 0, 1, 1], 2), np.repeat([0, 1], 4)
    scores = np.array([0, 1, 2, 3, 2, 3, 0, 1.0])  # perfect in one group, upside down in the other
    found = metrics.auc(labels, scores, groups)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0, 1))


def test_the_interval_is_wider_where_pictures_of_a_person_are_alike(monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 2000)
    labels, scores, groups = clustered(spread=1.0, person=0.2)
    by_person = metrics.auc(labels, scores, groups)
    naive = metrics.auc(labels, scores, np.arange(labels.size))
    assert by_person.value == pytest.approx(naive.value)
    assert by_person.high - by_person.low > 1.15 * (naive.high - naive.low)


# -- paired differences ------------------------------------------------------------------------


@given(scored(), st.integers(0, 2**32 - 1))
def test_a_difference_is_that_of_the_aucs_on_common_items(case, seed):
    labels, a, groups = case
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(2, labels.size))
    a, b = (np.where(rng.random(labels.size) < 0.15, np.nan, s) for s in (a, b))
    both = ~(np.isnan(a).any(0) | np.isnan(b).any(0))
    assume(0 < labels[both].sum() < both.sum())
    found = metrics.difference(labels, a, b, groups, abstained="dropped")
    first, second = (np.mean([roc_auc_score(labels[both], r[both]) for r in s]) for s in (a, b))
    assert found.value == pytest.approx(first - second, abs=1e-12)
    assert (found.items, found.coverage) == (both.sum(), pytest.approx(both.mean()))
    back = metrics.difference(labels, b, a, groups, abstained="dropped")
    np.testing.assert_allclose(
        [back.value, back.low, back.high], [-found.value, -found.high, -found.low], atol=1e-12
    )


def test_a_probe_is_no_better_than_itself():
    labels, scores, groups = clustered()
    same = metrics.difference(labels, scores, scores, groups)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_pairing_narrows_the_interval():
    """Two probes that read the same picture rise and fall together."""
    labels, scores, groups = clustered()
    rng = np.random.default_rng(0)
    a, b = (scores + rng.normal(0, 0.3, scores.size) for _ in range(2))
    paired = metrics.difference(labels, a, b, groups)
    alone = [metrics.auc(labels, s, groups) for s in (a, b)]
    assert paired.high - paired.low < 0.5 * sum(one.high - one.low for one in alone)


# -- the other metrics -------------------------------------------------------------------------


def theirs(labels, row):
    """Each metric as scikit-learn has it."""
    fpr, tpr, _ = roc_curve(labels, row, drop_intermediate=False)
    return {
        "auc": roc_auc_score(labels, row),
        "ap": average_precision_score(labels, row),
        "tpr@1%": tpr[fpr <= 0.01].max(),
        "tpr@5%": tpr[fpr <= 0.05].max(),
        "accuracy": accuracy_score(labels, row > 0.4),
        "brier": brier_score_loss(labels, expit(row)),
    }


@given(scored())
def test_every_metric_equals_scikit_learns_averaged_over_rows(case):
    labels, scores, groups = case
    found = metrics.measures(labels, scores, groups, thresholds=[[0.4]] * len(scores))
    assert tuple(found) == metrics.METRICS
    several = [theirs(labels, row) for row in scores]
    for name in several[0]:
        expected = np.mean([one[name] for one in several])
        assert found[name].value == pytest.approx(expected, abs=1e-12)


@given(scored(), st.sampled_from(metrics.METRICS))
def test_metrics_asked_for_together_are_those_asked_for_alone(case, name):
    labels, scores, groups = case
    options = {"thresholds": [[0.4]] * len(scores), "seed": 3}
    together = metrics.measures(labels, scores, groups, **options)
    alone = metrics.measures(labels, scores, groups, [name], **options)
    np.testing.assert_equal(alone[name], together[name])


def test_probes_of_their_own_scale_move_no_metric_of_the_order():
    labels, scores, groups = clustered()
    made = groups % 3
    plain, moved = (
        metrics.measures(labels, s, groups, list(metrics.RANKED), probes=made)
        for s in (scores, scores + 50 * made)
    )
    assert plain == moved


def test_accuracy_goes_by_the_threshold_of_the_probe_that_scored():
    labels, groups = np.array([0, 1, 0, 1]), np.arange(4)
    scores, made = np.array([[1.0, 2, 11, 12], [1, 2, 2, 1]]), np.array([[0, 0, 1, 1]] * 2)
    options = {"probes": made, "thresholds": [[1.5, 11.5], [1.5, 1.5]]}
    found = metrics.measures(labels, scores, groups, ["accuracy"], **options)["accuracy"]
    assert found.value == pytest.approx(6 / 8)
    on_it = metrics.measures(labels, scores[0], groups, ["accuracy"], thresholds=[[2]])
    assert on_it["accuracy"].value == pytest.approx(1 / 2)  # 2 itself is not called fake
    pair = {"probes": made[0], "thresholds": ([[1.5, 11.5]], [[0.0, 0.0]])}
    lead = metrics.difference(labels, scores[0], scores[0], groups, "accuracy", **pair)
    assert lead.value == pytest.approx(1 - 0.5)


def test_accuracy_without_thresholds_is_left_out_or_refused():
    case = clustered(people=4, each=3)
    assert set(metrics.METRICS) - set(metrics.measures(*case)) == {"accuracy"}
    with pytest.raises(NoThreshold, match="training groups"):
        metrics.measures(*case, ["accuracy"])
    with pytest.raises(BadItems, match=r"thresholds \(2, 1\) for 1 rows"):
        metrics.measures(*case, thresholds=[[0], [0]])
    with pytest.raises(BadItems, match="thresholds of 1 detectors; expected a pair"):
        metrics.difference(*case[:2], *case[1:], "accuracy", thresholds=[[0]])
    with pytest.raises(BadItems, match="by 2 probes"):
        metrics.measures(*case, probes=case[2] % 2, thresholds=[[0]])


# -- agreement with scipy and with MLstatkit ---------------------------------------------------


def single(count=60, seed=0):
    """Every item its own group."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return labels, rng.normal(labels, 1), np.arange(count)


def share_won(labels, scores, weights=None):
    """AUC of each row of weights, from counts of pairs: no rounding but that of one division."""
    weights = np.ones((1, len(labels))) if weights is None else weights
    fakes, reals = scores[labels == 1][:, None], scores[labels == 0]
    won = (fakes > reals) + (fakes == reals) / 2
    fakes, reals = weights[:, labels == 1], weights[:, labels == 0]
    return ((fakes @ won) * reals).sum(1) / (fakes.sum(1) * reals.sum(1))


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize(("count", "digits"), [(60, 9), (10, 0)], ids=["plain", "ties"])
def test_scipys_bootstrap_makes_the_same_interval_of_our_resamples(method, count, digits):
    labels, scores, groups = single(count)
    scores = np.round(scores, digits)
    draws = np.random.default_rng(0).multinomial(
        count, np.full(count, 1 / count), resampling.RESAMPLES
    )

    ours = metrics.auc(labels, scores, groups, method=method)
    each = count // 2
    tail = stats.norm.cdf(np.sqrt(each / (each - 1)) * stats.t.ppf(0.025, each - 1))
    level = 0.95 if method == "percentile" else 1 - 2 * tail
    # Something for scipy to hang the resamples on; none is drawn.
    before = stats.bootstrap((np.arange(3.0),), np.mean, n_resamples=2)
    before.bootstrap_distribution = share_won(labels, scores, draws)
    found = stats.bootstrap(
        (labels, scores), lambda *of: share_won(*of)[0], paired=True, vectorized=False,
        method=method, confidence_level=level, n_resamples=0, bootstrap_result=before,
    ).confidence_interval  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx((found.low, found.high), abs=1e-12)


@pytest.mark.slow
def test_scipys_own_resamples_give_nearly_the_same_interval(monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 2000)
    labels, scores, groups = single(200)
    ours = metrics.auc(labels, scores, groups, method="percentile")
    found = stats.bootstrap(
        (labels, scores), roc_auc_score, paired=True, vectorized=False, method="percentile",
        n_resamples=1000, rng=0,
    ).confidence_interval  # fmt: skip
    assert (ours.low, ours.high) == pytest.approx((found.low, found.high), abs=0.01)


def test_the_jackknife_in_blocks_accelerates_alike(monkeypatch):
    labels, scores, groups = clustered(people=400, each=2, lead=2.0)
    plain, alone = (metrics.auc(labels, scores, groups, method=m) for m in ("expanded", "bca"))
    monkeypatch.setattr(resampling, "JACKKNIFE", 100)
    blocks = metrics.auc(labels, scores, groups, method="bca")
    assert blocks != alone
    assert (blocks.low, blocks.high) == pytest.approx((alone.low, alone.high), abs=0.002)
    assert alone.low < plain.low  # an AUC near 1 has its long tail below


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("digits", [1, 9])
def test_delong_equals_mlstatkits(seed, digits):
    rng = np.random.default_rng(seed)
    labels, a, _ = single(80 + seed, seed)
    a, b = np.round(a, digits), np.round(a / 2 + rng.normal(labels / 2, 1), digits)
    z, _, first, second, auc_a, auc_b, _ = Delong_test(labels, a, b)
    for scores, value, ends in ((a, auc_a, first), (b, auc_b, second)):
        found = metrics.delong(labels, scores)
        assert (found.value, found.low, found.high) == pytest.approx((value, *ends), abs=1e-12)
    lead = metrics.delong(labels, a, rival=b)
    error = (lead.high - lead.low) / 2 / stats.norm.isf(0.025)
    assert -lead.value / error == pytest.approx(z, abs=1e-9)


def test_clustered_delong_is_near_the_bootstrap():
    labels, scores, groups = clustered(people=60, each=10)
    ours, second = metrics.auc(labels, scores, groups), metrics.delong(labels, scores, groups)
    assert second.value == pytest.approx(ours.value)
    assert (second.low, second.high) == pytest.approx((ours.low, ours.high), abs=0.01)
    assert (second.items, second.groups, second.method) == (1200, 60, "delong")


def test_copies_of_every_item_are_no_more_evidence():
    case = single()
    four = [np.tile(of, 4) for of in case]
    one, copied = metrics.delong(*case), metrics.delong(*four)
    assert (copied.low, copied.high) == pytest.approx((one.low, one.high))
    naive = metrics.delong(*four[:2])
    assert naive.high - naive.low == pytest.approx((one.high - one.low) / 2, rel=0.05)


def test_clustered_delong_follows_obuchowskis_sums():
    """Equations 3 to 5 of Obuchowski 1997, in loops."""
    labels, scores, groups = clustered(people=5, each=3)
    scores = np.round(scores, 1)
    x, y = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    won = (scores[x][:, None] > scores[y]) + (scores[x][:, None] == scores[y]) / 2
    sums = [
        [
            (won[groups[x] == g].mean(1) - won.mean()).sum(),
            (won[:, groups[y] == g].mean(0) - won.mean()).sum(),
        ]
        for g in range(5)
    ]
    (s10, s11), (_, s01) = np.array(sums).T @ np.array(sums) * 5 / 4
    error = np.sqrt(s10 / 15**2 + s01 / 15**2 + 2 * s11 / 15**2)
    found = metrics.delong(labels, scores, groups)
    assert found.high - found.value == pytest.approx(stats.norm.isf(0.025) * error)


def test_delong_takes_rows_and_gives_no_interval_for_a_class_in_one_group():
    labels, scores, groups = clustered(people=6, each=3)
    one, thrice = (metrics.delong(labels, np.stack([scores] * n), groups) for n in (1, 3))
    assert (one.low, one.high) == pytest.approx((thrice.low, thrice.high))
    alone = metrics.delong(labels, scores, np.where(labels == 1, 9, groups))
    assert alone.value == pytest.approx(one.value)
    assert np.isnan([alone.low, alone.high]).all()


# -- calibration -------------------------------------------------------------------------------


def test_reliability_equals_scikit_learns_calibration_curve():
    labels, scores, _ = single(101)
    observed, predicted = calibration_curve(labels, expit(scores), n_bins=7, strategy="quantile")
    found = metrics.reliability(labels, scores, bins=7)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found["items"].sum() == 101
    assert found["items"].between(14, 15).all()


def test_reliability_has_one_bin_for_one_score_and_a_rule_for_none():
    found = metrics.reliability([0, 1, 1, 1], np.zeros(4))
    assert found.values.tolist() == [[0.5, 0.75, 4]]
    holed = [0.0, np.nan, 0, 0]
    with pytest.raises(MissingScores, match="rows 1"):
        metrics.reliability([0, 1, 1, 1], holed)
    dropped = metrics.reliability([0, 1, 1, 1], holed, abstained="dropped")
    assert dropped["items"].tolist() == [3]


# -- what is refused, and rules for the abstained ----------------------------------------------


def test_missing_scores_are_refused_by_row():
    labels, scores, groups = clustered(people=4, each=3)
    scores[[5, 17]] = np.nan
    with pytest.raises(MissingScores, match=r"2 of 24 items .* rows 5, 17.*abstained=\"dropped\""):
        metrics.auc(labels, scores, groups)
    with pytest.raises(MissingScores, match="rows 5, 17"):
        metrics.difference(labels, groups * 1.0, scores, groups)
    with pytest.raises(MissingScores, match="rows 5, 17"):
        metrics.delong(labels, scores)
    scores[[2, 5]] = np.inf, 0
    for rule in ABSTENTIONS:
        with pytest.raises(MissingScores, match=r"1 of 24 items have an infinite score.* rows 2"):
            metrics.auc(labels, scores, groups, abstained=rule)


def test_rules_for_the_abstained_are_what_they_say():
    labels, groups = np.array([0, 0, 0, 1, 1, 1]), np.arange(6)
    scores = np.array([-2, 1, np.nan, np.nan, 3, -1])

    def found(rule, **options):
        return metrics.measures(labels, scores, groups, abstained=rule, thresholds=[[0]], **options)

    for rule, filled in (
        ("dropped", None),
        ("half", [-2, 1, 0, 0, 3, -1]),
        ("worst", [-2, 1, 99, -99, 3, -1]),
    ):
        kept = ~np.isnan(scores) if filled is None else np.ones(6, bool)
        filled = scores if filled is None else np.array(filled, float)
        expected = metrics.measures(labels[kept], filled[kept], groups[kept], thresholds=[[0]])
        for name, one in found(rule).items():
            assert one.value == pytest.approx(expected[name].value), (rule, name)
            assert one.coverage == pytest.approx(4 / 6)
    assert found("half", half=9.0)["brier"].value > found("half")["brier"].value


def test_each_row_of_seeds_is_filled_where_it_abstained():
    labels, groups = np.array([0, 0, 1, 1]), np.arange(4)
    scores = np.array([[0, 1, np.nan, 3.0], [0, 1, 2, 3.0]])
    found = metrics.auc(labels, scores, groups, abstained="worst")
    assert (found.value, found.coverage) == (pytest.approx((0.5 + 1) / 2), 0.75)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [0, 1, 2, 1]}, "1 of 4 labels are neither 0 nor 1, such as 2"),
        ({"labels": ["0", "1", "1", "0"]}, "4 of 4 labels"),
        ({"labels": [0, 1, 1]}, r"labels \(3,\), groups \(4,\), scores 1 \(1, 4\)"),
        ({"scores": np.zeros((2, 3))}, r"scores 1 \(2, 3\)"),
        ({"scores": np.zeros((1, 1, 4))}, r"scores 1 \(1, 1, 4\)"),
        ({"groups": [[0], [1], [2], [3]]}, r"groups \(4, 1\)"),
        ({"probes": [0, 1, 0]}, r"probes \(1, 3\)"),
        ({"rival": np.zeros(5)}, r"scores 2 \(1, 5\)"),
        ({"labels": [], "scores": [], "groups": []}, "N > 0"),
    ],
)
def test_items_that_do_not_fit_together_are_refused(change, said):
    items = {"labels": [0, 1, 0, 1], "scores": np.arange(4.0), "groups": np.arange(4)}
    with pytest.raises(BadItems, match=said):
        metrics.measures(**items | change)


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ({"metrics": ["auk"]}, "auc"),
        ({"method": "percentiles"}, "percentile"),
        ({"abstained": "drop"}, "dropped"),
    ],
)
def test_unknown_names_are_refused(option, near):
    with pytest.raises(UnknownName, match=f"did you mean '{near}'"):
        metrics.measures(*clustered(people=4, each=3), **option)


def test_a_probe_that_saw_one_class_is_left_out_and_all_such_are_refused():
    labels, groups = np.array([0, 1, 0, 1, 1, 1]), np.arange(6)
    scores, made = np.array([1.0, 2, 3, 4, 0, 0]), np.array([0, 0, 0, 0, 1, 1])
    assert metrics.auc(labels, scores, groups, probes=made).value == pytest.approx(3 / 4)
    with pytest.raises(OneClass, match="no probe has scored both"):
        metrics.auc(labels, scores, groups, probes=labels)


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", resampling.METHODS)
@pytest.mark.parametrize("within", [False, True])
def test_ten_videos_give_a_wide_interval_of_every_metric(method, within):
    labels, scores, groups = single(10)
    options = {"method": method, "within": within, **THRESHOLDS}
    for name, found in metrics.measures(labels, scores, groups, **options).items():
        assert found.low <= found.value <= found.high, name
        assert found.high - found.low > 0.1, name
        assert found.method == method


def test_a_second_stage_equals_a_plain_slow_one(monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 2000)
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), np.arange(1, 13))
    labels = rng.integers(0, 2, groups.size)
    scores = rng.normal(labels, 1) + rng.normal(0, 0.3, 12)[groups]
    errors = (expit(scores) - labels) ** 2
    means = []
    for _ in range(2000):
        drawn = rng.integers(0, 12, 12)
        kept = [rng.choice(errors[groups == group], group + 1) for group in drawn]
        means.append(np.concatenate(kept).mean())
    options = {"method": "percentile", "within": True}
    found = metrics.measures(labels, scores, groups, ["brier"], **options)["brier"]
    assert (found.low, found.high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.006)


def test_a_second_stage_adds_nothing_where_every_item_is_its_own_group():
    assert metrics.auc(*single(), within=True) == metrics.auc(*single())


def test_a_second_stage_widens_the_interval():
    case = clustered(each=5)
    one, two = (metrics.auc(*case, within=within) for within in (False, True))
    assert two.value == one.value
    assert two.high - two.low > 1.1 * (one.high - one.low)


def test_groups_that_abstained_whole_are_drawn_to_no_effect():
    labels, scores, groups = clustered(people=6, each=3)
    scores[groups == 2] = np.nan
    options = {"abstained": "dropped", "within": True, "method": "bca"}
    found = metrics.auc(labels, scores, groups, **options)
    assert found.groups == 5
    assert found.low < found.value < found.high


@pytest.mark.parametrize("method", resampling.METHODS)
def test_two_groups_have_ends_in_order(method):
    labels, groups = np.tile([0, 0, 1, 1], 2), np.repeat([0, 1], 4)
    scores = np.array([0, 1, 2, 3, 2, 3, 0, 4.0])
    for name, found in metrics.measures(labels, scores, groups, method=method).items():
        assert found.low <= found.high, name


def test_bca_does_not_turn_back_beyond_its_pole():
    """Bona fide videos on two groups ask for far tails, and fakes on many for moving them."""
    rng = np.random.default_rng(8)
    labels, scores = np.repeat([1, 0], [11, 2]), rng.normal(1, 0.3, 13)
    scores[:11] = rng.exponential(1, 11) ** 3
    found = metrics.auc(labels, scores, np.arange(13), method="bca")
    assert found.low < found.value < found.high


@pytest.mark.slow
def test_a_hundred_thousand_videos(monkeypatch):
    monkeypatch.setattr(resampling, "RESAMPLES", 200)
    labels, scores, groups = clustered(people=5000, each=10)
    for grouped, number in ((groups, 5000), (np.arange(labels.size), 100_000)):
        found = metrics.measures(labels, scores, grouped, thresholds=[[0.4]])
        assert found["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        for one in found.values():
            assert one.low < one.value < one.high
            assert (one.items, one.groups) == (100_000, number)


def test_how_many_are_drawn_at_a_time_does_not_matter(monkeypatch):
    case = clustered(people=8, each=3)
    plain = metrics.measures(*case)
    monkeypatch.setattr(resampling, "CHUNK", 1000)
    assert metrics.measures(*case) == plain


@given(scored(), st.integers(1, 3), st.integers(0, 99), st.sampled_from(sorted(metrics.RANKED)))
def test_curves_of_groups_added_give_the_numbers_of_their_items_to_the_last_bit(
    case, count, seed, name
):
    """Groups that are few are sorted and summed once; of many, every draw is."""
    labels, scores, groups = case
    made = np.random.default_rng(seed).integers(0, count, scores.shape)
    options = {"metric": name, "probes": made, "seed": seed, "method": "bca"}
    rival = -scores[:, ::-1]
    try:
        few = metrics.difference(labels, scores, rival, groups, **options)
    except OneClass:
        assume(False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "CHUNK", 1)
        many = metrics.difference(labels, scores, rival, groups, **options)
    np.testing.assert_equal(dataclasses.astuple(few), dataclasses.astuple(many))


# -- means of what is no score -------------------------------------------------------------------


def plain_means(values, groups, seed):
    """The mean on resamples with every item copied out; NaN where a draw holds no item."""
    names = pd.unique(groups)
    draws = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), resampling.RESAMPLES
    )
    found = []
    for drawn in draws:
        copied = []
        for name, times in zip(names, drawn, strict=True):
            for row in values:
                copied.extend([one for one in row[groups == name] if one == one] * times)
        found.append(sum(copied) / len(copied) if copied else np.nan)
    return np.array(found)


@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_mean_equals_a_plain_slow_bootstrap(rows, absent):
    rng = np.random.default_rng(rows)
    groups = np.sort(rng.integers(0, 9, 60))
    values = rng.normal(groups, 3, (rows, 60))
    if absent:  # items here and there, and a whole group, which is drawn to no effect
        values[:, (rng.random(60) < 0.2) | (groups == 3)] = np.nan
    resampled, left = plain_means(values, groups, 4), 9 - absent
    for method, ends in (
        ("percentile", np.quantile(resampled, [0.025, 0.975])),
        ("expanded", expanded(resampled, left)),
    ):
        found = metrics.mean(values, groups, seed=4, method=method, abstained="dropped")
        assert found.value == pytest.approx(np.nanmean(values))
        assert (found.low, found.high) == pytest.approx(tuple(ends))
        assert (found.items, found.groups) == ((~np.isnan(values[0])).sum(), left)
        assert (found.coverage, found.method) == (found.items / 60, method)


def test_accuracy_is_the_mean_of_what_was_called_right():
    """And a paired difference of two that of the differences, from the same draws."""
    labels, scores, groups = clustered()
    rival = scores[::-1]
    right, others = ((one > 0.4) == labels for one in (scores, rival))
    for method in resampling.METHODS:
        options = {"seed": 2, "method": method}
        found = metrics.measures(labels, scores, groups, ["accuracy"], **THRESHOLDS, **options)
        assert metrics.mean(right, groups, **options) == found["accuracy"]
        both = {"thresholds": [THRESHOLDS["thresholds"]] * 2, **options}
        lead = metrics.difference(labels, scores, rival, groups, "accuracy", **both)
        paired = metrics.mean(right.astype(float) - others, groups, **options)
        assert dataclasses.astuple(paired)[:3] == pytest.approx(dataclasses.astuple(lead)[:3])


@given(scored(), st.sampled_from([0.5, 3.0]), st.sampled_from([-7.0, 0.0, 2.0]))
def test_a_mean_moves_with_its_values_and_not_with_the_names_of_groups(case, scale, shift):
    _, values, groups = case
    plain = metrics.mean(values, groups)
    moved = metrics.mean(scale * values + shift, [f"couple {group}" for group in groups])
    ends = [[found.value, found.low, found.high] for found in (plain, moved)]
    np.testing.assert_allclose(ends[1], scale * np.array(ends[0]) + shift, atol=1e-12)
    turned = metrics.mean(-values, groups)
    np.testing.assert_allclose([-turned.high, -turned.low], ends[0][1:], atol=1e-12)


def test_items_without_a_value_are_left_out_where_the_rule_says_so():
    values, groups = np.arange(8.0), np.repeat(np.arange(4), 2)
    several = np.stack([values, values])
    several[1, 5] = np.nan
    with pytest.raises(MissingScores, match=r"1 of 8 items .* rows 5; .*abstained=\"dropped\""):
        metrics.mean(several, groups)
    found = metrics.mean(several, groups, abstained="dropped")
    assert found.value == np.delete(values, 5).mean()  # one seed without is enough
    assert (found.items, found.groups, found.coverage) == (7, 4, 7 / 8)
    values[2:] = np.nan  # of one group alone there is a mean, but nothing tells how groups differ
    found = metrics.mean(values, groups, abstained="dropped")
    assert (found.value, found.groups, found.coverage) == (0.5, 1, 0.25)
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"values": np.full(4, np.nan)}, MissingScores, "4 of 4 items have no value"),
        ({"values": [0, np.inf, 1, np.nan]}, MissingScores, "1 of 4 .* infinite .* rows 1"),
        ({"values": np.zeros((2, 3))}, BadItems, r"values \(2, 3\) and groups \(4,\)"),
        ({"values": np.zeros((1, 1, 4))}, BadItems, r"values \(1, 1, 4\)"),
        ({"values": [], "groups": []}, BadItems, "N > 0"),
        ({"groups": [0, 1, 2, np.nan]}, BadItems, r"1 of 4 items have no group \(NaN\).* rows 3"),
        ({"abstained": "half"}, UnknownName, "Known: dropped"),
        ({"method": "percentiles"}, UnknownName, "did you mean 'percentile'"),
    ],
)
def test_what_has_no_mean_is_refused(change, error, said):
    options = {"values": np.arange(4.0), "groups": np.arange(4), "abstained": "dropped"}
    with pytest.raises(error, match=said):
        metrics.mean(**options | change)


@pytest.mark.slow
def test_the_interval_of_a_mean_covers_the_truth(monkeypatch):
    """Groups of unequal sizes that differ; taken for single items they would cover too rarely."""
    monkeypatch.setattr(resampling, "RESAMPLES", 500)
    covered = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(20), rng.integers(5, 40, 20))
        values = rng.normal(size=20)[groups] + rng.normal(size=groups.size)
        found = [metrics.mean(values, of, seed=seed) for of in (groups, np.arange(groups.size))]
        covered.append([one.low <= 0 <= one.high for one in found])
    grouped, alone = np.mean(covered, 0)
    assert 0.92 < grouped < 0.97
    assert alone < 0.6


# -- what a fresh reading found ------------------------------------------------------------------


def test_a_rate_that_so_few_items_cannot_show_has_no_number(monkeypatch):
    """One in a hundred of 40 bona fide items: it would be whatever lies above the highest."""
    monkeypatch.setattr(metrics, "FEWEST", {"tpr@1%": 100, "tpr@5%": 20})
    rng = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 120), np.arange(240) // 8
    scores = labels + rng.normal(size=240)
    one = metrics.measures(labels, scores, groups)
    assert not np.isnan(one["tpr@1%"].value)
    several = metrics.measures(labels, scores, groups, probes=groups % 3)
    assert np.isnan([several["tpr@1%"].value, several["tpr@1%"].low]).all()
    assert str(several["tpr@1%"]) == "none"
    alone = metrics.measures(labels, scores, groups, ["tpr@1%"], probes=groups % 3)
    assert str(alone["tpr@1%"]) == "none"
    assert not np.isnan(several["tpr@5%"].value)


def test_an_item_without_a_group_is_refused_by_row():
    with pytest.raises(BadItems, match=r"1 of 4 items have no group \(NaN\), first in rows 3"):
        metrics.auc([0, 1, 0, 1], [1.0, 2, 3, 4], [0, 1, 2, np.nan])


def test_delong_stays_within_bounds_and_takes_a_rule():
    labels, scores = np.repeat([0, 1], 8), np.r_[np.arange(8), np.arange(5, 13)].astype(float)
    assert metrics.delong(labels, scores, np.arange(16) // 4).high <= 1
    scores[0] = np.nan
    with pytest.raises(MissingScores):
        metrics.delong(labels, scores)
    found = metrics.delong(labels, scores, abstained="dropped")
    assert (found.items, found.coverage) == (15, 15 / 16)
