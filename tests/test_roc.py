"""Curves of weighted items against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from seglib import roc


@st.composite
def weighted(draw):
    """Labels, scores with many ties, and weights that leave both classes some."""
    count, draws = draw(st.integers(2, 60)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    fake = rng.random(count) < 0.5
    scores = rng.integers(0, draw(st.sampled_from([1, 3, 1000])), count) / 7
    weights = rng.integers(0, 4, (draws, count)).astype(float)
    assume((weights[:, fake].sum(1) > 0).all() and (weights[:, ~fake].sum(1) > 0).all())
    return fake, scores, weights


def curve(fake, scores, weights=None):
    weights = np.ones((1, len(fake))) if weights is None else weights
    return roc.Ranking.of(fake, scores, np.arange(len(fake))).curve(weights)


@given(weighted())
def test_area_and_average_precision_equal_scikit_learns(case):
    fake, scores, weights = case
    drawn = curve(*case)
    for ours, theirs in (
        (roc.auc, roc_auc_score),
        (roc.average_precision, average_precision_score),
    ):
        expected = [theirs(fake, scores, sample_weight=row) for row in weights]
        np.testing.assert_allclose(ours(drawn), expected, rtol=0, atol=1e-12)


@given(weighted(), st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 1.0]))
def test_tpr_is_the_largest_of_scikit_learns_thresholds_within_the_fpr(case, level):
    fake, scores, weights = case
    found = roc.tpr_at_fpr(curve(*case), level)
    for row, tpr_at in zip(weights, found, strict=True):
        fpr, tpr, _ = roc_curve(fake, scores, sample_weight=row, drop_intermediate=False)
        assert tpr_at == pytest.approx(tpr[fpr <= level].max(), abs=1e-12)


@given(weighted())
def test_at_the_equal_error_rate_both_errors_meet_on_scikit_learns_curve(case):
    fake, scores, weights = case
    for row, rate in zip(weights, roc.equal_error_rate(curve(*case)), strict=True):
        fpr, tpr, _ = roc_curve(fake, scores, sample_weight=row, drop_intermediate=False)
        along = np.linspace(0, len(fpr) - 1, 20 * (len(fpr) - 1) + 1)
        fpr, tpr = (np.interp(along, np.arange(len(fpr)), of) for of in (fpr, tpr))
        # Whichever error is larger, it is smallest where they meet.
        worst = np.maximum(fpr, 1 - tpr)
        assert worst.min() + 1e-12 >= rate >= worst.min() - 1 / 20 - 1e-12


@pytest.mark.parametrize(
    ("labels", "scores", "rate"),
    [
        ([0, 0, 1, 1], [0, 1, 2, 3], 0),
        ([1, 1, 0, 0], [0, 1, 2, 3], 1),
        ([0, 1, 0, 1], [5, 5, 5, 5], 0.5),
        ([0, 0, 0, 1, 1], [0, 1, 3, 2, 4], 1 / 3),
        ([0, 0, 1, 1, 1, 1], [0, 4, 1, 2, 3, 5], 0.5),
    ],
)
def test_the_equal_error_rate_of_small_curves_worked_by_hand(labels, scores, rate):
    drawn = curve(np.array(labels) == 1, np.array(scores, float))
    assert roc.equal_error_rate(drawn) == pytest.approx([rate])


@given(weighted())
def test_weights_are_copies(case):
    fake, scores, weights = case
    for metric in (roc.auc, roc.average_precision, roc.equal_error_rate):
        for row, found in zip(weights, metric(curve(*case)), strict=True):
            copies = np.repeat(np.arange(len(fake)), row.astype(int))
            assert metric(curve(fake[copies], scores[copies]))[0] == pytest.approx(found, abs=1e-12)


def test_a_ranking_of_some_items_reads_the_weights_of_these():
    fake, scores = np.array([True, False, True, False]), np.array([1.0, 9.0, 3.0, 2.0])
    some = roc.Ranking.of(fake, scores, np.array([0, 2, 3]))
    assert some.pairs == 2
    assert roc.auc(some.curve(np.ones((1, 4)))) == pytest.approx([0.5])
    assert roc.auc(some.curve(np.array([[3.0, 7, 1, 1]]))) == pytest.approx([0.25])


@given(weighted(), st.integers(0, 99))
def test_the_curve_of_a_sum_of_weightings_is_the_sum_of_their_curves(case, seed):
    fake, scores, weights = case
    times = np.random.default_rng(seed).integers(0, 5, (3, len(weights)))
    added, expected = curve(*case).added(times), curve(fake, scores, times @ weights)
    np.testing.assert_array_equal(added.fakes, expected.fakes)
    np.testing.assert_array_equal(added.reals, expected.reals)


@given(weighted())
def test_what_fakes_of_one_weighting_win_over_bona_fide_items_of_another(case):
    fake, scores, weights = case
    higher = (scores[:, None] > scores) + (scores[:, None] == scores) / 2
    pairs = np.einsum("ai,bj,ij->abij", weights, weights, np.outer(fake, ~fake))
    drawn = curve(*case)
    np.testing.assert_allclose(roc.wins_between(drawn), (pairs * higher).sum((2, 3)))
    np.testing.assert_array_equal(roc.wins_between(drawn).diagonal(), roc.wins(drawn))
    np.testing.assert_array_equal(roc.pairs_between(drawn), pairs.sum((2, 3)))


def test_a_class_without_weight_has_no_curve():
    drawn = curve(
        np.array([True, True, False]),
        np.array([1.0, 2.0, 1.0]),
        np.array([[1, 1, 0], [0, 0, 1], [0, 0, 0.0]]),
    )
    for metric in (roc.auc, roc.average_precision, roc.equal_error_rate):
        assert np.isnan(metric(drawn)).all()
    assert np.isnan(roc.tpr_at_fpr(drawn, 0.05)).all()


@given(weighted())
def test_placements_are_shares_of_the_other_class(case):
    fake, scores, _ = case
    found = roc.placements(fake, scores)
    for one, score in enumerate(scores):
        other = scores[fake != fake[one]]
        below = np.mean((other < score) + (other == score) / 2)
        assert found[one] == pytest.approx(below if fake[one] else 1 - below)
