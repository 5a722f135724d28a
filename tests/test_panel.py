"""A panel: what its parts say together, and that it comes back from disk as it was."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from seglib import panel, probing, stacking
from seglib.panel import OVERALL, BadPanel


@pytest.fixture
def views():
    rng = np.random.default_rng(1)
    return {part: rng.normal(size=(9, 32)).astype(np.float32) for part in panel.PARTS}


def test_together_is_the_calibrated_mean_of_the_parts(probes, views):
    scores = probes.scores(views)
    assert list(scores) == [*panel.PARTS, OVERALL]
    mean = np.mean([scores[part] for part in panel.PARTS], axis=0)
    one = probes.combination
    np.testing.assert_allclose(scores[OVERALL], one.slope * mean + one.offset)
    assert scores["mouth"].shape == (25, 9)  # the probe itself, and those on redrawn people
    np.testing.assert_array_equal(
        scores["mouth"][0], probing.score(probes.probes["mouth"][0], views["mouth"])
    )


def test_hidden_parts_are_left_out_and_too_few_say_nothing(probes, views):
    whole = probes.scores(views)
    views["mouth"][2] = views["eyes"][2] = np.nan  # three of five are left
    for part in ("mouth", "eyes", "nose"):
        views[part][4] = np.nan  # two of five
    scores = probes.scores(views)
    left = np.mean([whole[part][:, 2] for part in ("brows", "nose", "skin")], axis=0)
    one = probes.combination
    np.testing.assert_allclose(scores[OVERALL][:, 2], one.slope * left + one.offset)
    assert np.isnan(scores[OVERALL][:, 4]).all()
    assert np.isnan(scores["nose"][:, 4]).all()
    np.testing.assert_array_equal(scores[OVERALL][:, 0], whole[OVERALL][:, 0])
    assert np.isnan(probes.distances(views)["mouth"][2])


def test_what_was_measured_is_on_people_held_out(small):
    """Labels that are noise: on the training rows they would be told, held out they are not."""
    rng = np.random.default_rng(0)
    labels, groups = rng.integers(0, 2, 240), np.repeat(np.arange(40), 6)
    views = {part: rng.normal(size=(240, 64)) for part in ("mouth", "eyes", "nose")}
    found = stacking.fit(views, labels, groups, small, {}, 2).card["measured"]
    assert list(found) == ["mouth", "eyes", "nose", OVERALL]
    for one in found.values():
        assert 0.3 < one["auc"][0] < 0.7
        assert 0 < one["false_positive_rate"][0] < 1


def test_a_panel_comes_back_as_it_was(probes, views, tmp_path):
    panel.save(probes, tmp_path / "kept")
    again = panel.load(tmp_path / "kept")
    assert again.recipe == probes.recipe
    assert again.combination == probes.combination
    for ours, theirs in (
        (again.scores(views), probes.scores(views)),
        (again.distances(views), probes.distances(views)),
    ):
        for name, one in theirs.items():
            np.testing.assert_allclose(ours[name], one, rtol=1e-4)
    assert again.card["measured"] == probes.card["measured"]
    assert again.thresholds == probes.thresholds


def test_a_panel_whose_scores_are_not_linear_comes_back_too(small, tmp_path):
    rng = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 60), np.repeat(np.arange(20), 6)
    views = {part: rng.normal(size=(120, 8)) for part in ("mouth", "eyes", "nose")}
    panel.save(
        stacking.fit(views, labels, groups, small.but(conditioning="layernorm"), {}, 2), tmp_path
    )
    assert panel.load(tmp_path).views == ("mouth", "eyes", "nose")


def test_the_file_of_one_probe_is_a_panel_of_one_part(probes, views, tmp_path):
    panel.save(probes, tmp_path)
    one = panel.load(tmp_path / "eyes.safetensors")
    assert one.views == ("eyes",)
    assert list(one.scores(views)) == ["eyes"]
    assert one.distances(views) == {}
    np.testing.assert_array_equal(one.scores(views)["eyes"], probes.scores(views)["eyes"])
    panel.check_networks(one, probes.card["networks"])


def test_other_networks_are_refused_by_name(probes):
    networks = probes.card["networks"]
    panel.check_networks(probes, networks | {"precision": "bfloat16"})
    with pytest.raises(BadPanel, match=r"backbone is .* for the probes and 'other' here"):
        panel.check_networks(probes, networks | {"backbone": "other"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("panel.json", "{"),
        ("panel.json", "[]"),
        ("panel.json", '{"format": 99}'),
        ("panel.json", None),
        ("references.safetensors", "nothing"),
        ("mouth.safetensors", None),
    ],
)
def test_a_damaged_panel_is_refused(probes, tmp_path, name, content):
    panel.save(probes, tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((BadPanel, probing.BadProbe), match="Train it again"):
        panel.load(tmp_path)


def edited(folder, **changes):
    """A panel that somebody changed and signed anew."""
    card = json.loads((folder / "panel.json").read_text()) | changes
    (folder / "panel.json").write_text(probing.signed(card))


def test_a_panel_that_was_edited_is_refused_unless_it_was_signed_anew(probes, tmp_path):
    panel.save(probes, tmp_path)
    card = json.loads((tmp_path / "panel.json").read_text())
    card["combination"]["threshold"] += 0.1
    (tmp_path / "panel.json").write_text(json.dumps(card))
    with pytest.raises(BadPanel, match=r"panel\.json was changed after it was written"):
        panel.load(tmp_path)
    edited(tmp_path)
    assert panel.load(tmp_path).combination.threshold == card["combination"]["threshold"]


def test_references_of_another_panel_are_refused(probes, tmp_path):
    panel.save(probes, tmp_path)
    path = tmp_path / "references.safetensors"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(BadPanel, match="belongs to other references"):
        panel.load(tmp_path)


def test_a_probe_under_another_parts_name_is_refused(probes, tmp_path):
    panel.save(probes, tmp_path)
    for suffix in ("json", "safetensors"):
        shutil.copy(tmp_path / f"nose.{suffix}", tmp_path / f"eyes.{suffix}")
    with pytest.raises(BadPanel, match=r"eyes\.safetensors is a probe of 'nose'"):
        panel.load(tmp_path)


NUMBERS = {"auc": [0.5, 0.4, 0.6], "false_positive_rate": [0.1, 0.0, 0.2]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"views": []}, "it names no part"),
        ({"shortcuts": None}, "not iterable"),
        ({"shortcuts": [{"channel": 1, "told": "", "suspicious": True}]}, "shortcuts holds"),
        ({"networks": ["d"]}, "its networks are"),
        ({"measured": {"mouth": NUMBERS | {"auc": [0.5]}}}, "not a number and two ends"),
        ({"measured": {"mouth": NUMBERS | {"auc": ["0.5", 0.4, 0.6]}}}, "'0.5', not a finite"),
        ({"combination": {"slope": 1, "offset": 0, "threshold": 10**400}}, "not a finite number"),
        ({"combination": {"slope": float("nan"), "offset": 0, "threshold": 0}}, "nan, not a fin"),
    ],
)
def test_a_card_from_which_nothing_could_be_told_is_refused(probes, tmp_path, changes, said):
    panel.save(probes, tmp_path)
    edited(tmp_path, **changes)
    with pytest.raises(BadPanel, match=said):
        panel.load(tmp_path)


@pytest.mark.parametrize("changes", [{"view": "mouht"}, {"view": 5}, {"measured": {"auc": 1}}])
def test_a_single_probe_whose_card_tells_no_part_is_refused(probes, tmp_path, changes):
    card = {"view": "eyes", "recipe": dataclasses.asdict(probes.recipe), "networks": {}}
    probing.save(probes.probes["eyes"], tmp_path / "eyes.safetensors", card | changes)
    with pytest.raises(BadPanel, match="the card lacks what scoring needs"):
        panel.load(tmp_path / "eyes.safetensors")


def test_a_folder_without_a_panel_and_a_file_that_is_none_are_refused(tmp_path):
    with pytest.raises(BadPanel, match="expected a folder"):
        panel.load(tmp_path)
    with pytest.raises(probing.BadProbe):
        panel.load(tmp_path / "absent.safetensors")


def test_a_probe_file_names_its_part_recipe_and_networks(probes, tmp_path):
    panel.save(probes, tmp_path)
    card = json.loads((tmp_path / "mouth.json").read_text())
    assert card["view"] == "mouth"
    assert card["networks"] == probes.card["networks"]
    assert card["recipe"]["backbone"] == probes.recipe.backbone
    assert card["measured"] == probes.card["measured"]["mouth"]


def test_the_whole_is_outside_as_often_as_a_part(probes):
    """Its limit is that of the mean over the parts, of people held out."""
    rng = np.random.default_rng(5)
    labels, groups = np.tile([0, 1], 500), np.repeat(np.arange(100), 10)
    views = {part: rng.normal(size=(1000, 6)) for part in panel.PARTS}
    found = stacking.fit(views, labels, groups, probes.recipe, {}, 1)
    others = {part: rng.normal(size=(4000, 6)) for part in panel.PARTS}
    for name, distances in found.distances(others).items():
        assert 0.002 < (distances > 1).mean() < 0.03, name


def test_a_panel_of_one_part_without_a_reference_comes_back(probes, tmp_path):
    panel.save(probes, tmp_path / "all")
    alone = panel.load(tmp_path / "all" / "mouth.safetensors")
    panel.save(alone, tmp_path / "one")
    again = panel.load(tmp_path / "one")
    assert again.views == ("mouth",)
    assert again.references == {}
    assert len(again.probes["mouth"]) == 25


def test_probes_of_several_seeds_are_no_redrawn_people(probes, tmp_path):
    card = {"view": "eyes", "recipe": dataclasses.asdict(probes.recipe), "networks": {}}
    probing.save(probes.probes["eyes"][:3], tmp_path / "eyes.safetensors", card)
    assert len(panel.load(tmp_path / "eyes.safetensors").probes["eyes"]) == 1


def test_parts_that_do_not_belong_together_are_refused(probes, tmp_path):
    panel.save(probes, tmp_path)
    card = json.loads((tmp_path / "eyes.json").read_text())
    probing.save(probes.probes["eyes"][:3], tmp_path / "eyes.safetensors", card)
    with pytest.raises(BadPanel, match="as many of each are expected"):
        panel.load(tmp_path)


def test_a_recipe_that_isolates_asks_for_one_description_a_part(probes):
    alone = dataclasses.replace(probes, recipe=probes.recipe.but(encoding="isolated"))
    assert [one.region for one in alone.recipes] == list(panel.PARTS)
    assert probes.recipes == [probes.recipe]
