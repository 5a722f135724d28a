"""The whole chain on real faces, with bad company, and what is kept of it on disk."""

import os
import signal
import subprocess
import sys
from dataclasses import fields
from functools import cache
from textwrap import dedent

import cv2
import numpy as np
import pytest
import skimage.data

from seglib import assets, extraction, media, recipe, regions
from seglib.errors import UnknownName
from seglib.extraction import DamagedDescriptors, Descriptors, Extractor

COLUMNS = [field.name for field in fields(Descriptors)]
WIDTH = 384  # of DINOv2-S


@cache
def chain():
    return Extractor(recipe.demo())


def face_paths(count):
    """Pictures of that many different people."""
    return [picture.path for picture in assets.pictures("orl")[::10]][:count]


def equal(one, other, rows=slice(None)):
    """All columns but the reasons agree; a matrix product may round by the batch's size."""
    for name in COLUMNS[:-1]:
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
        (10, 11, WIDTH), (10, 11), (10, 11, WIDTH), (10, WIDTH), (10,)
    ]  # fmt: skip
    assert set(good.reasons) == {""}
    assert (good.counts.sum(1) == 20 * 20).all()  # every patch has one label
    for name in ("sums", "random", "cls"):
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
        for name in ("sums", "random", "cls"):
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
    monkeypatch.setattr(extraction, "BATCH", 3)
    few = chain()(image for _, image in media.read_all(face_paths(4)))
    equal(few, Descriptors(*(getattr(good, name)[:4] for name in COLUMNS)))


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


# -- views -------------------------------------------------------------------------------------


def test_a_view_is_what_pooling_the_tokens_gives(good):
    crop = chain().crop(media.read_image(face_paths(1)[0]))
    tokens = chain().backbone([crop])
    labels = extraction.indexing.patch_labels(chain().parser([crop]), tokens.grid)
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
    here = chain().describe(crops, [0, 1])
    np.testing.assert_allclose(here.random, good.random[:2], rtol=1e-5, atol=1e-3)
    elsewhere = chain().describe(crops, [1, 0])
    np.testing.assert_allclose(elsewhere.sums, here.sums)
    assert np.abs(elsewhere.view("random mouth") - here.view("random mouth")).max() > 0.1


@pytest.mark.parametrize(
    ("name", "hint"), [("mout", "'mouth'"), ("CLS", "'cls'"), ("random mout", "'random mouth'")]
)
def test_an_unknown_view_gets_a_suggestion(good, name, hint):
    with pytest.raises(UnknownName, match=f"unknown view '{name}'; did you mean {hint}"):
        good.view(name)


# -- on disk -----------------------------------------------------------------------------------


def test_what_is_saved_comes_back_to_the_bit(mixed, tmp_path):
    found, _ = mixed
    path = tmp_path / "new" / "folder" / "rows.npz"
    found.save(path)
    back = Descriptors.load(path)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
        assert getattr(back, name).dtype == getattr(found, name).dtype
    assert os.listdir(path.parent) == ["rows.npz"]


def test_the_file_needs_no_pickle_and_reads_none(good, tmp_path):
    path = tmp_path / "rows.npz"
    good.save(path)
    with np.load(path, allow_pickle=False) as stored:
        assert sorted(stored) == sorted(COLUMNS)
        assert all(stored[name].dtype != object for name in COLUMNS)
    hostile = {name: getattr(good, name) for name in COLUMNS}
    hostile["reasons"] = np.array([print] * 10, dtype=object)
    np.savez(path, **hostile)
    with pytest.raises(DamagedDescriptors, match="pickle"):
        Descriptors.load(path)


KILLED = """
    import sys, time
    from pathlib import Path
    import numpy as np
    from seglib.extraction import DamagedDescriptors, Descriptors

    class Endless:  # the third column never ends
        def __array__(self, *args, **kwargs):
            print("midway", flush=True)
            time.sleep(600)

    sums = np.zeros((2000, 11, 64), np.float32)
    Descriptors(sums, sums, Endless(), sums, sums).save(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("older", [False, True])
def test_killed_midway_it_leaves_what_was_there(good, tmp_path, older):
    path = tmp_path / "rows.npz"
    if older:
        good.save(path)
    command = [sys.executable, "-c", dedent(KILLED), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "midway\n"
        assert any(tmp_path.glob("*.part"))  # it was truly writing
        writer.send_signal(signal.SIGKILL)
    assert path.exists() == older
    if older:
        equal(Descriptors.load(path), good)
    good.save(path)  # and the next one is not disturbed by the rest
    equal(Descriptors.load(path), good)


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_cut_file_is_named_as_such(good, tmp_path, keep):
    path = tmp_path / "rows.npz"
    good.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if keep < 1 else keep])
    with pytest.raises(DamagedDescriptors, match=r"rows\.npz"):
        Descriptors.load(path)


def test_a_save_that_fails_leaves_nothing_behind(good, tmp_path):
    (tmp_path / "rows.npz").mkdir()  # cannot be replaced by a file
    with pytest.raises(IsADirectoryError):
        good.save(tmp_path / "rows.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["rows.npz"]
