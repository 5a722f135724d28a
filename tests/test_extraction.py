"""The whole chain on real faces, with bad company, and what is kept of it on disk."""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import cache
from itertools import chain as chained
from pathlib import Path
from textwrap import dedent
from threading import Barrier

import cv2
import layouts
import numpy as np
import pandas as pd
import pytest
import skimage.data
from mounts import mounted

from seglib import (
    assets,
    clips,
    datasets,
    extraction,
    faces,
    indexing,
    manifest,
    media,
    recipe,
    regions,
    video,
)  # fmt: skip
from seglib.descriptors import Descriptors, Layout, OtherPart
from seglib.extraction import Extractor, OtherCrop, Outcome
from seglib.perturbation import Perturbation
from seglib.store import Store

COLUMNS = [field.name for field in fields(Descriptors) if field.name != "layout"]
WIDTH = 384  # of DINOv2-S


@cache
def chain():
    return Extractor(recipe.demo())


def face_paths(count):
    """Pictures of that many different people."""
    return [picture.path for picture in assets.pictures("orl")[::10]][:count]


def equal(one, other, rows=slice(None)):
    """All columns but the reasons agree; a matrix product may round by the batch's size."""
    for name in (one for one in COLUMNS if one != "reasons"):
        a, b = getattr(one, name)[rows], getattr(other, name)[rows]
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3, err_msg=name)


# -- a batch with bad company ------------------------------------------------------------------


@pytest.fixture(scope="module")
def good():
    """Ten faces, so that one batch is full and another is not."""
    return chain()(image for _, image in media.read_all(face_paths(10)))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """The same ten, five of them replaced: a download gone wrong, no file, a cat, a dot, a pair."""
    folder, paths = tmp_path_factory.mktemp("mixed"), face_paths(10)
    paths[2], paths[4] = folder / "page.jpg", folder / "nothing.png"
    paths[2].write_bytes(b"<html><title>404 not found</title></html>")
    pictures = [image for _, image in media.read_all(paths)]
    pictures[5] = skimage.data.chelsea()
    small = cv2.resize(pictures[6], (20, 24), interpolation=cv2.INTER_AREA)
    pictures[6] = cv2.copyMakeBorder(small, 20, 20, 20, 20, cv2.BORDER_REPLICATE)
    large = cv2.resize(pictures[8], None, fx=2, fy=2)
    pictures[8] = np.zeros((224, 300, 3), np.uint8)
    pictures[8][50:162, :92] = pictures[0]
    pictures[8][:, 110:294] = large
    return chain()(iter(pictures)), large


def test_good_rows_are_complete(good):
    assert len(good) == 10
    assert [getattr(good, name).shape for name in COLUMNS] == [
        (10, 11, WIDTH), (10, 11), (10, 11, WIDTH), (10, WIDTH), (10,), (10,)
    ]  # fmt: skip
    assert set(good.reasons) == {""}
    assert (good.counts.sum(1) == 20 * 20).all()  # every patch has one label
    for name in ("pools", "random", "cls", "sure"):
        assert getattr(good, name).dtype == np.float32
        assert np.isfinite(getattr(good, name)).all()


def test_bad_rows_stay_in_their_place_with_their_reason(mixed):
    found, _ = mixed
    assert [reason.partition(":")[0] for reason in found.reasons] == [
        "", "", "UnreadableImage", "", "MissingFile", "NoFace", "FaceTooSmall", "", "", "",
    ]  # fmt: skip
    assert "page.jpg" in found.reasons[2]
    assert "451 x 300" in found.reasons[5]
    for row in (2, 4, 5, 6):
        assert (found.counts[row] == 0).all()
        for name in ("pools", "random", "cls", "sure"):
            assert np.isnan(getattr(found, name)[row]).all()
        for view in ("mouth", "all", "cls", "random mouth"):
            assert np.isnan(found.view(view)[row]).all()


def test_bad_company_changes_nothing(good, mixed):
    """Not even the random control, which a shared stream of numbers would shift."""
    equal(mixed[0], good, rows=[0, 1, 3, 7, 9])


def test_of_two_faces_the_larger_is_taken(mixed):
    found, large = mixed
    alone = chain()([large])
    cosine = [
        np.dot(found.cls[8], cls) / np.linalg.norm(found.cls[8]) / np.linalg.norm(cls)
        for cls in (alone.cls[0], found.cls[0])
    ]
    assert cosine[0] > 0.9
    assert cosine[0] > cosine[1]


def test_how_pictures_fall_into_batches_changes_nothing(good, monkeypatch):
    monkeypatch.setattr(chain(), "batch", 3)
    few = chain()(image for _, image in media.read_all(face_paths(4)))
    equal(few, good.of(slice(4)))


def test_all_bad_is_n_rows_as_wide_as_any(good):
    cat, error = skimage.data.chelsea(), media.MissingFile("gone")
    found = chain()([cat, error])
    assert [reason.partition(":")[0] for reason in found.reasons] == ["NoFace", "MissingFile"]
    assert found.view("mouth").shape == (2, WIDTH)
    assert np.isnan(found.view("mouth")).all()
    both = Descriptors.joined([good, found])  # and they fit to others
    assert both.view("cls").shape == (12, WIDTH)
    assert both.reasons.tolist() == [*[""] * 10, *found.reasons.tolist()]


def test_no_picture_at_all_is_no_row():
    found = chain()([])
    assert len(found) == 0
    assert found.view("mouth").shape == (0, WIDTH)


def test_a_failure_that_is_no_pictures_fault_is_not_hidden():
    with pytest.raises(AttributeError):
        chain()(["a name instead of a picture"])


# -- perturbed pictures --------------------------------------------------------------------------


def perturbed(decision, images):
    found = chain().choosing(perturbation=decision).follow(enumerate(images))
    return found.descriptors()[0], found


@pytest.mark.parametrize("decision", ["noise:1", "h264:2", "downscaling:3"])
def test_pictures_are_perturbed_before_anything_looks_at_them(decision):
    images, change = list(pictures(3)), Perturbation.of(decision)
    by_hand = [change.picture(image, (0, number)) for number, image in enumerate(images)]
    equal(perturbed(decision, images)[0], chain()(by_hand))


def test_what_covers_a_face_is_put_where_the_face_was():
    (image,), change = pictures(1), Perturbation("occlusion", 4)
    box = faces.largest(image, chain().detector).box
    equal(perturbed("occlusion:4", [image])[0], chain()([change.picture(image, (0, 0), box)]))


def test_a_jittered_crop_leaves_the_ledger_and_takes_the_labels_along(good):
    found, frames = perturbed("jitter:5", pictures(3))
    _, untouched = perturbed("none", pictures(3))
    pd.testing.assert_frame_equal(frames.ledger("v"), untouched.ledger("v"))
    assert (found.counts[:, 7:10].sum(1) > 0).all()  # a mouth is found where it is now
    assert (found.counts != good.counts[:3]).any(1).all()


def test_a_bad_picture_stays_its_error_under_a_perturbation():
    several = [skimage.data.chelsea(), media.MissingFile("gone"), *pictures(1)]
    for decision in ("blur:1", "occlusion:1", "jitter:1"):
        found, _ = perturbed(decision, several)
        assert [one.partition(":")[0] for one in found.reasons] == ["NoFace", "MissingFile", ""]


def pictures(count):
    return (image for _, image in media.read_all(face_paths(count)))


# -- views -------------------------------------------------------------------------------------


def test_a_view_is_what_pooling_the_tokens_gives(good):
    crop = chain().crop(media.read_image(face_paths(1)[0]))
    tokens = chain().backbone([crop])
    labels = indexing.patch_labels(chain().parser([crop]), tokens.grid)
    for part in regions.PARTS:
        if part == "all":
            kept = np.ones_like(labels, bool)
        else:
            kept = np.isin(labels, regions.part_ids(part))
        expected = tokens.patches.numpy()[kept].mean(0)
        np.testing.assert_allclose(good.view(part)[0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(good.view("cls")[0], tokens.cls[0].numpy(), rtol=1e-4, atol=1e-4)


def test_the_random_control_is_as_many_tokens_from_elsewhere(good):
    assert np.abs(good.view("random mouth") - good.view("mouth")).max() > 0.1
    # Wherever the labels were dealt, all tokens together are all tokens.
    np.testing.assert_allclose(good.view("random all"), good.view("all"), rtol=1e-4, atol=1e-4)


def test_the_random_control_is_seeded_by_the_recipe(good):
    images = [image for _, image in media.read_all(face_paths(2))]
    crops = [chain().crop(image) for image in images]
    (here,) = chain().describe(crops, [(0, 0), (0, 1)])
    np.testing.assert_allclose(here.random, good.random[:2], rtol=1e-5, atol=1e-3)
    (elsewhere,) = chain().describe(crops, [(1, 0), (1, 1)])
    np.testing.assert_allclose(elsewhere.pools, here.pools)
    assert np.abs(elsewhere.view("random mouth") - here.view("random mouth")).max() > 0.1


# -- several recipes, one look -------------------------------------------------------------------

AXES = [
    {}, {"layer": -2}, {"pooling": "max"}, {"pooling": "mean+std"}, {"patch_rule": "box"},
    {"patch_rule": "touched", "region": "eyes"}, {"patch_rule": 0.25, "pooling": "mean+std"},
    {"encoding": "isolated"}, {"encoding": "isolated-bare", "region": "eyes"},
    {"encoding": "isolated", "region": "nose", "layer": -2, "pooling": "max"},
    {"encoding": "isolated", "patch_rule": "box", "pooling": "mean+std"},
]  # fmt: skip


@pytest.fixture(scope="module")
def square(small):
    """Crops of the encoder's own size, 20 x 20 patches, as isolated encoding wants them."""
    return Extractor(small.but(input_size=280))


@pytest.fixture(scope="module")
def crops(square):
    return [square.crop(image) for _, image in media.read_all(face_paths(3))]


@pytest.fixture(scope="module")
def recipes(square):
    return [square.recipe.but(**changes) for changes in AXES]


@pytest.fixture(scope="module")
def company():
    """Three faces, a cat among them and a picture that is gone."""
    faces = [image for _, image in media.read_all(face_paths(3))]
    return [faces[0], skimage.data.chelsea(), *faces[1:], media.MissingFile("gone")]


@pytest.fixture(scope="module")
def together(square, recipes, company):
    return square.several(company, recipes)


def test_in_one_pass_each_recipe_gets_what_it_gets_by_itself(square, recipes, company, together):
    assert len(together) == len(recipes)
    for recipe_, found in zip(recipes, together, strict=True):
        (alone,) = square.several(company, [recipe_])
        assert found.layout == alone.layout == Layout.of(recipe_)
        for name in COLUMNS:
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    numbers = [
        found.view(recipe_.region)[0] for recipe_, found in zip(recipes, together, strict=True)
    ]
    assert len({tuple(row) for row in numbers}) == len(numbers)  # none is another's


@pytest.mark.parametrize("number", [0, 4, 7, 10])
def test_it_is_what_an_extractor_of_that_recipe_gives(recipes, company, together, number):
    alone = Extractor(recipes[number])(company)
    equal(alone, together[number])
    assert alone.reasons.tolist() == together[number].reasons.tolist()


def test_a_missing_face_is_a_missing_row_under_every_layout(together):
    for found in together:
        assert [reason.partition(":")[0] for reason in found.reasons] == [
            "", "NoFace", "", "", "MissingFile",
        ]  # fmt: skip
        part, missing = found.layout.region or "mouth", [1, 4]
        assert found.tokens(part)[missing].tolist() == [0, 0]
        for view in (part, f"random {part}", "cls"):
            assert np.isnan(found.view(view)[missing]).all()
        assert np.isnan(found.sure[missing]).all()
        assert (found.sure[[0, 2, 3]] > 0.5).all()
        assert (found.tokens(part)[[0, 2, 3]] > 0).all()


def test_no_picture_at_all_is_no_row_under_every_layout(square, recipes):
    for recipe_, found in zip(recipes, square.several([], recipes), strict=True):
        assert len(found) == 0
        assert found.layout == Layout.of(recipe_)
        width = 64 if recipe_.pooling == "mean+std" else 32
        assert found.view(recipe_.region).shape == (0, width)


@pytest.mark.parametrize("changes", [{"crop_scale": 1.1}, {"seed": 3, "parser": "farl/lapa"}])
def test_a_recipe_of_another_crop_is_refused_with_what_differs(square, crops, changes):
    other = square.recipe.but(**changes)
    found = " and ".join(f"{name}={value!r}" for name, value in other_fields(other, changes))
    ours = " and ".join(f"{name}={value!r}" for name, value in other_fields(square.recipe, changes))
    message = re.escape(f"a recipe with {found} for an extractor with {ours}; expected recipes")
    for ask in (
        lambda: square.several([], [square.recipe, other]),
        lambda: square.follow([], recipes=[other]),
        lambda: square.describe(crops, [(0,)] * len(crops), [other]),
    ):
        with pytest.raises(OtherCrop, match=f"{message}.* patch_rule, .*Make an Extractor of it"):
            ask()


def other_fields(made, changes):
    """Those of the changed fields, in the recipe's order."""
    names = [field.name for field in fields(recipe.Recipe) if field.name in changes]
    return [(name, getattr(made, name)) for name in names]


def test_what_comes_after_the_descriptors_may_differ(square, crops):
    after = square.recipe.but(conditioning="l2", c_grid=(1.0,), folds=3, mode="paper")
    seeds = [(0, i) for i in range(len(crops))]
    equal(*(square.describe(crops, seeds, [one])[0] for one in (after, square.recipe)))


def test_a_given_selection_is_kept_whatever_the_pixels_are(square, crops, recipes):
    """Counterfactual copies keep the patches of the picture that they are copies of."""
    seeds, (maps, sure) = [(0, i) for i in range(3)], square.parser.parse(crops)
    turned = [2, 0, 1]
    theirs = square.describe(crops, seeds, recipes, (maps[turned], sure[turned]))
    own = square.describe([crops[i] for i in turned], seeds, recipes)
    for found, other, recipe_ in zip(theirs, own, recipes, strict=True):
        np.testing.assert_array_equal(found.counts, other.counts)
        np.testing.assert_array_equal(found.sure, sure[turned])
        part = recipe_.region
        assert (np.abs(found.view(part) - other.view(part)).max(1) > 1e-3).all()
    again = square.describe(crops, seeds, recipes, (maps, sure))
    for found, other in zip(again, square.describe(crops, seeds, recipes), strict=True):
        equal(found, other)


def test_an_isolated_descriptor_is_that_of_the_parts_tokens_alone(square, crops):
    eyes = square.recipe.but(encoding="isolated", region="eyes")
    (found,) = square.describe(crops, [(5, i) for i in range(3)], [eyes])
    kept = indexing.keep(square.parser(crops), (20, 20), "eyes")
    tokens = square.backbone.isolated(crops, kept)
    expected, counts = indexing.pool(tokens.patches, kept)
    np.testing.assert_array_equal(found.view("eyes"), expected)
    np.testing.assert_array_equal(found.tokens("eyes"), counts)
    np.testing.assert_array_equal(found.view("cls"), tokens.cls)
    with pytest.raises(OtherPart, match="region='mouth'"):
        found.view("mouth")
    # Its random control is encoded alone as well, and it is dealt the places that the eyes of the
    # contextual recipe are dealt among all labels.
    labels = indexing.by_label(indexing.patch_labels(square.parser(crops), (20, 20)))
    dealt = [indexing.shuffled(labels[i : i + 1], np.random.default_rng((5, i))) for i in range(3)]
    places = np.concatenate(dealt)[:, list(regions.part_ids("eyes"))].any(1)
    random, _ = indexing.pool(square.backbone.isolated(crops, places).patches, places)
    np.testing.assert_allclose(found.view("random eyes"), random, rtol=1e-5, atol=1e-6)


def test_a_pixel_outside_the_part_moves_a_contextual_descriptor_only(square, crops):
    """The proof of `tests/test_backbones.py`, through the whole chain and in one batch."""
    axes = ({}, {"encoding": "isolated"}, {"encoding": "isolated-bare"})
    recipes = [square.recipe.but(**changes) for changes in axes]
    seeds, parsed = [(0, i) for i in range(3)], square.parser.parse(crops)
    kept = indexing.keep(parsed[0], (20, 20), "mouth")
    inside = kept.repeat(14, axis=1).repeat(14, axis=2)[..., None]
    noise = np.random.default_rng(0).integers(0, 256, inside.shape, dtype=np.uint8)
    changed = [
        replace(crop, image=np.where(mask, crop.image, other))
        for crop, mask, other in zip(crops, inside, noise, strict=True)
    ]
    before, after = (square.describe(some, seeds, recipes, parsed) for some in (crops, changed))
    moved = [
        np.abs(one.view("mouth") - other.view("mouth")).max(1)
        for one, other in zip(before, after, strict=True)
    ]
    assert (moved[0] > 1e-3).all()
    assert np.max(moved[1:]) <= 1e-6


# -- videos of a manifest ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def extractor(small):
    return Extractor(small)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Eight videos as they come: good, short, without a face, losing it midway, broken, gone."""
    folder, detector = tmp_path_factory.mktemp("videos"), faces.load("mesh")
    for name, person, part in (
        ("a b ü.mp4", 0, None),
        ("fake.mp4", 0, "mouth"),
        ("c.mp4", 4, None),
    ):
        clips.write(folder / name, person, detector, part)
    clips.write(folder / "three.mp4", 2, detector, frames=3)
    cat = skimage.data.chelsea()[:288, :336]
    video.write(folder / "cat.mp4", [cat] * 12)
    (face, *_) = (image for _, image in video.read(folder / "c.mp4", [0]))
    cat = cv2.resize(cat, face.shape[1::-1])
    video.write(folder / "leaves.mp4", [face] * 6 + [cat] * 6)
    whole = (folder / "c.mp4").read_bytes()
    (folder / "corrupt.mp4").write_bytes(whole[: len(whole) // 2])
    names = [*sorted(path.name for path in folder.iterdir()), "gone.mp4"]
    rows = [
        {"video_uid": f"x/{name}", "path": str(folder / name), "label": int(name == "fake.mp4"),
         "dataset": "x", "split": "test"}
        for name in names
    ]  # fmt: skip
    return manifest.from_rows(rows)


@pytest.fixture(scope="module")
def undisturbed(videos, extractor, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    assert extraction.extract(videos, extractor, root) == Outcome(made=8, there=0, elsewhere=0)
    return Store(root, extractor.recipe, extractor.networks)


def rows_of(store, videos):
    """All that a store says of a manifest: ledger, and every view's numbers."""
    views = [store.view(name, videos.video_uid)[1] for name in ("all", "random all", "cls")]
    return store.ledger(videos.video_uid), np.concatenate(views, axis=1)


def same(one, other, videos):
    ledgers, values = zip(rows_of(one, videos), rows_of(other, videos), strict=True)
    pd.testing.assert_frame_equal(*ledgers)
    np.testing.assert_array_equal(*values)


def test_the_ledger_says_of_every_frame_what_became_of_it(undisturbed, videos):
    ledger = undisturbed.ledger(videos.video_uid)
    outcome = ledger.reason.str.partition(":")[0]
    by_video = {uid: list(rows) for uid, rows in outcome.groupby(ledger.video_uid)}
    assert by_video == {
        "x/a b ü.mp4": [""] * 4,
        "x/c.mp4": [""] * 4,
        "x/cat.mp4": ["NoFace"] * 4,
        "x/corrupt.mp4": ["UnreadableVideo"],
        "x/fake.mp4": [""] * 4,
        "x/gone.mp4": ["MissingFile"],
        "x/leaves.mp4": ["", "", "NoFace", "NoFace"],
        "x/three.mp4": [""] * 3,
    }
    described = (ledger.reason == "").to_numpy()
    assert (ledger.faces[described] == 1).all()
    assert ledger[described].filter(like="count").sum(axis=1).eq(100).all()  # 10 x 10 patches
    assert ledger.x1[described].gt(ledger.x0[described]).all()
    assert ledger[~described].x0.isna().all()
    assert ledger.frame[ledger.video_uid == "x/c.mp4"].tolist() == [1, 4, 7, 10]
    assert ledger.frame[ledger.video_uid == "x/gone.mp4"].tolist() == [extraction.WHOLE]


def test_a_videos_rows_are_those_of_its_frames_alone(undisturbed, videos, extractor):
    path = videos.set_index("video_uid").path["x/c.mp4"]
    frames = [image for _, image in video.read(path, [1, 4, 7, 10])]
    _, values = undisturbed.view("mouth", ["x/c.mp4"])
    np.testing.assert_array_equal(values, extractor(frames).view("mouth"))


def test_what_is_there_is_passed_over_and_what_changed_is_made_again(
    videos, extractor, tmp_path, undisturbed, monkeypatch
):
    copy = videos.assign(path=[shutil.copy(p, tmp_path) if os.path.exists(p) else p
                               for p in videos.path])  # fmt: skip
    extraction.extract(copy, extractor, tmp_path / "store")
    assert extraction.extract(copy, extractor, tmp_path / "store") == Outcome(0, 8, 0)
    changed = copy.path[copy.video_uid == "x/three.mp4"].item()
    shutil.copy(videos.path[videos.video_uid == "x/c.mp4"].item(), changed)
    assert extraction.extract(copy, extractor, tmp_path / "store") == Outcome(1, 7, 0)
    store = Store(tmp_path / "store", extractor.recipe, extractor.networks)
    np.testing.assert_array_equal(
        store.view("all", ["x/three.mp4"])[1], undisturbed.view("all", ["x/c.mp4"])[1]
    )
    # Where it lies is no part of what was described: the rest equals the first folder's.
    others = videos[videos.video_uid.isin(["x/c.mp4", "x/fake.mp4"])]
    same(store, undisturbed, others)


def test_token_grids_add_up_to_the_sums(videos, extractor, tmp_path):
    few = videos[videos.video_uid.isin(["x/c.mp4", "x/leaves.mp4", "x/gone.mp4"])]
    assert extraction.extract(few, extractor, tmp_path).made == 3
    assert extraction.extract(few, extractor, tmp_path, tokens=True).made == 3
    assert extraction.extract(few, extractor, tmp_path, tokens=True) == Outcome(0, 3, 0)
    store = Store(tmp_path, extractor.recipe, extractor.networks)
    frames, labels, tokens = store.tokens("x/leaves.mp4")
    assert frames.tolist() == [1, 4]  # those with a descriptor
    assert (labels.shape, tokens.shape) == ((2, 10, 10), (2, 10, 10, 32))
    _, values = store.view("mouth", ["x/leaves.mp4"])
    kept = np.isin(labels[0], regions.part_ids("mouth"))
    np.testing.assert_allclose(values[0], tokens[0][kept].mean(0), atol=2e-3)


def test_isolated_videos_go_through_a_store_like_any_other(videos, square, tmp_path):
    eyes = square.recipe.but(encoding="isolated", region="eyes")
    extractor = Extractor(eyes)
    few = videos[videos.video_uid.isin(["x/c.mp4", "x/leaves.mp4", "x/gone.mp4"])]
    assert extraction.extract(few, extractor, tmp_path, tokens=True).made == 3
    store = Store.find(tmp_path, eyes)
    frames, values = store.view("eyes", few.video_uid)
    paths = few.set_index("video_uid").path
    for uid in ("x/c.mp4", "x/leaves.mp4"):
        alone = extractor([image for _, image in video.read(paths[uid], [1, 4, 7, 10])])
        np.testing.assert_array_equal(values[frames.video_uid == uid], alone.view("eyes"))
    reasons = frames.reason.str.partition(":")[0]
    assert reasons.tolist() == ["", "", "", "", "", "", "NoFace", "NoFace", "MissingFile"]
    np.testing.assert_array_equal(np.isnan(values).all(1), reasons != "")
    ledger = store.ledger(few.video_uid)
    assert ledger["count eyes"][reasons == ""].gt(0).all()
    # Of the token grid only what was kept is there.
    _, labels, tokens = store.tokens("x/leaves.mp4")
    kept = np.isin(labels, regions.part_ids("eyes"))
    np.testing.assert_array_equal(np.isnan(tokens).all(-1), ~kept)
    np.testing.assert_allclose(values[4], tokens[0][kept[0]].mean(0), atol=2e-3)
    with pytest.raises(OtherPart, match="region='mouth'"):
        store.view("mouth", few.video_uid)


def test_an_error_of_ours_stops_the_run_and_frees_what_it_held(
    videos, extractor, tmp_path, monkeypatch
):
    class Broken(Exception):
        pass

    def breaks(*_):
        raise Broken

    with monkeypatch.context() as patch:
        patch.setattr(extraction, "make", breaks)
        with pytest.raises(Broken):
            extraction.extract(videos, extractor, tmp_path)
    assert extraction.extract(videos, extractor, tmp_path) == Outcome(8, 0, 0)


def test_a_video_that_appears_between_looking_and_claiming_is_not_made_again(
    videos, extractor, tmp_path, undisturbed, monkeypatch
):
    store, claim = Store(tmp_path, extractor.recipe, extractor.networks), Store.claim

    def late(self, uid):
        there = undisturbed.path(uid)
        self.path(uid).parent.mkdir(exist_ok=True)
        shutil.copy(there, self.path(uid))  # another process is done with it just now
        return claim(self, uid)

    monkeypatch.setattr(Store, "claim", late)
    found = extraction.extract(videos, extractor, tmp_path)
    assert found == Outcome(made=0, there=0, elsewhere=len(videos))
    assert all(claim(store, uid) is not None for uid in videos.video_uid)


# -- what goes wrong around the files --------------------------------------------------------------


def copied(videos, folder, *uids):
    """Some of the videos, in a folder of their own."""
    some = videos[videos.video_uid.isin(uids)]
    return some.assign(path=[str(shutil.copy(path, folder)) for path in some.path])


@pytest.mark.parametrize("moment", ["is_there", "_content", "_stamp", "length", "read"])
def test_a_video_that_vanishes_midway_is_recorded_and_the_others_go_on(
    videos, extractor, tmp_path, undisturbed, monkeypatch, moment
):
    """Whatever was about to be asked of it."""
    three = copied(videos, tmp_path, "x/a b ü.mp4", "x/c.mp4", "x/three.mp4")
    gone = three.path[three.video_uid == "x/c.mp4"].item()
    of = video if hasattr(video, moment) else extraction
    act = getattr(of, moment)

    def late(*given):
        if gone in repr(given):
            Path(gone).unlink(missing_ok=True)
        return act(*given)

    monkeypatch.setattr(of, moment, late)
    assert extraction.extract(three, extractor, tmp_path / "store").made == 3
    store = Store(tmp_path / "store", extractor.recipe, extractor.networks)
    (reason,) = store.ledger(["x/c.mp4"]).reason
    assert reason.startswith(("MissingFile: ", "UnreadableVideo: "))
    assert gone in reason
    same(store, undisturbed, three[three.path != gone])
    # It is back: made again, and as if nothing had been.
    monkeypatch.undo()
    shutil.copy(videos.path[videos.video_uid == "x/c.mp4"].item(), gone)
    assert extraction.extract(three, extractor, tmp_path / "store") == Outcome(1, 2, 0)
    same(store, undisturbed, three)


@pytest.mark.parametrize("moment", ["content", "frames", "mask"])
def test_a_drive_that_is_lost_stops_nobody_and_is_asked_again(
    videos, crowd, extractor, tmp_path, monkeypatch, moment
):
    choosing = extractor.choosing(face_choice="mask")
    extraction.extract(crowd, choosing, tmp_path)
    ours = crowd.path[crowd.video_uid == "fake"].item()
    os.utime(ours)  # so that it is looked into again
    lost = OSError(errno.EIO, os.strerror(errno.EIO))

    def failing(act, wanted):
        def fails(path, *given):
            if str(getattr(path, "path", path)) == wanted:
                raise lost
            return act(path, *given)

        return fails

    if moment == "content":
        monkeypatch.setattr(extraction, "_content", failing(extraction._content, ours))
    else:
        wanted = ours if moment == "frames" else crowd["mask"][crowd.video_uid == "fake"].item()
        monkeypatch.setattr(extraction.video, "read", failing(video.read, wanted))
        Store.find(tmp_path, choosing.recipe).path("fake").unlink()
    assert extraction.extract(crowd, choosing, tmp_path) == Outcome(1, 2, 0)
    reasons = set(Store.find(tmp_path, choosing.recipe).ledger(["fake"]).reason)
    assert len(reasons) == 1
    assert "cannot be read: Input/output error" in reasons.pop()
    # The drive is back, and its files are as they were.
    monkeypatch.undo()
    assert extraction.extract(crowd, choosing, tmp_path) == Outcome(1, 2, 0)
    assert "" in set(Store.find(tmp_path, choosing.recipe).ledger(["fake"]).reason)


def test_frames_that_memory_does_not_hold_are_refused(
    videos, extractor, tmp_path, undisturbed, monkeypatch
):
    (height, width) = 336, 276
    monkeypatch.setattr(extraction, "MAX_HELD", 3 * height * width * 3)
    two = videos[videos.video_uid.isin(["x/c.mp4", "x/three.mp4"])]
    assert extraction.extract(two, extractor, tmp_path).made == 2
    store = Store(tmp_path, extractor.recipe, extractor.networks)
    (reason,) = store.ledger(["x/c.mp4"]).reason
    assert reason.startswith("VideoTooLarge: ")
    assert "has 4 frames to look at, of more than" in reason
    same(store, undisturbed, two[two.video_uid == "x/three.mp4"])


# One process, on a disk of its own: extraction until it is full, room, extraction again.
FILLING = """
    import os
    import shutil
    import sys
    from pathlib import Path
    import numpy as np
    from seglib import extraction, files, manifest, recipe
    from seglib.extraction import Extractor

    table, root, backbone, seed = manifest.read(sys.argv[1]), *map(Path, sys.argv[2:4]), sys.argv[4]
    decisions = recipe.demo().but(backbone=str(backbone), input_size=140, frames=4)
    extractor, rng = Extractor(decisions), np.random.default_rng(int(seed))
    refused, complete = 0, set()
    for room in [*rng.integers(0, 60_000, 12), None]:
        filler = root / "filler"
        filler.write_bytes(b"")
        if room is not None:
            with filler.open("wb", buffering=0) as file:
                left = shutil.disk_usage(root).free - int(room)
                while left > 0:
                    left -= file.write(bytes(min(left, 4096)))
        try:
            print(extraction.extract(table, extractor, root / "store", tokens=True), flush=True)
        except files.CannotWrite as error:
            refused += 1
            print("refused:", error, flush=True)
        filler.unlink()
        assert not list(root.rglob("*.part"))
        found = {path.name for path in root.rglob("*.parquet")}
        assert complete <= found
        complete = found
        print(room, len(found), flush=True)
    print("times refused:", refused)
    shutil.copytree(root / "store", sys.argv[5])
"""


@pytest.mark.slow
def test_on_a_disk_that_is_full_nothing_is_half_and_with_room_it_goes_on(
    videos, small, extractor, tmp_path
):
    manifest.write(videos, tmp_path / "manifest.csv")
    (disk := tmp_path / "disk").mkdir()
    said = mounted(
        dedent(FILLING), disk, "full",
        tmp_path / "manifest.csv", disk, small.backbone, 0, tmp_path / "saved", size="2m",
    )  # fmt: skip
    assert int(re.search(r"times refused: (\d+)", said)[1]) >= 3, said
    assert re.search(r"cannot be written: .*No space left.*; \S+ has [\d.]+ MB free", said), said
    extraction.extract(videos, extractor, tmp_path / "undisturbed", tokens=True)
    saved, alone = (
        Store(tmp_path / name, extractor.recipe, extractor.networks)
        for name in ("saved", "undisturbed")
    )
    same(saved, alone, videos)
    for path in alone.folder.rglob("*.parquet"):
        other = saved.folder / path.relative_to(alone.folder)
        assert other.read_bytes() == path.read_bytes()


# -- whose face ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A fake whose smaller face, on the left, is the forged one; its mask ends early."""
    folder, detector = tmp_path_factory.mktemp("crowd"), faces.load("mesh")
    portraits = [media.read_image(path) for path in face_paths(2)]
    small = cv2.resize(portraits[0], (184, 224))
    large = cv2.resize(portraits[1], (276, 336))
    scene = np.full((336, 520, 3), 128, np.uint8)
    scene[56:280, 20:204] = small
    scene[:, 240:516] = large
    mask = np.zeros_like(scene)
    mask[120:240, 60:160] = 255
    video.write(folder / "fake.mp4", [scene] * 8)
    video.write(folder / "mask.mp4", [mask] * 6)
    assert len(detector(scene)) == 2
    for name in ("unmasked.mp4", "real.mp4"):
        shutil.copy(folder / "fake.mp4", folder / name)
    return manifest.from_rows(
        {"video_uid": name, "path": str(folder / f"{name}.mp4"), "label": int(name != "real"),
         "dataset": "dfd", "split": "test", "mask": str(mask)}
        for name, mask in (("fake", folder / "mask.mp4"), ("unmasked", ""), ("real", ""))
    )  # fmt: skip


def test_the_mask_names_the_face_of_a_fake_and_the_largest_that_of_a_real(
    crowd, extractor, tmp_path
):
    stores = {}
    for rule in ("largest", "mask"):
        choosing = extractor.choosing(face_choice=rule)
        extraction.extract(crowd, choosing, tmp_path)
        stores[rule] = Store.find(tmp_path, choosing.recipe).ledger(crowd.video_uid)
    largest, masked = (table.set_index(["video_uid", "frame"]) for table in stores.values())
    assert (largest.reason == "").all()
    assert (largest.x0 > 240).all()
    assert (largest.faces == 2).all()
    frames = [1, 3, 5, 7]
    assert (masked.loc["fake"].x1[:3] < 220).all()
    assert masked.loc["fake"].index.tolist() == frames
    # A mask that ends before its video loses those frames, and no later video's.
    assert masked.reason[("fake", 7)].startswith("UnreadableVideo:")
    assert masked.reason[("unmasked", 1)].startswith("NoMask: unmasked is a fake without a mask")
    pd.testing.assert_frame_equal(masked.loc["real"], largest.loc["real"])


def test_the_next_pictures_are_made_while_one_is_worked_on():
    made = []
    source = (made.append(number) or number for number in range(9))
    for number in extraction._ahead(source, 3):
        wanted, waited = min(number + 3, 8), time.monotonic()
        while made[-1] < wanted and time.monotonic() < waited + 10:
            time.sleep(0.001)
        assert made == list(range(wanted + 1))  # no more than three ahead


def test_what_was_made_before_an_error_is_worked_on():
    made = extraction._ahead((6 // (3 - number) for number in range(9)), 4)
    assert [next(made) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_a_failing_consumer_leaves_no_thread_behind():
    made = extraction._ahead(iter(range(100)), 3)
    next(made)
    made.close()  # as happens when its loop fails
    assert not [one for one in threading.enumerate() if one.name.startswith("looking ahead")]


# -- perturbed videos ----------------------------------------------------------------------------


def test_a_video_is_reencoded_once_and_as_a_whole(videos, extractor, tmp_path):
    (row,) = videos[videos.path.str.endswith(".mp4")].head(1).itertuples(index=False)
    change, plain = Perturbation("h264", 5), extractor.choosing(perturbation="none")
    with change.reencoded(row.path) as copy:
        indices = video.evenly(video.length(copy), extractor.recipe.frames)
        stream = [int.from_bytes(hashlib.sha256(row.video_uid.encode()).digest()[:4])]
        (expected,) = plain.follow(video.read(copy, indices), stream=stream).descriptors()
    chosen = extractor.choosing(perturbation="h264:5")
    extraction.extract(videos[videos.video_uid == row.video_uid], chosen, tmp_path)
    store = Store.find(tmp_path, chosen.recipe)
    found = Descriptors.load(store.path(row.video_uid))
    equal(found, expected)
    assert store.folder.name != Store(tmp_path, plain.recipe, plain.networks).folder.name


def test_a_folder_of_frames_that_vanishes_while_it_is_worked_on_was_perturbed_all_the_same(
    videos, extractor, tmp_path, monkeypatch
):
    """Whether a file was encoded anew is decided once, and not asked of the disk again."""
    folder, whole = tmp_path / "frames", extraction._whole
    folder.mkdir()
    for number, (_, image) in enumerate(video.read(videos.path[1], range(4))):
        cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    row = {"video_uid": "f", "path": str(folder), "label": 0, "dataset": "x", "split": "test"}
    table, chosen = manifest.from_rows([row]), extractor.choosing(perturbation="h264:5")
    extraction.extract(table, chosen, tmp_path / "undisturbed")

    def vanishing(*given):
        found = whole(*given)
        folder.rename(tmp_path / "gone")
        return found

    monkeypatch.setattr(extraction, "_whole", vanishing)
    extraction.extract(table, chosen, tmp_path / "store")
    one, other = (Store.find(tmp_path / name, chosen.recipe) for name in ("undisturbed", "store"))
    equal(*(Descriptors.load(store.path("f")) for store in (one, other)))


@pytest.mark.parametrize("decision", ["occlusion:5", "h264:1"])
def test_the_face_under_the_mask_is_the_one_that_is_perturbed(crowd, extractor, tmp_path, decision):
    fake, plain = crowd[crowd.video_uid == "fake"], extractor.choosing(face_choice="mask")
    chosen = plain.choosing(perturbation=decision)
    for one in (plain, chosen):
        extraction.extract(fake, one, tmp_path)
    stores = [Store.find(tmp_path, one.recipe) for one in (plain, chosen)]
    untouched, found = (Descriptors.load(store.path("fake")) for store in stores)
    described = found.reasons == ""
    assert described[:3].any()
    assert not np.allclose(untouched.cls[described], found.cls[described])


# -- interrupted, killed, in company -------------------------------------------------------------

RUN = """
    import sys
    from pathlib import Path
    from seglib import extraction, manifest, recipe
    from seglib.extraction import Extractor

    table, root, backbone = manifest.read(sys.argv[1]), *sys.argv[2:]
    decisions = recipe.demo().but(backbone=backbone, input_size=140, frames=4)
    extractor = Extractor(decisions)
    print("ready", flush=True)
    print(extraction.extract(table, extractor, root), flush=True)
"""


def start(videos, root, small, tmp_path):
    manifest.write(videos, tmp_path / "manifest.csv")
    arguments = [str(tmp_path / "manifest.csv"), str(root), small.backbone]
    run = subprocess.Popen(
        [sys.executable, "-c", dedent(RUN), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = run.stdout.readline()
    while line and line != "ready\n":  # LiteRT greets on stdout too
        line = run.stdout.readline()
    assert line == "ready\n", run.stderr.read()
    return run


# Imports take longer than the work: each run is a fork of one process that has done them.
FORKING = """
    import atexit
    import os
    import signal
    import sys
    from seglib import devices
    devices.let_torchvision_import()
    import ai_edge_litert.interpreter
    import av
    from seglib import extraction, manifest
    from transformers import AutoModel
    from transformers.models.dinov2 import modeling_dinov2

    while sys.stdin.readline():
        if not (child := os.fork()):
            atexit.register(print, "over", flush=True)
            break
        sys.stdin.readline()
        os.kill(child, signal.SIGKILL)  # it may be over: until it is waited for, its number stays
        os.waitpid(child, 0)
        print("killed", flush=True)
    else:
        sys.exit()
"""


class Forks:
    """A process that has done the imports; each of its forks is a run on a store."""

    def __init__(self, videos, store, small, tmp_path, code=RUN):
        manifest.write(videos, tmp_path / "manifest.csv")
        arguments = [str(tmp_path / "manifest.csv"), str(store), small.backbone]
        self.parent = subprocess.Popen(
            [sys.executable, "-c", dedent(FORKING) + dedent(code), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def begin(self):
        """A new run; the networks are loaded and the work begins."""
        print(file=self.parent.stdin, flush=True)
        self.until("ready")

    def kill(self):
        """Kill it, and return the lines that it had said."""
        print(file=self.parent.stdin, flush=True)
        return self.until("killed")[:-1]

    def until(self, word):
        """The lines up to the one that ends with a word: who is killed may leave half a line."""
        said = []
        while not said or not said[-1].endswith(f"{word}\n"):
            said.append(self.parent.stdout.readline())
            assert said[-1], f"it ended without {word!r}"
        return said


@pytest.fixture
def forks(small, tmp_path):
    """Start such a process on a store."""
    started = []

    def start(videos, store, code=RUN):
        started.append(Forks(videos, store, small, tmp_path, code))
        return started[-1]

    yield start
    for one in started:
        one.parent.communicate()


@pytest.mark.slow
def test_killed_twenty_times_at_any_moment_nothing_is_lost_and_nothing_twice(
    videos, extractor, tmp_path, undisturbed, forks
):
    """kill -9 at random moments; what was complete stays, the next run goes on."""
    rng, root = np.random.default_rng(), tmp_path / "store"
    store, kept = Store(root, extractor.recipe, extractor.networks), {}
    run = forks(videos, root)
    for _ in range(20):
        # A few are taken away, so that there is something left to be killed in.
        for uid in rng.permutation(videos.video_uid)[: rng.integers(2, 9)]:
            store.path(uid).unlink(missing_ok=True)
            kept.pop(uid, None)
        run.begin()
        time.sleep(rng.uniform(0, 2))
        run.kill()
        there = {uid: store.path(uid) for uid in videos.video_uid if store.path(uid).exists()}
        found = {uid: path.stat().st_mtime_ns for uid, path in there.items()}
        assert kept.items() <= found.items()  # neither lost nor made again
        kept = found
    extraction.extract(videos, extractor, root)
    same(store, undisturbed, videos)
    assert len(list((store.folder / "videos").glob("*.parquet"))) == len(videos)
    assert not list((store.folder / "videos").glob("*.part"))


# The same, saying what it is doing; the main thread does it, another one reads ahead.
TELLING = """
    from seglib import extraction
    from seglib.store import Store

    def telling(word, act):
        def told(*given):
            print(word, flush=True)
            found = act(*given)
            print("between", flush=True)
            return found
        return told

    extraction.make = telling("making", extraction.make)
    Store.write = telling("writing", Store.write)
"""


@pytest.mark.slow
def test_two_extractors_killed_twenty_times_leave_what_one_undisturbed_run_leaves(
    small, extractor, tmp_path, forks
):
    """Row for row and bit for bit, whichever of the two is killed, and whatever it was doing."""
    detector, made = faces.load("mesh"), {}

    def clip(path, person, forged, seed):
        """Of four people, each clip under seven or eight names."""
        first = made.setdefault((person % 4, forged), path)
        if path == first:
            clips.write(path, person, detector, "mouth" if forged else None)
        else:
            shutil.copy(first, path)

    root = layouts.folder(tmp_path / "clips", clip, people=30)
    (root / "fake" / "3.mp4").write_bytes(b"a download that broke off")
    videos = datasets.scan(root, "folder").table
    assert len(videos) == 60
    store = Store(tmp_path / "store", extractor.recipe, extractor.networks)

    together = Barrier(2, timeout=300)

    def killed(seed):
        """One extractor, killed ten times; what it was doing."""
        rng = np.random.default_rng(seed)
        run, during = forks(videos, tmp_path / "store", TELLING + RUN), []
        for _ in range(10):
            run.begin()
            # Moments are told by what it does and not by the clock: a busy machine is slow.
            said = ["reading\n"]
            for _ in range(rng.integers(9)):
                said.append(run.parent.stdout.readline())
                assert said[-1] != "over\n"  # there was work left to be killed in
            time.sleep(rng.uniform(0, 0.05))
            said += run.kill()
            during.append(said[-1].strip())
        together.wait()  # else the first to be done would leave the other nothing to do
        run.begin()
        run.until("over")
        return during

    with ThreadPoolExecutor(2) as both:
        during = Counter(chained.from_iterable(both.map(killed, (0, 1))))
    assert during["making"] + during["writing"] >= 8, during

    extraction.extract(videos, extractor, tmp_path / "undisturbed")
    alone = Store(tmp_path / "undisturbed", extractor.recipe, extractor.networks)
    same(store, alone, videos)
    for uid in videos.video_uid:
        assert store.path(uid).read_bytes() == alone.path(uid).read_bytes()
    names = [sorted(path.name for path in one.folder.glob("videos/*")) for one in (store, alone)]
    assert names[0] == names[1]  # and no rest of a killed writer


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_complete(videos, extractor, small, tmp_path, undisturbed):
    run = start(videos, tmp_path / "store", small, tmp_path)
    store = Store(tmp_path / "store", extractor.recipe, extractor.networks)
    while not list(store.folder.glob("videos/*.parquet")):
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in run.communicate()[1]
    done = len(list(store.folder.glob("videos/*.parquet")))
    assert done >= 1
    outcome = extraction.extract(videos, extractor, tmp_path / "store")
    assert outcome == Outcome(len(videos) - done, done, 0)
    same(store, undisturbed, videos)


@pytest.mark.slow
def test_two_processes_share_the_work_and_make_nothing_twice(
    videos, extractor, small, tmp_path, undisturbed
):
    runs = [start(videos, tmp_path / "store", small, tmp_path) for _ in range(2)]
    said = [re.search(r"made=(\d+)", run.communicate()[0])[1] for run in runs]
    store = Store(tmp_path / "store", extractor.recipe, extractor.networks)
    assert sum(map(int, said)) == len(videos)
    same(store, undisturbed, videos)
