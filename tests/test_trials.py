"""Probes put to the test: scores of people never met, from what was learned of others."""

from dataclasses import replace

import numpy as np
import pytest
from samples import made_up

from seglib import recipe, trials

RECIPE = recipe.demo().but(c_grid=(1e-2, 1.0), folds=3)


def test_within_scores_each_view_by_seed_and_picture():
    sample = made_up()
    scores = trials.within(sample, ["mouth", "eyes", "random mouth"], RECIPE, seeds=(0, 1))
    assert list(scores.views) == ["mouth", "eyes", "random mouth"]
    assert all(values.shape == (2, 120) for values in scores.views.values())
    assert not np.isnan(scores.views["mouth"]).any()
    assert np.flatnonzero(np.isnan(scores.views["eyes"]).any(0)).tolist() == [3]
    table = scores.table("mouth")
    assert table.auc["mouth"] > 0.9
    assert table.high["eyes"] < table.low["mouth"]
    assert table.coverage.tolist() == [1, pytest.approx(119 / 120), 1]
    assert table["items"].tolist() == [120, 119, 120]
    assert (table.groups == 12).all()
    assert (table.lead["mouth"], table.lead_low["mouth"], table.lead_high["mouth"]) == (0, 0, 0)
    assert table.lead["random mouth"] == pytest.approx(table.auc["mouth"] - table.auc.iloc[2])
    assert table.lead_low["random mouth"] > 0


def test_across_scores_people_whom_the_probe_never_met():
    train, test = made_up(), made_up(people=7, each=3, seed=1)
    scores = trials.across(train, test, ["mouth", "eyes"], RECIPE, seeds=(0, 1, 2))
    assert list(scores.views) == ["mouth", "eyes"]
    assert all(values.shape == (3, 42) for values in scores.views.values())
    assert np.flatnonzero(np.isnan(scores.views["eyes"]).any(0)).tolist() == [3]
    assert scores.table("mouth").auc["mouth"] > 0.9


def test_each_seed_of_across_learns_from_other_people():
    train, test = made_up(), made_up(people=7, each=3, seed=1)
    first, second = trials.across(train, test, ["mouth"], RECIPE, seeds=(0, 1)).views["mouth"]
    assert not np.allclose(first, second)


def test_across_learns_nothing_from_the_test():
    """No target data: the test's labels and other pictures cannot move a score."""
    train, test = made_up(), made_up(people=7, each=3, seed=1)
    scores = trials.across(train, test, ["mouth"], RECIPE, seeds=(0,)).views["mouth"]
    flipped = replace(test, labels=1 - test.labels)
    np.testing.assert_array_equal(
        scores, trials.across(train, flipped, ["mouth"], RECIPE, seeds=(0,)).views["mouth"]
    )
    half = test.descriptors.of(slice(20))
    part = replace(
        test, descriptors=half, labels=test.labels[:20], groups=test.groups[:20],
        items=test.items[:20],
    )  # fmt: skip
    np.testing.assert_allclose(
        scores[:, :20],
        trials.across(train, part, ["mouth"], RECIPE, seeds=(0,)).views["mouth"],
    )


def test_scores_tell_who_was_scored_by_what_and_how_long_it_took():
    sample = made_up()
    held = trials.within(sample, ["mouth", "eyes"], RECIPE, seeds=(0, 1))
    assert held.title == "made up"
    assert held.seconds > 0
    assert held.items.tolist() == sample.items.tolist()
    assert held.probes.shape == (2, 120)
    assert {view: found.shape for view, found in held.thresholds.items()} == {
        "mouth": (2, 3),
        "eyes": (2, 3),
    }
    assert held.measures("mouth")["accuracy"].value > 0.8
    moved = trials.across(sample, made_up(people=7, seed=1), ["mouth"], RECIPE, seeds=(0, 1))
    assert moved.title == "made up → made up"
    assert moved.thresholds["mouth"].shape == (2, 1)
    assert moved.measures("mouth")["accuracy"].value > 0.8


# -- any descriptors ---------------------------------------------------------------------------


def test_a_view_may_be_probed_by_a_recipe_of_its_own():
    sample = made_up(lead=1.0)
    rows, other = sample.descriptors.view("mouth"), RECIPE.but(conditioning="l2")
    views = {"own": rows, "other": rows}
    scores = trials.held_out(sample, views, RECIPE, seeds=(0,), decided={"other": other})
    assert list(scores.views) == ["own", "other"]
    for view, decisions in (("own", RECIPE), ("other", other)):
        alone = trials.within(sample, ["mouth"], decisions, seeds=(0,))
        np.testing.assert_array_equal(scores.views[view], alone.views["mouth"])
    assert not np.allclose(scores.views["own"], scores.views["other"])


def test_what_may_not_be_learned_from_is_scored_and_moves_nothing():
    sample = made_up()
    learned = np.arange(120) % 5 > 0
    rows = {"mouth": sample.descriptors.view("mouth")}
    scores = trials.held_out(sample, rows, RECIPE, seeds=(0,), learned=learned)
    assert not np.isnan(scores.views["mouth"]).any()
    swapped = replace(sample, labels=np.where(learned, sample.labels, 1 - sample.labels))
    again = trials.held_out(swapped, rows, RECIPE, seeds=(0,), learned=learned)
    np.testing.assert_array_equal(scores.views["mouth"], again.views["mouth"])
    everything = trials.held_out(swapped, rows, RECIPE, seeds=(0,))
    assert not np.allclose(scores.views["mouth"], everything.views["mouth"])
