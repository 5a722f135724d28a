"""Against scikit-learn, driven to the end; and what must not matter does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from seglib import logistic
from seglib.logistic import BadRows, NotConverged

STRENGTHS = np.geomspace(1e-4, 1e2, 7)


def items(count=200, width=12, lead=1.0, decay=0.0, seed=0):
    """Rows whose features are mixed, and smaller and smaller; one direction tells the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    rows = rng.normal(size=(count, width)) + lead * np.outer(labels, rng.normal(size=width))
    mixed = np.linalg.qr(rng.normal(size=(width, width)))[0]
    return rows * np.exp(-decay * np.arange(width)) @ mixed, labels


def theirs(rows, labels, weights, C):
    """Newton's method with the Hessian itself, which gets as near as numbers can."""
    solver = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    return solver.fit(rows, labels, sample_weight=weights).decision_function(rows)


def ours(rows, labels, weights, C):
    coefficients, intercepts = logistic.fit(rows, labels, weights, C)
    return coefficients @ rows.T + intercepts[:, None]


def check(rows, labels, weights=None, strengths=STRENGTHS):
    weights = np.ones(len(labels)) if weights is None else weights
    expected = [theirs(rows, labels, weights, C) for C in strengths]
    np.testing.assert_allclose(ours(rows, labels, weights, strengths), expected, 1e-6, 1e-6)


def slope(rows, labels, weights, C, coefficients, intercept):
    """Gradient of the objective as it is written down in `logistic.fit`."""
    signs = 2 * labels - 1
    pull = -C * weights * signs * expit(-signs * (rows @ coefficients + intercept))
    return np.append(coefficients + pull @ rows, pull.sum())


# -- against scikit-learn ----------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0, 0.5, 1])
@pytest.mark.parametrize(("count", "width"), [(300, 12), (300, 120), (60, 120), (50, 50), (9, 1)])
def test_the_optimum_is_theirs(count, width, decay):
    """More rows than features, fewer, as many; features of one size, or of 20 or 50 decades."""
    check(*items(count, width, decay=decay))


@pytest.mark.parametrize("count", [300, 60])
def test_what_separates_perfectly_is_kept_in_bounds_by_the_penalty_alone(count):
    """As it bends the objective by 1, the optimum is no farther off than the gradient is long.

    With a penalty so weak, this is nearer than scikit-learn's solvers come.
    """
    rows, labels = items(count, 80, lead=9)
    check(rows, labels)
    weights = np.ones(count)
    (coefficients,), (intercept,) = logistic.fit(rows, labels, weights, [1e6])
    left = slope(rows, labels, weights, 1e6, coefficients, intercept)
    assert np.linalg.norm(left) <= 1e-8 * np.linalg.norm(coefficients)
    assert ((rows @ coefficients + intercept > 0) == labels).all()


@pytest.mark.parametrize("count", [200, 30])
def test_weights_count(count):
    rng = np.random.default_rng(1)
    weights = rng.exponential(size=count) * (rng.random(count) > 0.3)
    check(*items(count, 40), weights)


def test_features_may_be_constant_or_of_any_size_and_far_from_0():
    rows, labels = items(400, 30)
    rows[:, 3], rows[:, 4] = 0, 7
    check(rows * np.geomspace(1e-2, 1e2, 30) + np.linspace(-5, 5, 30), labels)


def test_a_rare_class_moves_the_intercept():
    rows, _ = items(500, 10)
    check(rows, (np.arange(500) % 100 == 0).astype(int))


def test_where_nothing_is_told_apart_the_odds_are_those_of_the_classes():
    labels = np.repeat([0, 1], (30, 10))
    coefficients, intercepts = logistic.fit(np.zeros((40, 3)), labels, np.ones(40), [0.1, 1])
    assert (coefficients == 0).all()
    np.testing.assert_allclose(intercepts, np.log(1 / 3))


def test_single_precision_is_taken_as_it_is():
    rows, labels = items(200, 20)
    rows = rows.astype(np.float32)
    found = [
        logistic.fit(one, labels, np.ones(200), STRENGTHS) for one in (rows, rows.astype(float))
    ]
    for single, double in zip(*found, strict=True):
        assert single.dtype == float
        np.testing.assert_array_equal(single, double)


def test_rough_steps_and_exact_ones_end_at_the_same_place(monkeypatch):
    """Few features have exact steps only; here as few have both kinds."""
    made, newton = [], logistic._Objective.newton
    monkeypatch.setattr(
        logistic._Objective, "newton", lambda *given: made.append(1) or newton(*given)
    )
    rows, labels = items(300, 60, decay=0.3)
    for patience, exact in ((1000, True), (10, True), (1, False)):
        made.clear()
        monkeypatch.setattr(logistic, "PATIENCE", patience)
        check(rows, labels)
        assert bool(made) == exact


def test_rows_are_read_in_batches(monkeypatch):
    for name in ("CACHED", "BATCH"):
        monkeypatch.setattr(logistic, name, 70)
    check(*items(300, 40))


# -- what must not matter ----------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([(80, 8), (60, 40), (20, 50)]))
@settings(max_examples=30)
def test_the_gradient_is_0_and_nothing_else_is_asked_for(seed, shape):
    rows, labels = items(*shape, seed=seed)
    weights = np.random.default_rng(seed).integers(0, 4, len(rows)) + (np.arange(len(rows)) < 10)
    if len(np.unique(labels[weights > 0])) < 2:
        return
    found = logistic.fit(rows, labels, weights, STRENGTHS)
    for C, *solution in zip(STRENGTHS, *found, strict=True):
        start = slope(rows, labels, weights, C, np.zeros(shape[1]), 0)
        left = slope(rows, labels, weights, C, *solution)
        assert np.abs(left).max() <= 1e-6 * np.abs(start).max()


@given(st.integers(0, 10_000), st.sampled_from([(80, 8), (60, 40), (20, 50)]))
@settings(max_examples=30)
def test_neither_order_nor_copies_nor_a_rotation_matters(seed, shape):
    rows, labels = items(*shape, seed=seed)
    rng = np.random.default_rng(seed)
    weights = np.where(np.arange(len(rows)) < 15, 1, rng.integers(0, 4, len(rows)))
    if len(np.unique(labels[weights > 0])) < 2:
        return
    plain = ours(rows, labels, weights, STRENGTHS)
    order, copies = rng.permutation(len(rows)), np.repeat(np.arange(len(rows)), weights)
    turn = np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0]
    shuffled = ours(rows[order], labels[order], weights[order], STRENGTHS)
    copied = ours(rows[copies], labels[copies], np.ones(len(copies)), STRENGTHS)
    near = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(shuffled, plain[:, order], **near)
    np.testing.assert_allclose(copied, plain[:, copies], **near)
    np.testing.assert_allclose(ours(rows @ turn, labels, weights, STRENGTHS), plain, **near)
    np.testing.assert_allclose(ours(rows, 1 - labels, weights, STRENGTHS), -plain, **near)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_strengths_do_not_touch_each_other(seed):
    rows, labels = items(90, 60, seed=seed)
    together = ours(rows, labels, np.ones(90), STRENGTHS)
    for C, logits in zip(STRENGTHS, together, strict=True):
        alone = ours(rows, labels, np.ones(90), [C])[0]
        np.testing.assert_allclose(alone, logits, rtol=1e-6, atol=1e-6)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["rows", "weights", "C"])
def test_what_is_not_finite_is_refused_by_name(where, number):
    rows, labels = items()
    given = {"rows": rows, "labels": labels, "weights": np.ones(len(rows)), "C": np.ones(2)}
    given[where].flat[1] = number
    with pytest.raises(BadRows, match=f"{where} is not finite"):
        logistic.fit(**given)


@pytest.mark.parametrize(("weight", "C"), [(-1, 1), (1, 0), (1, -2)])
def test_what_is_below_0_is_refused(weight, C):
    rows, labels = items()
    with pytest.raises(BadRows, match=f"a weight of {weight} and a C of {C}; expected no"):
        logistic.fit(rows, labels, np.full(len(rows), weight), [C])


def test_rows_of_one_class_are_refused_as_by_scikit_learn():
    """Also where rows of the other one have no weight, which scikit-learn lets pass."""
    rows, labels = items()
    alike = np.zeros_like(labels)
    with pytest.raises(ValueError, match="2 classes"):
        LogisticRegression().fit(rows, alike)
    with pytest.raises(BadRows, match=r"have the labels \[0\]; expected 0 and 1"):
        logistic.fit(rows, alike, np.ones(len(rows)), [1])
    with pytest.raises(BadRows, match=r"have the labels \[1\]; expected 0 and 1"):
        logistic.fit(rows, labels, labels, [1])


def test_an_optimum_that_is_not_found_is_not_given_out(monkeypatch):
    monkeypatch.setattr(logistic, "STEPS", 2)
    with pytest.raises(NotConverged, match=r"under C = 10, 1000; expected one within 2 steps"):
        logistic.fit(*items(lead=4), np.ones(200), [1e-9, 10, 1000])


def test_a_step_that_lowers_nothing_is_not_taken(monkeypatch):
    """As a direction that climbs is shortened again and again, and then no optimum is found."""
    steps = logistic._steps
    monkeypatch.setattr(logistic, "_steps", lambda *given: -steps(*given))
    with pytest.raises(NotConverged, match="under C = 1; expected"):
        logistic.fit(*items(), np.ones(200), [1])


def test_a_step_that_goes_too_far_is_shortened(monkeypatch):
    steps = logistic._steps
    monkeypatch.setattr(logistic, "_steps", lambda *given: 5 * steps(*given))
    check(*items(), strengths=[1])


@pytest.mark.parametrize("kind", [np.uint8, np.int64, bool, float])
def test_labels_of_any_type_mean_the_same(kind):
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(40, 5)), np.arange(40) % 2
    found = logistic.fit(rows, labels.astype(kind), np.ones(40), np.array([1.0]))
    for one, other in zip(
        found, logistic.fit(rows, labels, np.ones(40), np.array([1.0])), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("weights", ["even", "uneven"])
@pytest.mark.parametrize("centred", [True, False])
def test_where_both_classes_have_the_same_rows_there_is_nothing_to_learn(weights, centred):
    """So it is where a part that no forgery touched is encoded alone."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 12)) + (0 if centred else 100)
    rows = rows - rows.mean(0) if centred else rows
    counted = np.ones(60) if weights == "even" else rng.uniform(0.2, 3, 60)
    weights = np.concatenate([counted, counted])
    labels = np.repeat([0, 1], 60)
    found, intercepts = logistic.fit(np.concatenate([rows, rows]), labels, weights, STRENGTHS)
    np.testing.assert_allclose(found, 0, atol=1e-8)
    np.testing.assert_allclose(intercepts, 0, atol=1e-6)


@pytest.mark.parametrize("ones", [30, 10])
def test_rows_that_never_change_leave_the_intercept_alone(ones):
    labels = np.repeat([0, 1], [40 - ones, ones])
    balanced = np.where(labels == 1, 20 / ones, 20 / (40 - ones))
    found, intercepts = logistic.fit(np.full((40, 6), 0.3), labels, balanced, STRENGTHS)
    np.testing.assert_allclose(found, 0, atol=1e-8)
    np.testing.assert_allclose(intercepts, 0, atol=1e-8)
