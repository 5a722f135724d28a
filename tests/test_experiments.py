"""What the demo measures: controls that can fail, records by name."""

from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
from samples import made_up

from seglib import ablation, demo, experiments, recipe
from seglib.errors import UnknownName
from seglib.evaluation import Scores

RECIPE = recipe.demo().but(c_grid=(1e-2, 1.0), folds=3)


def test_every_experiment_of_the_demo_has_a_name():
    names = list(experiments.EXPERIMENTS)
    assert names[0] == "orl-mouth-poisson"
    assert "orl-mouth-poisson--csu-mouth-self-blend" in names
    assert names[8:15] == [
        "shuffled-labels", "token-counts-orl", "token-counts-csu", "parser-confidence-orl",
        "parser-confidence-csu", "protocol", "simulation",
    ]  # fmt: skip
    assert set(ablation.EXPERIMENTS) < set(names)


def test_an_unknown_experiment_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'orl-mouth-poisson'"):
        experiments.run("orl-mouth-poison", RECIPE)


def test_an_experiment_has_seeds_of_its_own_and_takes_others(monkeypatch):
    own = {"a": lambda recipe, seeds=(7, 8): seeds}
    monkeypatch.setattr(experiments, "EXPERIMENTS", own)
    assert experiments.run("a", RECIPE) == (7, 8)
    assert experiments.run("a", RECIPE, range(2)) == range(2)


@pytest.mark.parametrize("name", experiments.EXPERIMENTS)
def test_no_experiment_needs_to_be_given_seeds(name):
    signature(experiments.EXPERIMENTS[name]).bind(RECIPE)


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
    assert found.ordinal
    assert found.title == "csu: number of the forged part's tokens"
    assert len(found.labels) == 2 * 9 * 5
    assert list(found.views) == ["mouth forged", "eyes forged"]
    assert found.auc("mouth forged").value == 0.5  # three tokens everywhere
    assert found.views["eyes forged"].tolist() == [2, 2, 2, 0, *[2] * 86]
    orl = experiments.run("token-counts-orl", RECIPE, seeds=(0,))
    assert list(orl.views) == ["mouth forged", "eyes forged", "nose forged"]


def test_the_parsers_confidence_needs_none_either_and_may_be_missing(samples, monkeypatch):
    sure = np.repeat([0.9, 0.8], 45)
    sure[7] = np.nan
    monkeypatch.setattr(
        demo, "sample", lambda dataset, part, *rest: made_up(9, part=part, sure=sure)
    )
    found = experiments.run("parser-confidence-csu", RECIPE, seeds=(0,))
    assert found.title == "csu: the parser's confidence"
    assert list(found.views) == ["mouth forged", "eyes forged"]
    told = found.auc("mouth forged")
    assert told.value == 0  # sign as it is: the forged are the less sure
    assert told.coverage == pytest.approx(89 / 90)


def test_confidence_near_certainty_is_still_told_apart(samples, monkeypatch):
    sure = np.repeat([1 - 6e-8, 1], 45).astype(np.float32)
    monkeypatch.setattr(demo, "sample", lambda *names: made_up(9, part=names[1], sure=sure))
    found = experiments.run("parser-confidence-csu", RECIPE)
    assert np.isfinite(found.views["mouth forged"]).all()
    assert np.ptp(found.views["mouth forged"]) > 0.1
    assert found.auc("mouth forged").value == 1


# -- the protocol ------------------------------------------------------------------------------


def test_nobody_is_on_both_sides_of_any_split(book):
    assert experiments._on_both_sides(recipe.demo(), seeds=(0,)) == 0


def test_a_leak_of_people_is_counted(book, monkeypatch):
    """Folds by picture; and a transfer to the very people it was trained on."""
    monkeypatch.setattr(experiments, "TRANSFERS", ())
    folds = experiments.training.outer_folds
    monkeypatch.setattr(
        experiments.training,
        "outer_folds",
        lambda labels, groups, *rest: folds(labels, np.arange(len(labels)), *rest),
    )
    assert experiments._on_both_sides(recipe.demo(), seeds=(0,)) > 100
    monkeypatch.undo()
    same = (("orl", "mouth", "poisson"), ("orl", "eyes", "poisson"))
    monkeypatch.setattr(experiments, "TRANSFERS", (same,))
    assert experiments._on_both_sides(recipe.demo(), seeds=(0,)) == 40


def test_a_leak_in_the_audit_alone_counts_too(book, monkeypatch):
    """Also under a seed that only the audit has."""
    monkeypatch.setattr(experiments, "WITHIN", ())
    monkeypatch.setattr(experiments, "TRANSFERS", ())
    folds = experiments.training.outer_folds

    def leak(labels, groups, recipe, seeds):
        everyone, last = folds(labels, groups, recipe, seeds), list(seeds).index(4)
        everyone[last] = np.arange(len(labels)) % recipe.folds
        return everyone

    monkeypatch.setattr(experiments.training, "outer_folds", leak)
    assert experiments._on_both_sides(recipe.demo(), seeds=(0,)) == 3 * 5 * 40  # parts, folds


def test_a_self_blend_shows_nobody_else():
    shown = experiments._shown(("csu", "mouth", "self-blend"), recipe.demo())
    assert (shown[:, 0] == shown[:, 1]).all()
    lent = experiments._shown(("csu", "mouth", "feathered"), recipe.demo())
    bona_fide = len(lent) // 2
    assert (lent[:bona_fide, 0] == lent[:bona_fide, 1]).all()
    assert (lent[bona_fide:, 0] != lent[bona_fide:, 1]).all()


def test_training_leaves_the_encoder_as_it_was(book, monkeypatch):
    assert experiments._changes_to_the_encoder(recipe.demo()) == 0
    fit = experiments.training.fit

    def spoil(*case, **options):
        chains[0].backbone.model.layernorm.bias.add_(1)
        return fit(*case, **options)

    chains, load = [], experiments.Extractor
    monkeypatch.setattr(experiments, "Extractor", lambda r: chains.append(load(r)) or chains[0])
    monkeypatch.setattr(experiments.training, "fit", spoil)
    assert experiments._changes_to_the_encoder(recipe.demo()) == 384
