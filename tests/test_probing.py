"""The probe on made-up descriptors whose truth is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seglib import metrics, probing, recipe
from seglib.probing import TooFewGroups

RECIPE = recipe.demo().but(c_grid=(1e-3, 1e-1), folds=4)
WIDTH = 12


def people(groups=16, each=6, lead=1.0, seed=0):
    """Descriptors of pictures and of a fake of each; people differ more than forging does."""
    rng = np.random.default_rng(seed)
    who = np.tile(np.repeat(np.arange(groups), each), 2)
    labels = np.repeat([0, 1], groups * each)
    descriptors = rng.normal(0, 2, (groups, WIDTH))[who] + rng.normal(size=(who.size, WIDTH))
    descriptors[:, 0] += lead * labels
    return descriptors, labels, who


def auc(labels, scores, groups):
    return metrics.auc(labels, scores, groups).value


# -- what it learns ----------------------------------------------------------------------------


def test_separable_data_are_separated():
    descriptors, labels, groups = people(lead=60)
    assert auc(labels, probing.out_of_fold(descriptors, labels, groups, RECIPE), groups) == 1


def test_fit_then_score_on_other_people():
    probe = probing.fit(*people(lead=6), RECIPE)
    descriptors, labels, groups = people(lead=6, seed=1)
    assert auc(labels, probing.score(probe, descriptors), groups) > 0.85
    np.testing.assert_array_equal(
        probing.score(probe, descriptors), probe.decision_function(descriptors)
    )


def test_shuffled_labels_teach_nothing():
    """Labels dealt out anew inside each group, several times: chance on the whole."""
    descriptors, labels, groups = people(lead=3)
    aucs = []
    for seed in range(8):
        dealt, rng = labels.copy(), np.random.default_rng(seed)
        for group in np.unique(groups):
            dealt[groups == group] = rng.permutation(labels[groups == group])
        scores = probing.out_of_fold(descriptors, dealt, groups, RECIPE, seeds=(seed,))
        aucs.append(auc(dealt, scores, groups))
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.04)


def test_knowing_a_person_by_heart_gains_nothing():
    """Each person is a fake or is not, and has a sign of their own: only a leak could use it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 5)
    labels = rng.permutation(np.repeat([0, 1], 12))[groups]
    signs = np.eye(24)[groups] + rng.normal(0, 0.01, (groups.size, 24))
    alone = np.arange(groups.size)  # groups denied: everyone is on both sides
    leaking, apart = (
        probing.out_of_fold(signs, labels, g, RECIPE, seeds=(0,)) for g in (alone, groups)
    )
    assert auc(labels, leaking, groups) > 0.99
    assert auc(labels, apart, groups) < 0.6


@pytest.mark.parametrize(("grid", "best"), [((1e-6, 10.0), 10.0), ((10.0, 1e-6), 10.0)])
def test_the_strength_is_chosen_from_the_grid_by_what_it_is_worth(grid, best):
    """Two columns share their noise: only a weakly regularised probe may subtract them."""
    rng = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 200), np.arange(400) // 10
    noise = rng.normal(0, 5, 400)
    descriptors = np.column_stack([labels + noise + rng.normal(0, 0.3, 400), noise])
    probe = probing.fit(descriptors, labels, groups, RECIPE.but(c_grid=grid))
    assert best == probe["logisticregression"].C
    only = probing.fit(descriptors, labels, groups, RECIPE.but(c_grid=(1e-6,)))
    assert only["logisticregression"].C == 1e-6


def test_the_solver_finds_the_optimum():
    """Against scikit-learn's default solver, driven to the end."""
    descriptors, labels, groups = people(lead=3)
    descriptors[:, 1] *= 1e4  # columns of any size: they are standardised
    probe = probing.fit(descriptors.astype(np.float32), labels, groups, RECIPE.but(c_grid=(0.1,)))
    slow = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
    expected = slow.fit(descriptors, labels).decision_function(descriptors)
    np.testing.assert_allclose(probing.score(probe, descriptors), expected, atol=2e-3)


# -- folds -------------------------------------------------------------------------------------


def test_nobody_is_on_both_sides_of_any_fold(monkeypatch):
    """Watches the real folds: who trains each probe and each of its inner ones, who is scored."""
    descriptors, labels, groups = people()
    owner = {row.tobytes(): group for row, group in zip(descriptors, groups, strict=True)}
    split, inner, trained, scored = probing.StratifiedGroupKFold.split, [], [], []
    fit, score = probing.fit, probing.score

    def watched_split(self, X, y=None, groups=None):
        for train, test in split(self, X, y, groups):
            inner.append((self.n_splits, set(groups[train]), set(groups[test])))
            yield train, test

    def watched_fit(descriptors, labels, groups, *rest):
        trained.append(set(groups))
        return fit(descriptors, labels, groups, *rest)

    def watched_score(probe, descriptors):
        scored.append({owner[row.tobytes()] for row in descriptors})
        return score(probe, descriptors)

    monkeypatch.setattr(probing.StratifiedGroupKFold, "split", watched_split)
    monkeypatch.setattr(probing, "fit", watched_fit)
    monkeypatch.setattr(probing, "score", watched_score)
    scores = probing.out_of_fold(descriptors, labels, groups, RECIPE, seeds=(0, 1))

    assert scores.shape == (2, labels.size)
    assert not np.isnan(scores).any()
    assert len(trained) == len(scored) == 2 * RECIPE.folds
    assert len(inner) == 2 * RECIPE.folds * (1 + RECIPE.inner_folds)
    for train, test in [*zip(trained, scored, strict=True), *(sides[1:] for sides in inner)]:
        assert train
        assert test
        assert not train & test
    everyone = set(groups)
    assert [len(set.union(*scored[i : i + 4])) for i in (0, 4)] == [len(everyone)] * 2
    outer = [test for folds, _, test in inner if folds == RECIPE.folds]
    assert outer[:4] != outer[4:]  # a seed decides who is in which fold


def test_the_same_seed_gives_the_same_scores():
    case = people()
    first, again = (probing.out_of_fold(*case, RECIPE, seeds=(5, 6)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0] - first[1]).max() > 0
    np.testing.assert_array_equal(first[1:], probing.out_of_fold(*case, RECIPE, seeds=(6,)))


def test_groups_may_be_names():
    descriptors, labels, groups = people()
    named = np.array([f"{group:02d}" for group in groups])
    np.testing.assert_array_equal(
        probing.out_of_fold(descriptors, labels, named, RECIPE, seeds=(0,)),
        probing.out_of_fold(descriptors, labels, groups, RECIPE, seeds=(0,)),
    )


@pytest.mark.parametrize(("groups", "folds"), [(3, 4), (2, 4)])
def test_too_few_people_are_refused_with_both_numbers(groups, folds):
    case = people(groups=groups)
    with pytest.raises(TooFewGroups, match=f"{groups} with a fake for {folds} folds"):
        probing.out_of_fold(*case, RECIPE)
    if groups < RECIPE.inner_folds:
        with pytest.raises(TooFewGroups, match=f"{groups} with a fake for 3 folds"):
            probing.fit(*case, RECIPE)


# -- rows without a descriptor -----------------------------------------------------------------


def test_a_row_without_a_descriptor_gets_no_score_and_teaches_nothing():
    descriptors, labels, groups = people()
    absent = np.random.default_rng(0).random(labels.size) < 0.2
    holed = np.where(absent[:, None], np.nan, descriptors)
    holed[np.flatnonzero(absent)[0], 1:] = 0  # one missing number is a missing row
    probe = probing.fit(holed, labels, groups, RECIPE)
    without = probing.fit(descriptors[~absent], labels[~absent], groups[~absent], RECIPE)
    scores = probing.score(probe, holed)
    np.testing.assert_array_equal(np.isnan(scores), absent)
    np.testing.assert_array_equal(scores[~absent], probing.score(without, descriptors[~absent]))
    for row in probing.out_of_fold(holed, labels, groups, RECIPE):
        np.testing.assert_array_equal(np.isnan(row), absent)


def test_nothing_but_missing_rows_is_scored_as_missing():
    probe = probing.fit(*people(), RECIPE)
    assert np.isnan(probing.score(probe, np.full((3, WIDTH), np.nan))).all()
