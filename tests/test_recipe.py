"""Decisions and their hashes."""

import dataclasses
import hashlib
import json
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
    "resize": "bilinear", "normalisation": "clip", "conditioning": "l2", "patch_rule": "touched",
    "encoding": "isolated", "layer": -2, "pooling": "max",
    "perturbation": "jpeg:3",
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


def test_a_key_from_before_there_were_perturbations_stands_for_untouched_pictures():
    decisions = dataclasses.asdict(recipe.demo())
    del decisions["perturbation"]
    text = json.dumps(decisions, sort_keys=True)
    assert recipe.demo().key == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_what_comes_after_the_descriptors_is_known():
    after = {"mode", "region", "conditioning", "c_grid", "folds", "inner_folds", "aggregation"}
    assert set(recipe.AFTERWARDS) == after


# What a token can be kept for one part only.
ONE_PART = [
    {"encoding": "isolated"}, {"encoding": "isolated-bare"}, {"patch_rule": "touched"},
    {"patch_rule": "box"}, {"patch_rule": 0.5}, {"encoding": "isolated", "patch_rule": 0.0},
]  # fmt: skip


@pytest.mark.parametrize("changes", ONE_PART)
def test_where_a_token_depends_on_its_part_descriptors_depend_on_the_region(changes):
    mouth = recipe.demo().but(**changes)
    assert not mouth.partitions
    assert mouth.but(region="eyes").descriptor_key != mouth.descriptor_key
    assert mouth.but(conditioning="l2").descriptor_key == mouth.descriptor_key
    assert mouth.look == recipe.demo().look


@pytest.mark.parametrize("changes", [{}, {"layer": -4}, {"pooling": "mean+std"}])
def test_where_every_patch_has_one_label_all_parts_share_their_descriptors(changes):
    mouth = recipe.demo().but(**changes)
    assert mouth.partitions
    assert mouth.but(region="eyes").descriptor_key == mouth.descriptor_key


@pytest.mark.parametrize("field", OTHERS)
def test_recipes_share_a_look_where_they_differ_after_the_crop_only(field):
    changed = recipe.demo().but(**{field: OTHERS[field]})
    after = {*recipe.OF_TOKENS, *recipe.AFTERWARDS} - {"mode"}
    assert (changed.look == recipe.demo().look) == (field in after)
    assert changed.look.look == changed.look
    if field not in after:
        assert getattr(changed.look, field) == OTHERS[field]


def test_a_look_of_another_mode_is_still_another():
    assert recipe.demo().look.mode == "demo"
    assert recipe.paper().look == recipe.paper()  # whose every such decision is the default


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


@pytest.mark.parametrize(
    ("rule", "hint"),
    [("touch", "did you mean 'touched'"), ("bx", "did you mean 'box'"), (1.0, "0.5"), (1, "0.5"),
     (-0.1, "0.5"), (float("nan"), "0.5"), (True, "0.5")],
)  # fmt: skip
def test_a_patch_rule_is_a_name_or_a_share(rule, hint):
    with pytest.raises(UnknownName, match=r"unknown patch_rule .* a share in \[0, 1\)") as caught:
        recipe.demo().but(patch_rule=rule)
    assert hint in str(caught.value)


@pytest.mark.parametrize("share", [0, 0.0, 0.5])
def test_a_share_may_be_a_whole_number(share):
    assert recipe.demo().but(patch_rule=share).patch_rule == share
    assert not recipe.demo().but(patch_rule=share).partitions


@pytest.mark.parametrize("rule", [*recipe.PATCH_RULES, 0.0, 0.25, 0.99])
def test_every_patch_rule_has_a_key_of_its_own(rule):
    others = [one for one in (*recipe.PATCH_RULES, 0.0, 0.25, 0.99) if one != rule]
    keys = {recipe.demo().but(patch_rule=one).descriptor_key for one in others}
    assert recipe.demo().but(patch_rule=rule).descriptor_key not in keys
    assert len(keys) == len(others)


@pytest.mark.parametrize("layer", [0, 1, True, -1.0, "-1", None])
def test_a_layer_counts_back_from_the_last(layer):
    with pytest.raises(BadDecision, match=f"layer is {layer!r}; expected -1 for the last block"):
        recipe.demo().but(layer=layer)


@pytest.mark.parametrize("encoding", ["isolated", "isolated-bare"])
def test_isolated_patches_are_cut_from_the_crop_that_is_parsed(encoding):
    found = (
        f"encoding '{encoding}' with a crop of 280 and an input of 224 pixels; expected the same"
    )
    with pytest.raises(BadDecision, match=f"{found}.*Set crop_size to input_size"):
        recipe.demo().but(encoding=encoding, input_size=224)
    same = recipe.demo().but(encoding=encoding, input_size=224, crop_size=224)
    assert same.encoding == encoding
    assert recipe.demo().but(input_size=224).encoding == "contextual"  # which may resize


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
