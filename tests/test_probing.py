"""The probe on made-up descriptors whose truth is known."""

import dataclasses
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, normalize
from sklearn.utils.validation import has_fit_parameter

from seglib import logistic, probing, recipe, training
from seglib.probing import BadProbe, NotLinear
from seglib.training import MixedVideo, TooFewGroups

RECIPE = recipe.demo().but(c_grid=(1e-3, 1e-1), folds=4)
ONE = RECIPE.but(c_grid=(0.1,))
WIDTH = 12
CONDITIONINGS = list(probing.ROWWISE)


def _layernorm(rows):
    rows = torch.from_numpy(rows)
    return torch.nn.functional.layer_norm(rows, rows.shape[1:], eps=probing.EPSILON).numpy()


# What each conditioning is in other people's code.
STEPS = {
    "none": (),
    "l2": (FunctionTransformer(lambda rows: normalize(rows) * np.sqrt(WIDTH)),),
    "layernorm": (FunctionTransformer(_layernorm),),
    "standardise": (StandardScaler(),),
    "ln-affine": (FunctionTransformer(_layernorm), StandardScaler()),
}


def people(groups=16, each=6, lead=1.0, seed=0):
    """Descriptors of pictures and of a fake of each; people differ more than forging does."""
    rng = np.random.default_rng(seed)
    who = np.tile(np.repeat(np.arange(groups), each), 2)
    labels = np.repeat([0, 1], groups * each)
    descriptors = rng.normal(0, 2, (groups, WIDTH))[who] + rng.normal(size=(who.size, WIDTH))
    descriptors[:, 0] += lead * labels
    return descriptors, labels, who


def auc(labels, held_out):
    """Within the fold of each probe, as the probe itself is chosen."""
    return np.mean(
        [
            roc_auc_score(labels[folds == fold], scores[folds == fold])
            for scores, folds in zip(held_out.scores, held_out.folds, strict=True)
            for fold in np.unique(folds)
        ]
    )


def logits(probe, descriptors):
    return probe.logits(descriptors)


# -- what it learns ----------------------------------------------------------------------------


def test_separable_data_are_separated():
    descriptors, labels, groups = people(lead=60)
    held_out = training.out_of_fold(descriptors, labels, groups, RECIPE)
    assert auc(labels, held_out) == 1
    called = held_out.scores > np.take_along_axis(held_out.thresholds, held_out.folds, 1)
    assert (called == labels).all()
    assert np.isfinite(held_out.scores).all()


def test_fit_then_score_on_other_people():
    probe = training.fit(*people(lead=6), RECIPE)
    descriptors, labels, _ = people(lead=6, seed=1)
    scores = probing.score(probe, descriptors)
    assert roc_auc_score(labels, scores) > 0.85
    np.testing.assert_array_equal(scores, probe.slope * logits(probe, descriptors) + probe.offset)


def test_shuffled_labels_teach_nothing():
    """Labels dealt out anew inside each group, several times: chance on the whole."""
    descriptors, labels, groups = people(lead=3)
    aucs, sure = [], []
    for seed in range(8):
        dealt, rng = labels.copy(), np.random.default_rng(seed)
        for group in np.unique(groups):
            dealt[groups == group] = rng.permutation(labels[groups == group])
        held_out = training.out_of_fold(descriptors, dealt, groups, RECIPE, seeds=(seed,))
        aucs.append(auc(dealt, held_out))
        sure.append(np.abs(expit(held_out.scores) - 0.5).mean())
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.04)
    assert np.mean(sure) < 0.1


def test_knowing_a_person_by_heart_gains_nothing():
    """Each person is a fake or is not, and has a sign of their own: only a leak could use it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 5)
    labels = rng.permutation(np.repeat([0, 1], 12))[groups]
    signs = np.eye(24)[groups] + rng.normal(0, 0.01, (groups.size, 24))
    alone = np.arange(groups.size)  # groups denied: everyone is on both sides
    leaking, apart = (
        training.out_of_fold(signs, labels, g, RECIPE, seeds=(0,)) for g in (alone, groups)
    )
    assert auc(labels, leaking) > 0.99
    assert auc(labels, apart) < 0.75


@pytest.mark.parametrize(("grid", "best"), [((1e-6, 10.0), 10.0), ((10.0, 1e-6), 10.0)])
def test_the_strength_is_chosen_from_the_grid_by_what_it_is_worth(grid, best):
    """Two columns share their noise: only a weakly regularised probe may subtract them."""
    rng = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 200), np.arange(400) // 10
    noise = rng.normal(0, 5, 400)
    descriptors = np.column_stack([labels + noise + rng.normal(0, 0.3, 400), noise])
    assert best == training.fit(descriptors, labels, groups, RECIPE.but(c_grid=grid)).C
    assert training.fit(descriptors, labels, groups, RECIPE.but(c_grid=(1e-6,))).C == 1e-6


@pytest.mark.parametrize("grid", [(1e-3, 10.0, 0.1), (10.0, 1e-3)])
def test_of_strengths_of_equal_worth_the_smallest_is_taken(grid):
    """All of them separate perfectly."""
    assert training.fit(*people(lead=60), RECIPE.but(c_grid=grid)).C == 1e-3


def test_the_strength_is_chosen_within_folds_only(monkeypatch):
    """A strength whose probes have no common scale is not held against it."""
    descriptors, labels, groups = people()
    folds = training._tested_in(labels, groups, RECIPE.inner_folds, 0)
    right = labels + 100.0 * folds  # perfect in each fold, poor over all of them
    wrong = labels + np.random.default_rng(0).normal(0, 0.5, labels.size)  # good over all

    assert roc_auc_score(labels, right) < 0.7 < roc_auc_score(labels, wrong) < 1
    found = {1e-3: wrong, 1e-1: right}
    monkeypatch.setattr(training, "_held_out_logits", lambda *_: found)
    assert training.fit(descriptors, labels, groups, RECIPE).C == 1e-1


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_held_out_logits_are_those_of_cross_validation(conditioning):
    descriptors, labels, _ = people()
    decided, folds = RECIPE.but(conditioning=conditioning), np.arange(len(labels)) % 3
    weights = np.linspace(1, 2, len(labels))
    found = training._held_out_logits(decided, descriptors, labels, weights, folds)
    assert list(found) == sorted(decided.c_grid)
    for C, logits in found.items():
        classifier = LogisticRegression(C=C, solver="newton-cholesky", tol=1e-12)
        pipeline = make_pipeline(*STEPS[conditioning], classifier)
        takers = [name for name, step in pipeline.steps if has_fit_parameter(step, "sample_weight")]
        expected = cross_val_predict(
            pipeline, descriptors, labels, cv=PredefinedSplit(folds), method="decision_function",
            params={f"{name}__sample_weight": weights for name in takers},
        )  # fmt: skip
        np.testing.assert_allclose(logits, expected, rtol=1e-7, atol=1e-7)


def test_people_are_drawn_again_where_a_draw_has_one_class_only():
    """Each person is a fake or is not: of six, a draw of three of a kind is no rare thing."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(6), 10)
    labels, descriptors = groups % 2, rng.normal(size=(60, WIDTH))
    probe = training.fit(descriptors, labels, groups, ONE.but(inner_folds=2))
    found = training.redrawn(probe, descriptors, labels, groups, draws=200)
    assert len({one.weight.tobytes() for one in found}) > 100
    assert all(np.isfinite(one.weight).all() for one in found)


def test_features_are_scaled_as_by_scikit_learn_however_they_are_read(monkeypatch):
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(3, 2, (100, WIDTH)), rng.exponential(size=100)
    rows[:, 4] = 7  # constant: divided by 1
    whole = StandardScaler().fit(rows, sample_weight=weights)
    for size in (7, 1000):
        monkeypatch.setattr(logistic, "BATCH", size)
        found = training._scaling("standardise", rows, weights)
        np.testing.assert_allclose(found, (whole.mean_, whole.scale_), rtol=1e-12)


def test_threads_change_nothing(monkeypatch):
    """They are taken for many rows only; a fold is learned from by one of them."""
    case = *people(lead=3), RECIPE
    one = training.fit(*case)
    monkeypatch.setattr(training, "MANY", 0)
    several = training.fit(*case)
    np.testing.assert_array_equal(one.weight, several.weight)
    assert (one.C, one.slope, one.offset) == (several.C, several.slope, several.offset)


def test_the_solver_finds_the_optimum():
    """Against scikit-learn's default solver, driven to the end."""
    descriptors, labels, groups = people(lead=3)
    descriptors[:, 1] *= 1e4  # columns of any size: they are standardised
    probe = training.fit(descriptors.astype(np.float32), labels, groups, ONE)
    slow = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
    expected = slow.fit(descriptors, labels).decision_function(descriptors)
    np.testing.assert_allclose(logits(probe, descriptors), expected, atol=1e-6)


def test_single_precision_descriptors_are_computed_in_double():
    descriptors, labels, groups = people()
    single = descriptors.astype(np.float32)
    one, other = (
        probing.score(training.fit(rows, labels, groups, ONE), rows)
        for rows in (single, single.astype(float))
    )
    np.testing.assert_array_equal(one, other)


# -- weights -----------------------------------------------------------------------------------


def test_all_frames_of_a_video_several_times_change_nothing():
    descriptors, labels, groups = people()
    videos = np.arange(labels.size) // 2  # two frames each
    often = np.repeat(np.arange(labels.size), np.where(videos % 3 == 0, 5, 1))
    more = descriptors[often], labels[often], groups[often], ONE
    once = training.fit(descriptors, labels, groups, ONE, videos=videos)
    same = training.fit(*more, videos=videos[often])
    alone = training.fit(*more)
    np.testing.assert_allclose(logits(same, descriptors), logits(once, descriptors), atol=1e-6)
    assert np.abs(logits(alone, descriptors) - logits(once, descriptors)).max() > 0.02


def test_a_class_with_more_videos_weighs_no_more():
    """The middle between the classes stays even odds, however many fakes there are."""
    descriptors, labels, groups = people(groups=30, lead=4)
    kept = (labels == 1) | (np.arange(labels.size) % 6 == 0)
    probe = training.fit(descriptors[kept], labels[kept], groups[kept], ONE)
    biased = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    biased.fit(descriptors[kept], labels[kept])
    middle = (descriptors[labels == 0].mean(0) + descriptors[labels == 1].mean(0))[None] / 2
    assert abs(logits(probe, middle)[0]) < 0.4
    assert biased.decision_function(middle)[0] > 1


def test_weights_are_per_video_then_per_class(monkeypatch):
    """Watches what the solver and the scaler are given: their sum is the number of videos."""
    descriptors, labels, groups = people()
    kept = (labels == 1) | (np.arange(labels.size) % 2 == 0)
    descriptors, labels, groups = descriptors[kept], labels[kept], groups[kept]
    videos = np.where(labels == 1, 1000 + np.arange(labels.size) // 3, np.arange(labels.size))
    given, scale, solve = {"scaled": [], "solved": []}, StandardScaler.partial_fit, logistic.fit

    def watched_scaler(self, rows, labels=None, sample_weight=None):
        if rows.shape[1] == WIDTH:  # calibration has a scaler of its own
            given["scaled"].append(sample_weight)
        return scale(self, rows, labels, sample_weight)

    def watched_solver(rows, labels, weights, C):
        given["solved"].append(weights)
        return solve(rows, labels, weights, C)

    monkeypatch.setattr(StandardScaler, "partial_fit", watched_scaler)
    monkeypatch.setattr(logistic, "fit", watched_solver)
    training.fit(descriptors, labels, groups, ONE, videos=videos)
    for scaled, solved in zip(*given.values(), strict=True):
        np.testing.assert_array_equal(scaled, solved)
    assert len(given["solved"]) == RECIPE.inner_folds + 1
    weights = given["solved"][-1]
    assert len(weights) == labels.size
    count = len(np.unique(videos))
    assert weights.sum() == pytest.approx(count)
    assert weights[labels == 1].sum() == pytest.approx(count / 2)
    sums = np.array([weights[videos == one].sum() for one in np.unique(videos)])
    kinds = np.array([labels[videos == one][0] for one in np.unique(videos)])
    for kind in (0, 1):
        np.testing.assert_allclose(sums[kinds == kind], count / 2 / (kinds == kind).sum())


def test_frames_are_judged_together(monkeypatch):
    """A video's logit is the mean over its frames, where strength and calibration are chosen."""
    descriptors, labels, groups = people()
    videos, judged = np.arange(labels.size) // 2, []
    calibration, threshold = training.calibration, training.best_threshold

    def watched(labels, logits):
        judged.append((labels, logits))
        return calibration(labels, logits)

    def watched_threshold(labels, odds):
        judged.append((labels, odds))
        return threshold(labels, odds)

    frames = np.random.default_rng(0).normal(size=labels.size)
    monkeypatch.setattr(training, "_held_out_logits", lambda recipe, *_: {recipe.c_grid[0]: frames})
    monkeypatch.setattr(training, "calibration", watched)
    monkeypatch.setattr(training, "best_threshold", watched_threshold)
    probe = training.fit(descriptors, labels, groups, ONE, videos=videos)
    means = frames.reshape(-1, 2).mean(1)
    for (known, seen), expected in zip(
        judged, (means, probe.slope * means + probe.offset), strict=True
    ):
        np.testing.assert_array_equal(known, labels[::2])
        np.testing.assert_allclose(seen, expected)


@pytest.mark.parametrize("differing", ["label", "group"])
def test_a_video_of_two_kinds_is_refused_by_name(differing):
    descriptors, labels, groups = people()
    videos = np.array([f"video {i // 2}" for i in range(labels.size)])
    if differing == "label":
        videos[[7, labels.size - 1]] = "010_020"  # a stem that a picture and a fake share
        groups[labels.size - 1] = groups[7]
    else:
        videos[[7, 60]] = "010_020"
    with pytest.raises(MixedVideo, match="'010_020' have several labels or groups"):
        training.fit(descriptors, labels, groups, RECIPE, videos=videos)


# -- conditioning ------------------------------------------------------------------------------


def test_every_conditioning_of_the_recipe_is_there():
    assert tuple(probing.ROWWISE) == recipe.CHOICES["conditioning"]


def conditioned(name, rows, like=None):
    """Rows as the classifier sees them, fitted to others of their kind."""
    like = rows if like is None else like
    mean, scale = training._scaling(name, probing.ROWWISE[name](like), np.ones(len(like)))
    return (probing.ROWWISE[name](rows) - mean) / scale


@given(seed=st.integers(0, 99), scale=st.floats(0.1, 100))
@settings(max_examples=20)
def test_what_each_conditioning_ignores(seed, scale):
    """And only that: the others see it."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(0, 3, (20, WIDTH))
    each = scale * rng.uniform(0.5, 2, (20, 1))
    shift = rng.normal(size=(20, 1))
    feature = scale * rng.uniform(0.5, 2, WIDTH)
    changes = {
        "rows scaled": (rows * each, {"l2", "layernorm", "ln-affine"}),
        "rows scaled and shifted": ((rows + shift) * each, {"layernorm", "ln-affine"}),
        "features scaled and shifted": ((rows + shift[:WIDTH, 0]) * feature, {"standardise"}),
    }
    for changed, ignoring in changes.values():
        for name in CONDITIONINGS:
            same = np.allclose(conditioned(name, changed), conditioned(name, rows), atol=1e-2)
            assert same == (name in ignoring), name


def test_rows_come_out_of_one_size():
    """A strength means as much under one conditioning as under another."""
    rows = np.random.default_rng(0).normal(1, 3, (400, WIDTH))
    for name in ("l2", "layernorm"):
        norms = np.linalg.norm(conditioned(name, rows), axis=1)
        np.testing.assert_allclose(norms, np.sqrt(WIDTH), rtol=1e-6)
    for name in ("standardise", "ln-affine"):
        np.testing.assert_allclose(conditioned(name, rows).std(0), 1)
        np.testing.assert_allclose(conditioned(name, rows).mean(0), 0, atol=1e-12)


def test_standardising_is_learned_from_the_training_rows():
    rng = np.random.default_rng(0)
    train, test = rng.normal(0, 1, (50, WIDTH)), rng.normal(9, 1, (50, WIDTH))
    assert conditioned("standardise", test, like=train).mean() > 5
    assert conditioned("standardise", test).mean() == pytest.approx(0)


@pytest.mark.parametrize("name", CONDITIONINGS)
def test_constant_features_and_empty_rows_stay_numbers(name):
    descriptors, labels, groups = people()
    descriptors[:, 3], descriptors[5], descriptors[6] = 0.1, 0, 7
    probe = training.fit(descriptors, labels, groups, ONE.but(conditioning=name))
    assert probe.conditioning == name
    assert np.isfinite(probing.score(probe, descriptors)).all()


# -- calibration and threshold -----------------------------------------------------------------


def test_known_log_odds_are_found_again():
    """Two normal classes a distance apart: the log-odds are linear in the logits, and known."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 20_000)
    values = rng.normal(2 * labels, 1)
    truth = 2 * (values - 1)
    slope, offset = training.calibration(labels, 7 * values + 3)
    np.testing.assert_allclose(slope * (7 * values + 3) + offset, truth, atol=0.3)


def test_calibration_knows_no_class_by_its_size():
    rng = np.random.default_rng(0)
    labels = (rng.random(20_000) < 0.9).astype(int)
    values = rng.normal(2 * labels, 1)
    slope, offset = training.calibration(labels, values)
    assert (slope, offset) == pytest.approx((2, -2), abs=0.15)


@given(scale=st.sampled_from([1e-6, 1e-3, 1e3, 1e6]), shift=st.floats(-5, 5))
@settings(max_examples=15)
def test_calibration_undoes_any_affine_map(scale, shift):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    values = rng.normal(labels, 1)
    slope, offset = training.calibration(labels, values)
    other, moved = training.calibration(labels, scale * (values + shift))
    np.testing.assert_allclose(
        other * scale * (values + shift) + moved, slope * values + offset, atol=1e-6
    )


def test_separated_logits_give_finite_odds():
    labels = np.repeat([0, 1], 50)
    slope, offset = training.calibration(labels, labels * 2.0 - 1)
    assert expit(slope + offset) == pytest.approx(51 / 52, abs=1e-4)
    assert expit(-slope + offset) == pytest.approx(1 / 52, abs=1e-4)


@pytest.mark.parametrize("logits", [-np.arange(20.0), np.zeros(20)], ids=["inverted", "constant"])
def test_what_learned_nothing_keeps_its_order_and_says_even_odds(logits):
    labels = np.repeat([0, 1], 10)
    slope, offset = training.calibration(labels, logits)
    assert slope > 0
    assert np.abs(expit(slope * logits + offset) - 0.5).max() < 0.01


def test_calibrated_log_odds_are_better_than_logits_on_other_people():
    descriptors, labels, groups = people(groups=12, each=8, lead=1.5)
    noise = np.random.default_rng(0).normal(size=(labels.size, 60))
    probe = training.fit(np.hstack([descriptors, noise]), labels, groups, RECIPE.but(c_grid=(10,)))
    descriptors, labels, _ = people(groups=60, each=8, lead=1.5, seed=1)
    unseen = np.hstack([descriptors, np.random.default_rng(1).normal(size=(labels.size, 60))])
    raw, calibrated = logits(probe, unseen), probing.score(probe, unseen)
    assert brier_score_loss(labels, expit(calibrated)) < brier_score_loss(labels, expit(raw)) - 0.01
    assert (np.argsort(raw) == np.argsort(calibrated)).all()


def test_the_threshold_is_the_best_there_is():
    rng = np.random.default_rng(0)
    for _ in range(10):
        labels = rng.permutation(np.repeat([0, 1], (7, 23)))
        odds = rng.normal(labels, 1).round(1)  # with ties
        found = training.best_threshold(labels, odds)
        tried = [balanced_accuracy_score(labels, odds > cut) for cut in np.arange(-2.05, 3, 0.1)]
        assert balanced_accuracy_score(labels, odds > found) == max(tried)


def test_the_threshold_lies_in_the_middle_of_the_widest_best_gap():
    labels = np.array([0, 0, 1, 1])
    assert training.best_threshold(labels, np.array([-3, -1, 2, 9.0])) == 0.5
    #                       narrow gap at 0.5, an error of either kind, wide gap at 4
    odds, labels = np.array([0, 1, 2, 6.0]), np.array([0, 1, 0, 1])
    assert training.best_threshold(labels, odds) == 4
    odds, labels = np.array([0, 4, 5, 6.0]), np.array([0, 1, 0, 1])
    assert training.best_threshold(labels, odds) == 2


@pytest.mark.parametrize("odds", [np.zeros(4), np.array([3, 2, 1, 0.0])])
def test_where_no_threshold_helps_it_is_even_odds(odds):
    assert training.best_threshold(np.array([0, 0, 1, 1]), odds) == 0


def test_the_threshold_is_chosen_on_held_out_training_people(monkeypatch):
    """With the labels of the training rows alone, on logits that no fold's own probe gave."""
    descriptors, labels, groups = people()
    seen, threshold = [], training.best_threshold

    def watched(labels, odds):
        seen.append((labels, odds))
        return threshold(labels, odds)

    monkeypatch.setattr(training, "best_threshold", watched)
    held_out = training.out_of_fold(descriptors, labels, groups, ONE, seeds=(3,))
    for fold, (used, odds) in enumerate(seen.copy()):
        train = held_out.folds[0] != fold
        np.testing.assert_array_equal(used, labels[train])
        assert held_out.thresholds[0, fold] == threshold(used, odds)
        probe = training.fit(descriptors[train], labels[train], groups[train], ONE, 3)
        assert held_out.thresholds[0, fold] == probe.threshold
        assert np.abs(probing.score(probe, descriptors[train]) - odds).max() > 0.01


# -- folds -------------------------------------------------------------------------------------


def owners(descriptors, groups):
    """Whose rows these are, told by the rows themselves."""
    owner = {row.tobytes(): group for row, group in zip(descriptors, groups, strict=True)}
    return lambda rows: {owner[row.tobytes()] for row in rows}


def test_nobody_is_on_both_sides_of_any_fold(monkeypatch):
    """Watches the real folds: who trains each probe, and who is scored."""
    order = np.random.default_rng(0).permutation(192)
    descriptors, labels, groups = (column[order] for column in people())
    people_of, fit, score = owners(descriptors, groups), training.fit, probing.score
    trained, scored = [], []

    def watched_fit(descriptors, labels, groups, *rest):
        trained.append(set(groups))
        return fit(descriptors, labels, groups, *rest)

    def watched_score(probe, descriptors):
        scored.append(people_of(descriptors))
        return score(probe, descriptors)

    monkeypatch.setattr(training, "fit", watched_fit)
    monkeypatch.setattr(probing, "score", watched_score)
    held_out = training.out_of_fold(descriptors, labels, groups, RECIPE, seeds=(0, 1))

    assert held_out.scores.shape == held_out.folds.shape == (2, labels.size)
    assert held_out.thresholds.shape == (2, RECIPE.folds)
    assert not np.isnan(held_out.scores).any()
    assert len(trained) == len(scored) == 2 * RECIPE.folds
    for train, test in zip(trained, scored, strict=True):
        assert train
        assert test
        assert not train & test
    everyone = set(groups)
    assert [len(set.union(*scored[i : i + 4])) for i in (0, 4)] == [len(everyone)] * 2
    assert scored[:4] != scored[4:]  # a seed decides who is in which fold
    assert (held_out.folds == training.outer_folds(labels, groups, RECIPE, (0, 1))).all()


def test_nobody_is_on_both_sides_of_any_inner_fold(monkeypatch):
    """Each solution says the same of all rows, namely which one it is: so it tells whom it scores.

    Without conditioning, so that the solver sees rows that are known.
    """
    descriptors, labels, groups = people()
    people_of, folds = owners(descriptors, groups), groups % 3
    trained = []

    def numbered(rows, labels, weights, strengths):
        trained.append(people_of(rows))
        number = np.full(len(strengths), len(trained) - 1.0)
        return np.zeros((len(strengths), WIDTH)), number

    monkeypatch.setattr(logistic, "fit", numbered)
    plain, weights = RECIPE.but(conditioning="none"), np.ones(labels.size)
    found = training._held_out_logits(plain, descriptors, labels, weights, folds)
    assert list(found) == list(RECIPE.c_grid)
    for logits in found.values():
        for number, known in enumerate(trained):
            tested = set(groups[logits == number])
            assert tested
            assert known
            assert known | tested == set(groups)
            assert not known & tested


def test_probes_learn_from_some_rows_and_score_all(monkeypatch):
    """Another forgery of the same people, and people of whom nothing is learned."""
    descriptors, labels, groups = people(groups=20)
    learned = (np.arange(labels.size) % 3 > 0) & (groups < 16)
    met, fit = [], training.fit

    def watched(descriptors, labels, groups, *rest):
        met.append(set(groups))
        return fit(descriptors, labels, groups, *rest)

    monkeypatch.setattr(training, "fit", watched)
    labels = np.where(learned, labels, -1)  # of rows not learned from they count for nothing
    every = training.out_of_fold(descriptors, labels, groups, ONE, (0, 1), learned)
    assert np.isfinite(every.scores).all()
    for at, who in enumerate(met):
        row, fold = divmod(at, ONE.folds)
        assert not who & set(groups[every.folds[row] == fold])
        assert who < set(range(16))
    only = [descriptors[learned], labels[learned], groups[learned]]
    plain = training.out_of_fold(*only, ONE, (0, 1))
    np.testing.assert_allclose(every.scores[:, learned], plain.scores, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(every.folds[:, learned], plain.folds)
    np.testing.assert_array_equal(every.thresholds, plain.thresholds)
    for group in range(20):
        assert (np.ptp(every.folds[:, groups == group], axis=1) == 0).all()
    assert set(every.folds[0, groups >= 16]) == set(range(ONE.folds))  # they take turns


def test_learning_from_every_row_is_the_plain_loop_to_the_last_bit():
    descriptors, labels, groups = people()
    plain = training.out_of_fold(descriptors, labels, groups, ONE, (0, 1))
    for row, seed in enumerate((0, 1)):
        folds = training._tested_in(labels, groups, ONE.folds, seed)
        np.testing.assert_array_equal(plain.folds[row], folds)
        for fold in range(ONE.folds):
            train, test = folds != fold, folds == fold
            probe = training.fit(descriptors[train], labels[train], groups[train], ONE, seed)
            scores = probing.score(probe, descriptors[test])
            np.testing.assert_array_equal(plain.scores[row, test], scores)
            assert plain.thresholds[row, fold] == probe.threshold
    every = training.out_of_fold(descriptors, labels, groups, ONE, (0, 1), labels >= 0)
    np.testing.assert_array_equal(every.scores, plain.scores)


def test_the_people_learned_from_fill_every_fold_with_both_classes():
    descriptors, labels, groups = people()
    learned = (labels == 0) | (groups < 3)
    with pytest.raises(TooFewGroups, match=r"16 groups .* and 3 with a fake for 4"):
        training.out_of_fold(descriptors, labels, groups, ONE, learned=learned)
    learned = (labels == 0) | (groups < 6)
    folds = training.out_of_fold(descriptors, labels, groups, ONE, (0,), learned).folds[0]
    for fold in range(ONE.folds):
        assert set(labels[learned & (folds == fold)]) == {0, 1}


def test_the_same_seed_gives_the_same_scores():
    case = people()
    first, again = (training.out_of_fold(*case, RECIPE, seeds=(5, 6)) for _ in range(2))
    only = training.out_of_fold(*case, RECIPE, seeds=(6,))
    for field in ("scores", "folds", "thresholds"):
        one = getattr(first, field)
        np.testing.assert_array_equal(one, getattr(again, field))
        np.testing.assert_array_equal(one[1:], getattr(only, field))
        assert (one[0] != one[1]).any()


def test_a_seed_decides_who_is_held_out_for_the_calibration():
    first, second = (training.fit(*people(), ONE, seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.weight, second.weight)
    assert first.slope != second.slope


def test_each_seed_learns_from_other_people(monkeypatch):
    descriptors, labels, groups = people()
    learned, fit = [], training.fit

    def watched(descriptors, labels, groups, recipe, seed, videos):
        learned.append((seed, set(groups), len(videos)))
        return fit(descriptors, labels, groups, recipe, seed, videos)

    monkeypatch.setattr(training, "fit", watched)
    videos = np.arange(labels.size) // 2
    probes = training.fit_seeds(descriptors, labels, groups, RECIPE, (3, 4), videos)
    assert [seed for seed, *_ in learned] == [3, 4]
    assert len({frozenset(who) for _, who, _ in learned}) == 2
    kept = training.outer_folds(labels, groups, RECIPE, (3, 4)) > 0
    for probe, rows, (seed, who, frames) in zip(probes, kept, learned, strict=True):
        assert frames == rows.sum()
        assert who == set(groups[rows])
        assert len(who) == 12  # of 16, one of four folds is left out
        alone = fit(descriptors[rows], labels[rows], groups[rows], RECIPE, seed, videos[rows])
        np.testing.assert_array_equal(
            probing.score(probe, descriptors), probing.score(alone, descriptors)
        )
    assert np.abs(
        probing.score(probes[0], descriptors) - probing.score(probes[1], descriptors)
    ).any()


def test_groups_and_videos_may_be_names():
    descriptors, labels, groups = people()
    videos = np.arange(labels.size) // 2
    named = [np.array([f"{one:03d}" for one in names]) for names in (groups, videos)]
    probes = [
        training.fit_seeds(descriptors, labels, g, RECIPE, (0,), v)[0]
        for g, v in ((groups, videos), named)
    ]
    np.testing.assert_array_equal(*(probing.score(probe, descriptors) for probe in probes))


@pytest.mark.parametrize(("groups", "folds"), [(3, 4), (2, 4)])
def test_too_few_people_are_refused_with_both_numbers(groups, folds):
    case = people(groups=groups)
    with pytest.raises(TooFewGroups, match=f"{groups} with a fake for {folds} folds"):
        training.out_of_fold(*case, RECIPE)
    with pytest.raises(TooFewGroups, match=f"{groups} with a fake for {folds} folds"):
        training.fit_seeds(*case, RECIPE)
    if groups < RECIPE.inner_folds:
        with pytest.raises(TooFewGroups, match=f"{groups} with a fake for 3 folds"):
            training.fit(*case, RECIPE)


def test_people_of_one_class_alone_are_not_enough():
    descriptors, labels, groups = people()
    kept = (labels == 0) | (groups < 3)
    with pytest.raises(TooFewGroups, match=r"16 groups .* bona fide item and 3 with a fake for 4"):
        training.out_of_fold(descriptors[kept], labels[kept], groups[kept], RECIPE)


# -- where its score climbs --------------------------------------------------------------------


@pytest.mark.parametrize("name", probing.AFFINE)
def test_a_score_moves_along_the_direction_and_nowhere_else(name):
    descriptors, labels, groups = people(lead=3)
    descriptors *= np.geomspace(1e2, 1e-2, WIDTH)  # features of very different sizes
    probe = training.fit(descriptors, labels, groups, ONE.but(conditioning=name))
    assert (probe.direction.shape, probe.direction.dtype) == ((WIDTH,), float)
    x, y = (np.random.default_rng(seed).permutation(descriptors) for seed in (0, 1))
    moved = probing.score(probe, x) - probing.score(probe, y)
    np.testing.assert_allclose(moved, (x - y) @ probe.direction, rtol=0, atol=1e-9)
    assert np.abs(moved).max() > 0.1


@pytest.mark.parametrize("name", sorted(set(CONDITIONINGS) - set(probing.AFFINE)))
def test_a_score_that_is_not_linear_has_no_direction(name):
    descriptors, labels, groups = people(lead=3)
    probe = training.fit(descriptors, labels, groups, ONE.but(conditioning=name))
    with pytest.raises(NotLinear, match=f"'{name}'.*expected none or standardise"):
        _ = probe.direction
    x, y = descriptors[:40], descriptors[-40:]
    halfway = (probing.score(probe, x) + probing.score(probe, y)) / 2
    assert np.abs(probing.score(probe, (x + y) / 2) - halfway).max() > 0.1


# -- rows without a descriptor -----------------------------------------------------------------


def test_a_row_without_a_descriptor_gets_no_score_and_teaches_nothing():
    descriptors, labels, groups = people()
    absent = np.random.default_rng(0).random(labels.size) < 0.2
    holed = np.where(absent[:, None], np.nan, descriptors)
    holed[np.flatnonzero(absent)[0], 1:] = 0  # one missing number is a missing row
    probe = training.fit(holed, labels, groups, RECIPE)
    without = training.fit(descriptors[~absent], labels[~absent], groups[~absent], RECIPE)
    scores = probing.score(probe, holed)
    np.testing.assert_array_equal(np.isnan(scores), absent)
    np.testing.assert_array_equal(scores[~absent], probing.score(without, descriptors[~absent]))
    for row in training.out_of_fold(holed, labels, groups, RECIPE).scores:
        np.testing.assert_array_equal(np.isnan(row), absent)


def test_nothing_but_missing_rows_is_scored_as_missing():
    probe = training.fit(*people(), RECIPE)
    assert np.isnan(probing.score(probe, np.full((3, WIDTH), np.nan))).all()


# -- on disk -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """Probes of two seeds for each conditioning."""
    case = people()
    return {
        name: training.fit_seeds(*case, ONE.but(conditioning=name), (0, 1))
        for name in CONDITIONINGS
    }


@pytest.mark.parametrize("name", CONDITIONINGS)
def test_probes_come_back_and_score_the_same_to_the_last_bit(trained, tmp_path, name):
    path, unseen = tmp_path / "deep" / "mouth.safetensors", people(seed=1)[0].astype(np.float32)
    probing.save(trained[name], path, {"view": "mouth", "metrics": {"auc": 0.7}})
    again, card = probing.load(path)
    assert len(again) == 2
    for probe, loaded in zip(trained[name], again, strict=True):
        np.testing.assert_array_equal(probing.score(loaded, unseen), probing.score(probe, unseen))
        for field in ("conditioning", "slope", "offset", "threshold", "C"):
            assert getattr(loaded, field) == getattr(probe, field)
    assert (card["view"], card["metrics"]) == ("mouth", {"auc": 0.7})
    probing.save(again, tmp_path / "again.safetensors", card)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert probing.load(tmp_path / "again.safetensors")[1] == card


def test_a_card_says_what_the_probes_are(trained, tmp_path):
    path, given = (
        tmp_path / "mouth.safetensors",
        {"recipe": dataclasses.asdict(ONE), "C": "old", "sha256": "old"},
    )
    probing.save(trained["l2"], path, given)
    _, card = probing.load(path)
    assert card["conditioning"] == "l2"
    assert card["width"] == WIDTH
    assert card["C"] == [0.1, 0.1]
    assert card["threshold"] == [probe.threshold for probe in trained["l2"]]
    assert card["calibration"][1]["slope"] == trained["l2"][1].slope
    assert {"what", "limits", "licence", "load", "made_by", "recipe"} <= set(card)
    assert given["sha256"] == "old"


def test_a_save_cut_short_leaves_the_old_probe_or_says_so(trained, tmp_path, monkeypatch):
    path = tmp_path / "mouth.safetensors"
    probing.save(trained["none"], path, {})
    monkeypatch.setattr(probing.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        probing.save(trained["l2"], path, {})
    monkeypatch.undo()
    assert probing.load(path)[0][0].conditioning == "none"
    assert len(list(tmp_path.iterdir())) == 2


def rewritten(path, **arrays):
    """Other arrays with a card that fits them: None takes one away."""
    numbers = {n: a for n, a in (load_file(path) | arrays).items() if a is not None}
    save_file(numbers, path)
    resealed(path)


def resealed(path, **changes):
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = probing.hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(probing.signed(card | changes))


@pytest.mark.parametrize("field", ["threshold", "view", "recipe"])
def test_a_card_that_was_edited_is_refused_and_one_without_a_digest_too(trained, tmp_path, field):
    path, given = tmp_path / "mouth.safetensors", {"view": "mouth", "recipe": {"frames": 32}}
    probing.save(trained["none"], path, given)
    card = json.loads(path.with_suffix(".json").read_text())
    unsigned = {name: value for name, value in card.items() if name != "digest"}
    for changed in (unsigned, card | {field: [0.5, 0.5]}, unsigned | {field: [0.5, 0.5]}):
        path.with_suffix(".json").write_text(json.dumps(changed))
        with pytest.raises(BadProbe, match="was changed after it was written"):
            probing.load(path)


def test_a_pipe_beside_a_probe_is_not_waited_for(trained, tmp_path):
    path = tmp_path / "mouth.safetensors"
    probing.save(trained["none"], path, {})
    path.with_suffix(".json").unlink()
    os.mkfifo(path.with_suffix(".json"))
    with pytest.raises(BadProbe, match="a device or a pipe"):
        probing.load(path)


def no_card(path):
    path.with_suffix(".json").unlink()


def no_weights(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:40])
    resealed(path)


def another_file(path):
    path.write_bytes(b"pickle, perhaps")
    resealed(path)


def bloated(path):
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    resealed(path)


def half_precision(path):
    """A type of number that numpy does not have."""
    header = b'{"weight":{"dtype":"BF16","shape":[1,1],"data_offsets":[0,2]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0")
    resealed(path)


def no_json(path):
    path.with_suffix(".json").write_text("{")


def no_utf8(path):
    path.with_suffix(".json").write_bytes(b'"\xff"')


def nested(path):
    path.with_suffix(".json").write_text("[" * 100_000)


def a_list(path):
    path.with_suffix(".json").write_text("[]")


def another_probe(path):
    """One digit of one weight."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    no_card: "No such file",
    no_weights: "No such file",
    cut: "header",
    another_file: "header",
    bloated: "header",
    half_precision: "BF16|bfloat16",
    no_json: "Expecting",
    no_utf8: "decode",
    nested: "recursion",
    a_list: "the card holds a list",
    another_probe: "its sha256 differs",
    lambda path: resealed(path, sha256=None): "its sha256 differs",
    lambda path: resealed(path, format=2): "format 2, not 1",
    lambda path: resealed(path, format=None): "format None, not 1",
    lambda path: resealed(path, conditioning="standardize"): "did you mean 'standardise'",
    lambda path: resealed(path, conditioning=["l2"]): "unknown conditioning",
    lambda path: resealed(path, conditioning="l2"): r"arrays .*'mean'.* where l2 has",
    lambda path: rewritten(path, threshold=None): "where standardise has .*'threshold'",
    lambda path: rewritten(path, scale=None): "where standardise has .*'scale'",
    lambda path: rewritten(path, more=np.zeros(2)): "'more'",
    lambda path: rewritten(path, mean=np.zeros((2, 3))): r"mean is float64 \(2, 3\)",
    lambda path: rewritten(path, bias=np.zeros(1)): r"bias is float64 \(1,\)",
    lambda path: rewritten(path, weight=np.zeros(2)): r"weight is \(2,\)",
    lambda path: rewritten(path, weight=np.zeros((2, 0))): r"weight is \(2, 0\)",
    lambda path: rewritten(path, bias=np.zeros(2, np.float32)): "bias is float32",
    lambda path: rewritten(path, weight=np.full((2, WIDTH), np.nan)): "weight holds .* not finite",
    lambda path: rewritten(path, offset=np.array([0, np.inf])): "offset holds .* not finite",
    lambda path: rewritten(path, scale=np.zeros((2, WIDTH))): "scale holds .* not above 0",
    lambda path: rewritten(path, slope=np.array([1.0, -1])): "slope holds .* not above 0",
    lambda path: rewritten(path, C=np.zeros(2)): "C holds .* not above 0",
}


@pytest.mark.parametrize(("damage", "said"), DAMAGES.items(), ids=list(DAMAGES.values()))
def test_what_is_no_probe_is_said(trained, tmp_path, damage, said):
    path = tmp_path / "mouth.safetensors"
    probing.save(trained["standardise"], path, {})
    damage(path)
    with pytest.raises(BadProbe, match=said) as caught:
        probing.load(path)
    assert str(path) in str(caught.value)
    assert "Train it again" in str(caught.value)


def test_the_card_of_another_probe_is_refused(trained, tmp_path):
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    probing.save(trained["l2"], one, {})
    probing.save(trained["layernorm"], other, {})
    other.with_suffix(".json").write_bytes(one.with_suffix(".json").read_bytes())
    with pytest.raises(BadProbe, match="belongs to another file"):
        probing.load(other)


def test_no_fold_is_left_with_one_class():
    """Groups of very different sizes, of which scikit-learn's own folds leave one bare."""
    sizes = [(2, 2), (40, 40), (1, 2), (1, 0), (1, 2), (8, 40), (40, 0), (8, 0)]
    groups = np.concatenate([np.full(sum(pair), at) for at, pair in enumerate(sizes)])
    labels = np.concatenate([np.repeat([0, 1], pair) for pair in sizes])
    bare = 0
    for seed in range(100):
        folds = training._tested_in(labels, groups, 3, seed)
        assert all(len(np.unique(labels[folds == fold])) == 2 for fold in range(3)), seed
        splitter = training.StratifiedGroupKFold(3, shuffle=True, random_state=seed)
        tests = [test for _, test in splitter.split(labels, labels, groups)]
        bare += any(len(np.unique(labels[test])) < 2 for test in tests)
    assert bare, "scikit-learn's own folds would do"


def test_folds_that_cannot_hold_both_classes_are_refused(monkeypatch):
    monkeypatch.setattr(training, "ATTEMPTS", 0)
    descriptors, labels, groups = people()
    with pytest.raises(TooFewGroups, match="ways of dealing 16 groups into 3 folds"):
        training.fit(descriptors, labels, groups, RECIPE)


def test_scoring_waits_for_no_library_that_only_training_needs():
    """A still in under 5 s: scikit-learn and SciPy's statistics alone would take one of them."""
    heavy = ("sklearn", "scipy.stats")
    code = f"import sys, seglib.scoring; print([one for one in {heavy} if one in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "[]", process.stderr
