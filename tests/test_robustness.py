"""Learned from untouched pictures, tested on perturbed ones: made-up samples in place of faces."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from samples import made_up

from seglib import audit, demo, evaluation, faces, recipe, results, robustness, trials
from seglib.errors import UnknownName
from seglib.perturbation import KINDS
from seglib.recipe import LEVELS

RECIPE = recipe.demo().but(c_grid=(1e-2,), folds=3)
EACH, PEOPLE = 5, 12


@pytest.fixture
def world(monkeypatch):
    """The mouth tells fakes, the less the higher the level; at level 5 half of it is not found."""
    whole = made_up(PEOPLE, EACH)
    few = np.arange(PEOPLE * EACH) % EACH < robustness.PICTURES
    people = pd.DataFrame({"person": np.arange(PEOPLE * EACH) // EACH})
    monkeypatch.setattr(demo, "people", lambda dataset, seed: people)

    def sample(dataset, part, blend, decided):
        assert decided.perturbation == "none"
        return whole

    def perturbed(decided, parts):
        _kind, _, level = decided.perturbation.partition(":")
        rows = made_up(PEOPLE, EACH, seed=7 + int(level), lead=4.0 * (1 - int(level) / 5))
        found = rows.descriptors.of(np.tile(few, 2))
        views = robustness._views(found, [found] * len(parts), parts)
        if level == "5":
            views["mouth"][::2] = np.nan
        return views

    monkeypatch.setattr(demo, "sample", sample)
    monkeypatch.setattr(robustness, "_perturbed", perturbed)
    return replace(whole, items=whole.items[np.tile(few, 2)])


def test_the_same_pictures_untouched_and_at_five_levels(world):
    found = robustness.measured("jpeg", RECIPE, (0, 1))
    parts = [*robustness.PARTS, "all", *(f"isolated {part}" for part in robustness.PARTS)]
    levels = [robustness.level_name(part, level) for level in (0, *LEVELS) for part in parts]
    assert list(found.views) == levels
    assert found.items.tolist() == world.items.tolist()
    assert {scores.shape for scores in found.views.values()} == {(2, 2 * 2 * PEOPLE)}
    aucs = [found.auc(robustness.level_name("mouth", level)).value for level in (0, *LEVELS)]
    assert aucs[0] > 0.95
    assert aucs[0] > aucs[3] > aucs[4]
    assert found.auc("mouth, level 5").value == pytest.approx(0.5, abs=0.25)  # nothing is left
    assert found.auc("mouth, level 4").coverage == 1
    assert found.auc("mouth, level 5").coverage == 0.5


def test_perturbed_pictures_and_their_people_are_never_learned_from(world, monkeypatch):
    seen, held_out = [], trials.held_out

    def watched(case, views, decided, seeds, learned):
        seen.append((case, learned))
        return held_out(case, views, decided, seeds, learned)

    monkeypatch.setattr(trials, "held_out", watched)
    found = robustness.measured("blur", RECIPE, (0,))
    ((case, learned),) = seen
    assert learned.sum() == 2 * PEOPLE * EACH
    assert not learned[case.forged == "changed"].any()
    # All levels of a person are scored by the one probe that has not met them.
    assert found.probes.shape == (1, len(found.groups))
    for group in np.unique(found.groups):
        assert len(np.unique(found.probes[0, found.groups == group])) == 1


def test_a_level_nought_is_scored_as_without_any_perturbation(world):
    found = robustness.measured("jpeg", RECIPE, (0,))
    sample = demo.sample(*robustness.FORGED, RECIPE)
    plain = trials.within(sample, ["mouth"], RECIPE, (0,))
    tested = np.isin(sample.items, found.items)
    np.testing.assert_array_equal(found.views["mouth"], plain.views["mouth"][:, tested])


def test_what_the_chapter_measures_is_a_part_of_what_is_kept(world):
    here = robustness.EXPERIMENTS["robustness-here"](RECIPE, seeds=(0,))
    kept = robustness.measured("jpeg", RECIPE, (0,))
    assert list(here.views) == [
        "mouth", "all", "isolated mouth",
        "mouth, level 3", "all, level 3", "isolated mouth, level 3",
    ]  # fmt: skip
    for view, scores in here.views.items():
        np.testing.assert_array_equal(scores, kept.views[view])


def test_what_is_kept_can_be_read_by_kind_and_level(world, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    found = robustness.measured("jpeg", RECIPE, (0,))
    gone = replace(found, views=found.views | {"nose, level 5": np.full((1, 48), np.nan)})
    for kind in KINDS:
        results.save(f"robustness-{kind}", gone, RECIPE, folder=tmp_path)
    values = robustness.grid("mouth", levels=(0, 3))
    assert values.index.tolist() == list(KINDS)
    assert values.columns.tolist() == ["untouched", "level 3"]
    expected = [found.auc(view).value for view in ("mouth", "mouth, level 3")]
    np.testing.assert_allclose(values.loc["blur"], expected, atol=1e-6)
    assert (robustness.grid("mouth", "low") <= robustness.grid("mouth")).all().all()
    # At level 5 half of the mouths are not found, and no nose at all: there is no AUC then.
    assert (robustness.grid("mouth", "coverage")["level 5"] == 0.5).all()
    assert robustness.grid("nose")["level 5"].isna().all()
    assert (robustness.grid("nose", "coverage").loc["jpeg"] == [1, 1, 1, 1, 0]).all()


def test_why_frames_of_videos_are_lost_is_told_apart(monkeypatch, tmp_path):
    """Four videos of two frames: no face in one, one that is gone, a frame without the part."""
    table = pd.DataFrame({"video_uid": list("abcd"), "label": [0, 1, 0, 1], "group": list("abcd")})
    table = table.assign(method="x", target="")
    reasons = ["", "", "", "", "NoFace: none", "FaceTooSmall: so", "MissingFile: gone", ""]
    ledger = pd.DataFrame({"video_uid": np.repeat(list("abcd"), 2), "reason": reasons})
    scores = np.array([[-1.0, -1.0, 2.0, np.nan, np.nan, np.nan, np.nan, 1.0]])
    videos = np.array([[-1.0, 2.0, np.nan, 1.0]])

    class Chain:
        recipe, networks = RECIPE, {}

        def choosing(self, perturbation):
            return self

    class Kept:
        def __init__(self, *_):
            self.ledger = lambda uids: ledger

    monkeypatch.setattr(robustness, "Store", Kept)
    monkeypatch.setattr(robustness.extraction, "extract", lambda *_: None)
    detector = evaluation.Detector(videos, None, (ledger.video_uid.to_numpy(), scores))
    monkeypatch.setattr(robustness.evaluation, "detect", lambda *_: detector)
    found = robustness.of_videos(table, Chain(), tmp_path, (), "mouth", ["jpeg:1"])
    assert found.index.tolist() == ["none", "jpeg:1"]
    for name, share in (("no_face", 2 / 8), ("unreadable", 1 / 8), ("no_part", 1 / 8)):
        assert found[name].tolist() == [share] * 2
    assert found.coverage.tolist() == [0.75] * 2
    assert "-0.000" not in robustness.worded(found).to_string()


def test_kinds_and_levels_are_chosen_by_name():
    assert len(robustness.chosen([])) == len(KINDS) * len(LEVELS)
    assert robustness.chosen(["jpeg:3", "blur", "jpeg:3"]) == [
        "jpeg:3", *(f"blur:{level}" for level in LEVELS)
    ]  # fmt: skip
    with pytest.raises(UnknownName, match="did you mean 'jpeg'"):
        robustness.chosen(["jpg"])
    with pytest.raises(UnknownName, match=r"did you mean 'jpeg'.* at a level of 1 to 5"):
        robustness.chosen(["jpeg:6"])


def test_views_of_one_kind_can_stand_in_keys():
    assert robustness.level_name(audit.view_name("eyes", "isolated"), 2) == "isolated eyes, level 2"


def test_pictures_and_their_forgeries_come_in_the_same_order(four_people, monkeypatch):
    """With real faces: pictures and forgeries in one order, so that their seeds are the same."""
    monkeypatch.setattr(robustness, "FORGED", ("orl", "mouth", "poisson"))
    seen, detector = [], faces.load("mesh")

    class Chain:
        def __init__(self, decided):
            self.decided, self.detector = decided, detector

        def several(self, pictures, several, total, label):
            seen.append((self.decided.perturbation, list(pictures)))
            return [f"{label} {one.encoding}" for one in several]

    monkeypatch.setattr(demo, "networks", Chain)
    robustness._pictures.cache_clear()
    asked = [RECIPE.but(perturbation="noise:2")]
    for place in (0, 1):
        robustness._described("name", place, asked)
    robustness._pictures.cache_clear()
    (one, real), (other, forged) = seen
    assert one == other == "noise:2"
    assert [picture.shape for picture in real] == [picture.shape for picture in forged]
    for before, after in zip(real, forged, strict=True):  # one by one, in the same order
        changed = (before != after).any(-1)
        assert 0 < changed.mean() < 0.3
