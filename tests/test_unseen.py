"""Trained on one collection, tested on the other's swaps: made-up samples in place of faces."""

import re
from dataclasses import replace

import numpy as np
import pytest
from samples import made_up

from seglib import demo, panel, recipe, results, trials, unseen, zeroshot

RECIPE = recipe.demo().but(c_grid=(1e-2,), folds=3)
EVERY = [(axis, name) for axis, trainings in unseen.AXES.items() for name in trainings]
PEOPLE = {"orl": 12, "csu": 9}


@pytest.fixture
def asked(monkeypatch):
    """Only the mouth tells; it tells less in a feathered swap, and nothing in untouched pictures.

    Which samples were asked for.
    """
    seen = []

    def in_the_wild(dataset, method, decided, draw=0, treated=True):
        seen.append((dataset, method, draw, treated, decided))
        lead = 0.0 if not treated else 2.0 if method == "feathered" else 4.0
        made = made_up(PEOPLE[dataset], lead=lead, seed=len(seen))
        groups, items = ([f"{dataset}/{one}" for one in row] for row in (made.groups, made.items))
        return replace(made, name=dataset, groups=np.array(groups), items=np.array(items))

    monkeypatch.setattr(zeroshot, "in_the_wild", in_the_wild)
    unseen._tested.cache_clear()
    yield seen
    unseen._tested.cache_clear()


def test_the_first_of_each_axis_is_what_the_panel_does():
    for trainings in unseen.AXES.values():
        assert next(iter(trainings.values())) == unseen.OWN
    assert unseen.OWN.taught == zeroshot.TAUGHT
    assert unseen.OWN.draws == zeroshot.DRAWS
    assert not set(unseen.TESTED) & set(zeroshot.TAUGHT)
    own = recipe.panel()
    assert (own.layer, own.c_grid, own.conditioning) == (-4, (1e-2,), "none")  # what they are named


@pytest.mark.parametrize(("axis", "name"), EVERY)
def test_every_alternative_is_another_training_and_its_name_can_stand_in_a_key(axis, name):
    others = [one for other, one in unseen.AXES[axis].items() if other != name]
    assert unseen.AXES[axis][name] not in others
    recipe.panel().but(**dict(unseen.AXES[axis][name].changed))  # a recipe there can be
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", results.slug(name))


def test_nobody_is_trained_on_and_tested(asked, monkeypatch):
    pairs, across = [], trials.across

    def watched(train, test, *rest):
        pairs.append((train.name, test.name))
        return across(train, test, *rest)

    monkeypatch.setattr(trials, "across", watched)
    unseen.changed("draws", RECIPE, (0,))
    assert set(pairs) == {("orl", "csu"), ("csu", "orl")}


def test_every_block_is_described_in_one_look():
    layers = {
        dict(one.changed).get("layer", recipe.panel().layer)
        for one in unseen.AXES["layer"].values()
    }
    assert layers == set(zeroshot.DEPTHS)


def test_every_picture_is_scored_once(asked):
    found = unseen.changed("taught", RECIPE, (0, 1))
    people = sum(PEOPLE.values())
    assert found.views["both"].shape == (2, 3 * 5 * people)  # bona fide, and two kinds of swaps
    assert (found.labels == 0).sum() == 5 * people
    assert len(set(found.items[found.labels == 0])) == 5 * people
    assert len(np.unique(found.groups)) == people
    assert set(found.methods[found.labels == 1]) == set(unseen.TESTED)
    assert set(found.methods[found.labels == 0]) == {""}
    for probe in np.unique(found.probes):  # one for each collection, the other's
        names = {item.partition("/")[0] for item in found.items[found.probes[0] == probe]}
        assert len(names) == 1
    assert (found.probes[0] == found.probes[1]).all()
    taught = {(dataset, method, draw) for dataset, method, draw, *_ in asked}
    tested = {(one, method, 0) for one in demo.DATASETS for method in unseen.TESTED}
    assert taught - tested == {
        (one, method, draw)
        for one in demo.DATASETS
        for method in (*zeroshot.TAUGHT, "poisson")
        for draw in range(zeroshot.DRAWS)
    } - {(one, "poisson", 0) for one in demo.DATASETS}


def test_what_tells_in_training_tells_in_the_test(asked):
    found = unseen.changed("treatment", RECIPE, (0,))
    assert list(found.views) == ["treated", "untouched"]
    assert found.lead("treated", "untouched").low > 0
    methods = found.by_method("treated")
    assert methods["poisson"].value > methods["feathered"].value > 0.5
    assert {treated for *_, treated, _ in asked} == {True, False}
    tested = [one for one in asked if one[1] in unseen.TESTED]
    assert all(treated for *_, treated, _ in tested)  # the test stays


def test_a_changed_recipe_reaches_training_and_test(asked):
    unseen.changed("layer", RECIPE, (0,))
    layers = {(method in unseen.TESTED, one.layer) for _, method, _, _, one in asked}
    assert layers == {(tested, layer) for tested in (True, False) for layer in (-1, -7)}


def test_the_parts_speak_together(asked):
    alone = made_up(12, seed=1)
    found = unseen.changed("draws", RECIPE, (0,))
    quiet = np.isnan(found.views["twice"][0])
    assert not quiet.any()  # one picture has no eyes: the other parts speak for it
    assert np.isnan(alone.descriptors.view("eyes")).any(1).sum() == 1
    assert panel.together([np.array([1.0]), np.array([np.nan]), np.array([3.0])]) == 2.0
