"""Decisions and their hashes."""

import dataclasses
import os
import subprocess
import sys

import pytest

from seglib import recipe
from seglib.errors import UnknownName
from seglib.recipe import BadDecision

# Another value of each field that can have one.
OTHERS = {
    "mode": "paper", "detector": "other", "parser": "other", "backbone": "other",
    "frames": 8, "crop_size": 294, "input_size": 294, "crop_scale": 1.1, "region": "eyes",
    "c_grid": (1.0,), "folds": 3, "inner_folds": 4, "seed": 1, "face_choice": "mask",
    "resize": "bilinear", "normalisation": "clip", "conditioning": "l2",
}  # fmt: skip


def test_every_field_has_another_value_here_or_is_refused():
    fields = {field.name for field in dataclasses.fields(recipe.Recipe)}
    only_one = {name for name, choices in recipe.CHOICES.items() if len(choices) == 1}
    assert set(OTHERS) == fields - only_one


@pytest.mark.parametrize("field", OTHERS)
def test_every_decision_changes_the_key(field):
    changed = recipe.demo().but(**{field: OTHERS[field]})
    assert changed.key != recipe.demo().key
    assert recipe.demo().but(**{field: getattr(recipe.demo(), field)}).key == recipe.demo().key
    kept = changed.descriptor_key == recipe.demo().descriptor_key
    assert kept == (field in recipe.AFTERWARDS)


def test_what_comes_after_the_descriptors_is_known():
    after = {"mode", "region", "conditioning", "c_grid", "folds", "inner_folds", "aggregation"}
    assert set(recipe.AFTERWARDS) == after


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("frames", 0, "1, 2, 3 or more"),
        ("folds", 1, "2, 3, 4 or more"),
        ("inner_folds", 1, "2, 3, 4 or more"),
        ("input_size", 224.0, "1, 2, 3 or more"),
        ("crop_scale", 0, "more than 0"),
        ("c_grid", (), "some above 0"),
        ("c_grid", (0.1, 0.0), "some above 0"),
        ("c_grid", (float("nan"),), "some above 0"),
    ],
)
def test_a_value_that_decides_nothing_is_refused(field, value, expected):
    with pytest.raises(BadDecision, match=f"{field} is .*; expected {expected}"):
        recipe.demo().but(**{field: value})


@pytest.mark.parametrize("field", recipe.CHOICES)
def test_a_choice_that_nothing_implements_is_refused(field):
    with pytest.raises(UnknownName, match=f"unknown {field} 'touched'"):
        recipe.demo().but(**{field: "touched"})


def test_keys_are_the_same_in_every_process():
    code = "from seglib import recipe; print(recipe.demo().key, recipe.paper().descriptor_key)"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("0", "1")
    }  # fmt: skip
    assert said == {f"{recipe.demo().key} {recipe.paper().descriptor_key}\n"}


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.demo().seed = 1
    assert recipe.demo() == recipe.demo()
    assert hash(recipe.demo()) == hash(recipe.demo())


def test_a_mistyped_field_or_mode_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'input_size'"):
        recipe.demo().but(inputsize=224)
    with pytest.raises(UnknownName, match="did you mean 'demo'"):
        recipe.demo().but(mode="demos")


@pytest.mark.parametrize("mode", ["demo", "paper"])
def test_each_mode_names_itself_wherever_it_is_shown(mode):
    made = recipe.MODES[mode]()
    assert made.mode == mode
    assert f"mode {mode}" in str(made)
    assert made.key in str(made)


def test_the_modes_differ_in_what_they_run_on_and_share_the_method():
    demo, paper = recipe.demo(), recipe.paper()
    assert (demo.detector, demo.parser, demo.backbone) == ("mesh", "mesh", "dinov2-s")
    assert (paper.parser, paper.backbone) == ("farl/lapa", "dinov3-l")
    for decision in ("patch_rule", "region", "encoding", "pooling", "conditioning"):
        assert getattr(demo, decision) == getattr(paper, decision)
