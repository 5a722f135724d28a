"""One decision changed at a time: which ones, on whom, and that nothing else moves."""

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
from samples import made_up

from seglib import ablation, demo, recipe, results, training, trials

RECIPE = recipe.demo().but(c_grid=(1e-2, 1.0), folds=3)
EVERY = [(axis, name) for axis in ablation.AXES for name in ablation.AXES[axis]]
# What the fields of each axis are; the others are those of their name.
FIELDS = {"input-size": {"crop_size", "input_size"}}


@pytest.fixture
def asked(monkeypatch):
    """Made-up samples in place of the demo's, harder to tell under other recipes; who asked."""
    asked = []

    def sample(*names):
        asked.append(names)
        own = names[3].but(c_grid=recipe.demo().c_grid, folds=recipe.demo().folds)
        return made_up(lead=4.0 if own == recipe.demo() else 0.5)

    monkeypatch.setattr(demo, "sample", sample)
    ablation._standard.cache_clear()
    yield asked
    ablation._standard.cache_clear()


# -- the axes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ablation.AXES)
def test_the_first_alternative_is_the_recipes_own_and_the_others_are_not(axis):
    own, *others = (recipe.demo().but(**changes) for changes in ablation.AXES[axis].values())
    assert own == recipe.demo()
    assert len({own, *others}) == len(ablation.AXES[axis]) > 1


@pytest.mark.parametrize(("axis", "name"), EVERY)
def test_an_alternative_changes_one_decision(axis, name):
    changed = asdict(recipe.demo().but(**ablation.AXES[axis][name]))
    differ = {field for field, value in asdict(recipe.demo()).items() if changed[field] != value}
    assert differ <= FIELDS.get(axis, {axis.replace("-", "_")})


@pytest.mark.parametrize("axis", ["pooling", "conditioning", "encoding"])
def test_every_choice_there_is_has_its_alternative(axis):
    found = [changes[axis] for changes in ablation.AXES[axis].values()]
    assert sorted(found) == sorted(recipe.CHOICES[axis])


@pytest.mark.parametrize("field", demo.AXES)
def test_what_begins_at_the_tokens_was_made_in_the_demos_own_look(field):
    """Else each would take minutes of its own."""
    asked = [changes[field] for changes in ablation.AXES[field.replace("_", "-")].values()]
    made = {getattr(recipe.demo(), field), *demo.AXES[field]}
    assert set(asked) == (made | {"isolated"} if field == "encoding" else made)


@pytest.mark.parametrize("axis", ablation.AXES)
def test_what_takes_another_look_is_measured_on_the_smaller_collection(axis):
    looks = {recipe.demo().but(**changes).look for changes in ablation.AXES[axis].values()}
    assert (axis in ablation.LOOKS) == (len(looks) > 1)
    smaller, usual = (demo.people(names[0]) for names in (ablation.SMALLER, ablation.FORGED))
    assert len(smaller) < len(usual)


@pytest.mark.parametrize("name", [name for _, name in EVERY])
def test_a_name_can_stand_in_a_key(name):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", results.slug(name))
    assert "-over-" not in results.slug(name)


def test_every_axis_has_a_record():
    assert list(ablation.EXPERIMENTS) == [
        "ablation-patch-rule", "ablation-input-size", "ablation-pooling", "ablation-conditioning",
        "ablation-layer", "ablation-encoding", "ablation-backbone", "ablation-people",
        "ablation-frames",
    ]  # fmt: skip


# -- one decision changed ----------------------------------------------------------------------


def test_each_alternative_is_probed_on_its_own_descriptors(asked):
    found = ablation.EXPERIMENTS["ablation-pooling"](RECIPE, (0, 1))
    assert list(found.views) == ["mean", "max", "mean and deviation"]
    assert found.title == "made up: pooling"
    assert {names[3].pooling for names in asked} == {"mean", "max", "mean+std"}
    assert {names[:3] for names in asked} == {ablation.FORGED}
    assert found.auc("mean").value > 0.95
    assert found.auc("max").value < 0.8 > found.auc("mean and deviation").value
    assert found.lead("mean", "max").low > 0
    assert all(rows.shape == (2, 120) for rows in found.views.values())
    assert list(found.thresholds) == list(found.views)
    assert all(rows.shape == (2, 3) for rows in found.thresholds.values())
    assert found.seconds > 0


def test_all_alternatives_are_tested_in_the_same_folds(asked):
    found = ablation.changed("layer", RECIPE, (0, 1))
    sample = made_up()
    folds = training.outer_folds(sample.labels, sample.groups, RECIPE, (0, 1))
    np.testing.assert_array_equal(found.probes, folds)
    for name, rows in (("block 12", made_up()), ("block 9", made_up(lead=0.5))):
        alone = trials.within(rows, ["mouth"], RECIPE, (0, 1))
        np.testing.assert_array_equal(found.views[name], alone.views["mouth"])


def test_both_sides_of_another_look_are_of_the_smaller_collection(asked):
    found = ablation.changed("backbone", RECIPE, (0,))
    assert list(found.views) == ["trained", "random weights"]
    assert {names[:3] for names in asked} == {ablation.SMALLER}
    assert found.lead("trained", "random weights").low > 0


def test_another_conditioning_is_another_probe_on_the_same_descriptors(asked, monkeypatch):
    monkeypatch.setattr(demo, "sample", lambda *names: made_up(lead=1.0))
    found = ablation.changed("conditioning", RECIPE, (0,))
    assert len({rows.tobytes() for rows in found.views.values()}) == 5
    l2 = trials.within(made_up(lead=1.0), ["mouth"], RECIPE.but(conditioning="l2"), (0,))
    np.testing.assert_array_equal(found.views["l2"], l2.views["mouth"])


def test_a_standard_is_what_its_name_says_whatever_the_recipe(asked, monkeypatch):
    monkeypatch.setattr(demo, "sample", lambda *names: made_up(lead=1.0))
    found = ablation.changed("conditioning", RECIPE.but(conditioning="none"), (0,))
    straight = ablation.changed("conditioning", RECIPE, (0,))
    np.testing.assert_array_equal(found.views["standardise"], straight.views["standardise"])


def test_the_recipes_own_choice_is_probed_once_for_all_axes(asked, monkeypatch):
    times, within = [], trials.within
    monkeypatch.setattr(trials, "within", lambda *case: times.append(1) or within(*case))
    pooled = ablation.changed("pooling", RECIPE, (0,))
    layered = ablation.changed("layer", RECIPE, (0,))
    ablation.fewer_pictures(RECIPE, (0,))
    assert len(times) == 1
    np.testing.assert_array_equal(pooled.views["mean"], layered.views["block 12"])


# -- fewer people, fewer pictures --------------------------------------------------------------


def test_a_probe_that_may_learn_from_everyone_is_the_standard_one():
    sample = made_up(lead=1.0)
    case = sample.descriptors.view("mouth"), sample.labels, sample.groups, RECIPE, (0, 1)
    ours, theirs = ablation.learned_from(8, sample, RECIPE, (0, 1)), training.out_of_fold(*case)
    for name in ("scores", "folds", "thresholds"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_a_learning_curve_leaves_couples_out_of_training_and_nobody_out_of_the_test(
    asked, monkeypatch
):
    learned, fit = [], training.fit

    def spy(rows, labels, groups, *rest):
        learned.append((set(groups), set(labels)))
        return fit(rows, labels, groups, *rest)

    monkeypatch.setattr(training, "fit", spy)
    monkeypatch.setattr(ablation, "COUPLES", (5, 3))
    found = ablation.fewer_people(RECIPE, range(2))
    assert list(found.views) == ["all couples", "5 couples", "3 couples"]
    assert not any(np.isnan(rows).any() for rows in found.views.values())
    few = learned[-12:]  # two views of two seeds and three folds
    assert [len(groups) for groups, _ in few] == [5] * 6 + [3] * 6
    assert all(labels == {0, 1} for _, labels in few)
    for (more, _), (less, _) in zip(few[:6], few[6:], strict=True):
        assert less < more
    for place, (groups, _) in enumerate(few[:6]):
        seed, fold = divmod(place, 3)
        tested = found.groups[found.probes[seed] == fold]
        assert not groups & set(tested)


def test_a_person_is_scored_by_the_mean_of_their_first_pictures(asked):
    one = trials.within(made_up(), ["mouth"], RECIPE, (0, 1)).views["mouth"]
    found = ablation.fewer_pictures(RECIPE, (0, 1))
    assert list(found.views) == ["10 pictures", "5 pictures", "2 pictures", "1 picture"]
    assert len(found.labels) == len(found.items) == 2 * 12
    assert found.items[[0, 1, 12]].tolist() == ["p0", "p1", "p0 forged"]
    assert found.labels.tolist() == [0] * 12 + [1] * 12
    assert found.groups.tolist() == [*range(12), *range(12)]
    by_person = one.reshape(2, 24, 5)
    np.testing.assert_allclose(found.views["1 picture"], by_person[..., 0])
    np.testing.assert_allclose(found.views["2 pictures"], by_person[..., :2].mean(-1))
    np.testing.assert_allclose(found.views["10 pictures"], by_person.mean(-1))  # they have five
    assert found.probes.shape == (2, 24)


def test_a_person_abstains_when_all_their_first_pictures_do(asked, monkeypatch):
    sample = made_up()
    gone = np.isin(sample.items, ["p4/0", "p4/1", "p5/0"])
    pools = np.where(gone[:, None, None], np.nan, sample.descriptors.pools)
    counts = np.where(gone[:, None], 0, sample.descriptors.counts)
    found = replace(sample.descriptors, pools=pools, counts=counts)
    monkeypatch.setattr(demo, "sample", lambda *names: replace(sample, descriptors=found))
    scores = ablation.fewer_pictures(RECIPE, (0,))
    missing = {name: scores.items[np.isnan(rows).any(0)] for name, rows in scores.views.items()}
    assert missing["1 picture"].tolist() == ["p4", "p5"]
    assert missing["2 pictures"].tolist() == ["p4"]
    assert missing["5 pictures"].tolist() == []
