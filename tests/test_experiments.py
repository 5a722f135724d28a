"""What the demo measures: scores of people never met, controls that can fail, records by name."""

from dataclasses import replace

import numpy as np
import pytest

from seglib import demo, experiments, recipe, regions
from seglib.errors import UnknownName
from seglib.evaluation import Scores
from seglib.extraction import Descriptors

RECIPE = recipe.demo().but(c_grid=(1e-2, 1.0), folds=3)


def made_up(people=12, each=5, seed=0, lead=4.0):
    """A sample whose mouth tokens, and only they, tell a fake."""
    rng = np.random.default_rng(seed)
    groups = np.tile(np.repeat(np.arange(people), each), 2)
    labels = np.repeat([0, 1], people * each)
    sums = rng.normal(size=(labels.size, len(regions.LABELS), 6)).astype(np.float32)
    sums[:, list(regions.part_ids("mouth")), 0] += lead * labels[:, None]
    counts = np.ones(sums.shape[:2], np.int64)
    counts[3, list(regions.part_ids("eyes"))] = 0  # one picture without eyes
    sums[3, list(regions.part_ids("eyes"))] = 0
    random = rng.normal(size=sums.shape).astype(np.float32) * counts[..., None]
    cls = rng.normal(size=(labels.size, 6)).astype(np.float32)
    reasons = np.full(labels.size, "")
    found = Descriptors(sums, counts, random, cls, reasons)
    items = np.arange(labels.size).astype(str)
    return demo.Sample("made up", "mouth", found, labels, groups, items)


def test_within_scores_each_view_by_seed_and_picture():
    sample = made_up()
    scores = experiments.within(sample, ["mouth", "eyes", "random mouth"], RECIPE, seeds=(0, 1))
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
    scores = experiments.across(train, test, ["mouth", "eyes"], RECIPE, seeds=(0, 1, 2))
    assert list(scores.views) == ["mouth", "eyes"]
    assert all(values.shape == (3, 42) for values in scores.views.values())
    assert np.flatnonzero(np.isnan(scores.views["eyes"]).any(0)).tolist() == [3]
    assert scores.table("mouth").auc["mouth"] > 0.9


def test_each_seed_of_across_learns_from_other_people():
    train, test = made_up(), made_up(people=7, each=3, seed=1)
    first, second = experiments.across(train, test, ["mouth"], RECIPE, seeds=(0, 1)).views["mouth"]
    assert not np.allclose(first, second)


def test_across_learns_nothing_from_the_test():
    """No target data: the test's labels and other pictures cannot move a score."""
    train, test = made_up(), made_up(people=7, each=3, seed=1)
    scores = experiments.across(train, test, ["mouth"], RECIPE, seeds=(0,)).views["mouth"]
    flipped = replace(test, labels=1 - test.labels)
    np.testing.assert_array_equal(
        scores, experiments.across(train, flipped, ["mouth"], RECIPE, seeds=(0,)).views["mouth"]
    )
    columns = ("sums", "counts", "random", "cls", "reasons")
    half = Descriptors(*(getattr(test.descriptors, name)[:20] for name in columns))
    part = replace(
        test, descriptors=half, labels=test.labels[:20], groups=test.groups[:20],
        items=test.items[:20],
    )  # fmt: skip
    np.testing.assert_allclose(
        scores[:, :20],
        experiments.across(train, part, ["mouth"], RECIPE, seeds=(0,)).views["mouth"],
    )


def test_scores_tell_who_was_scored_by_what_and_how_long_it_took():
    sample = made_up()
    held = experiments.within(sample, ["mouth", "eyes"], RECIPE, seeds=(0, 1))
    assert held.title == "made up"
    assert held.seconds > 0
    assert held.items.tolist() == sample.items.tolist()
    assert held.probes.shape == (2, 120)
    assert {view: found.shape for view, found in held.thresholds.items()} == {
        "mouth": (2, 3),
        "eyes": (2, 3),
    }
    assert held.measures("mouth")["accuracy"].value > 0.8
    moved = experiments.across(sample, made_up(people=7, seed=1), ["mouth"], RECIPE, seeds=(0, 1))
    assert moved.title == "made up → made up"
    assert moved.thresholds["mouth"].shape == (2, 1)
    assert moved.measures("mouth")["accuracy"].value > 0.8


# -- by name -----------------------------------------------------------------------------------


def test_every_experiment_of_the_demo_has_a_name():
    names = list(experiments.EXPERIMENTS)
    assert names[0] == "orl-mouth-poisson"
    assert "orl-mouth-poisson--csu-mouth-self-blend" in names
    assert names[-5:] == [
        "shuffled-labels", "token-counts-orl", "token-counts-csu", "protocol", "simulation"
    ]  # fmt: skip


def test_an_unknown_experiment_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'orl-mouth-poisson'"):
        experiments.run("orl-mouth-poison", RECIPE)


@pytest.fixture
def samples(monkeypatch):
    """Made-up samples in place of the demo's: only the forged part tells."""

    def sample(dataset, part, blend, recipe):
        people = {"orl": 12, "csu": 9}[dataset]
        return replace(made_up(people), name=f"{dataset}, {part}, {blend}", part=part)

    monkeypatch.setattr(demo, "sample", sample)


def test_an_experiment_has_the_forged_part_first_and_every_view(samples):
    held = experiments.run("orl-eyes-poisson", RECIPE, seeds=(0,))
    assert list(held.views) == ["eyes", "mouth", "brows", "nose", "skin", "all", "cls",
                                "random eyes"]  # fmt: skip
    moved = experiments.run("orl-mouth-poisson--csu-mouth-feathered", RECIPE, seeds=(0,))
    assert list(moved.views) == ["mouth", "eyes", "brows", "nose", "skin", "all", "cls"]
    assert len(moved.labels) == 2 * 9 * 5
    assert moved.auc("mouth").value > 0.9


def test_shuffled_labels_leave_nothing_to_find(samples):
    found = experiments.run("shuffled-labels", RECIPE, seeds=(0, 1))
    straight = made_up(12)
    assert (found.labels != straight.labels).any()
    for group in np.unique(straight.groups):  # dealt out anew inside each group
        members = straight.groups == group
        assert found.labels[members].sum() == straight.labels[members].sum()
    assert found.auc("mouth").low < 0.5 < found.auc("mouth").high


def test_counting_tokens_needs_no_probe(samples):
    found = experiments.run("token-counts-csu", RECIPE, seeds=(0,))
    assert isinstance(found, Scores)
    assert len(found.labels) == 2 * 9 * 5
    assert list(found.views) == ["mouth forged", "eyes forged"]
    assert found.auc("mouth forged").value == 0.5  # three tokens everywhere


# -- the protocol ------------------------------------------------------------------------------


def test_nobody_is_on_both_sides_of_any_split():
    assert experiments._on_both_sides(recipe.demo(), seeds=(0,)) == 0


def test_a_leak_of_people_is_counted(monkeypatch):
    """Folds by picture; and a transfer to the very people it was trained on."""
    monkeypatch.setattr(experiments, "TRANSFERS", ())
    folds = experiments.probing.outer_folds
    monkeypatch.setattr(
        experiments.probing,
        "outer_folds",
        lambda labels, groups, *rest: folds(labels, np.arange(len(labels)), *rest),
    )
    assert experiments._on_both_sides(recipe.demo(), seeds=(0,)) > 100
    monkeypatch.undo()
    same = (("orl", "mouth", "poisson"), ("orl", "eyes", "poisson"))
    monkeypatch.setattr(experiments, "TRANSFERS", (same,))
    assert experiments._on_both_sides(recipe.demo(), seeds=(0,)) == 40


def test_a_self_blend_shows_nobody_else():
    shown = experiments._shown(("csu", "mouth", "self-blend"), recipe.demo())
    assert (shown[:, 0] == shown[:, 1]).all()
    lent = experiments._shown(("csu", "mouth", "feathered"), recipe.demo())
    bona_fide = len(lent) // 2
    assert (lent[:bona_fide, 0] == lent[:bona_fide, 1]).all()
    assert (lent[bona_fide:, 0] != lent[bona_fide:, 1]).all()


def test_training_leaves_the_encoder_as_it_was(monkeypatch):
    assert experiments._changes_to_the_encoder(recipe.demo()) == 0
    fit = experiments.probing.fit

    def spoil(*case, **options):
        chains[0].backbone.model.layernorm.bias.add_(1)
        return fit(*case, **options)

    chains, load = [], experiments.Extractor
    monkeypatch.setattr(experiments, "Extractor", lambda r: chains.append(load(r)) or chains[0])
    monkeypatch.setattr(experiments.probing, "fit", spoil)
    assert experiments._changes_to_the_encoder(recipe.demo()) == 384
