"""The store: what is written comes back, and what does not belong there is refused."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from mounts import mounted

from seglib import descriptors, recipe, store
from seglib.descriptors import Descriptors, Layout, OtherPart
from seglib.store import NoStore, NotExtracted, Store, StoreMismatch

NETWORKS = {"detector": "d", "parser": "p", "backbone": "b", "width": 5, "precision": "float32"}
RECIPE = recipe.demo()


def found(rows, seed=0):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, (rows, 11))
    sums = rng.normal(size=(2, rows, 11, 5)).astype(np.float32)
    return Descriptors(sums[0], counts, sums[1], sums[0, :, 0], np.ones(rows), np.full(rows, ""))


def made_from(content):
    return {"content": content, "stamp": "1234"}


def ledger(uid, frames):
    table = pd.DataFrame({"frame": frames, "faces": 1, "score": 0.9, "x0": 0.0})
    return table.assign(video_uid=uid, y0=1.0, x1=2.0, y1=3.0)


@pytest.fixture(params=["folder", "objects"])
def root(request, tmp_path):
    """A folder, and a place in an object store, of which fsspec has one in memory."""
    return tmp_path if request.param == "folder" else f"memory:/{tmp_path}"


@pytest.fixture
def filled(root):
    """Two videos, the first of a uid that no file system would take."""
    here = Store(root, RECIPE, NETWORKS)
    here.write("ffpp/c23/../\0顔", made_from("abc"), ledger("ffpp/c23/../\0顔", [3, 9]), found(2))
    missing = Descriptors.missing(["NoFace: nobody"], 5)
    here.write("b", made_from("def"), ledger("b", [0]), missing)
    return here


def test_what_is_written_comes_back(filled):
    uids = ["b", "ffpp/c23/../\0顔"]
    frames, values = filled.view("mouth", uids)
    assert frames.video_uid.tolist() == ["b", uids[1], uids[1]]
    assert frames.frame.tolist() == [0, 3, 9]
    assert frames.reason.tolist() == ["NoFace: nobody", "", ""]
    assert np.isnan(values[0]).all()
    np.testing.assert_array_equal(values[1:], found(2).view("mouth"))
    table = filled.ledger(uids)
    assert table.reason.tolist() == ["NoFace: nobody", "", ""]
    assert table["count ulip"].tolist() == [0, *found(2).counts[:, 7]]
    assert table.x1.tolist() == [2.0] * 3


@pytest.mark.parametrize("pooling", ["mean", "mean+std"])
@pytest.mark.parametrize("changes", [{"encoding": "isolated"}, {"patch_rule": "box"}])
def test_a_recipe_that_looks_at_one_part_keeps_that_part(tmp_path, changes, pooling):
    eyes = RECIPE.but(region="eyes", pooling=pooling, **changes)
    here, layout = Store(tmp_path, eyes, NETWORKS), Layout("eyes", pooling)
    counts = np.array([[2], [0], [7]])
    shape = (2, 3, 1, 10 if pooling == "mean+std" else 5)
    pools, random = np.random.default_rng(0).random(shape) * counts[..., None]
    rows = Descriptors(pools, counts, random, pools[:, 0, :5], np.ones(3), np.full(3, ""), layout)
    missing = Descriptors.missing(["NoFace: nobody"], 5, layout)
    here.write("a", made_from("abc"), ledger("a", [3, 9, 12]), rows)
    here.write("b", made_from("def"), ledger("b", [0]), missing)
    for name in ("eyes", "random eyes", "cls"):
        frames, values = here.view(name, ["a", "b"])
        assert frames.reason.tolist() == ["", "", "", "NoFace: nobody"]
        np.testing.assert_array_equal(values[:3], rows.view(name))
        assert np.isnan(values[3]).all()
    table = here.ledger(["a", "b"])
    assert table["count eyes"].tolist() == [2, 0, 7, 0]
    assert [name for name in table.columns if name.startswith("count")] == ["count eyes"]
    with pytest.raises(OtherPart, match="region='mouth'"):
        here.view("mouth", ["a"])
    # Another part is another store, and so is the same one among all labels.
    assert Store.find(tmp_path, eyes).folder == here.folder
    for other in (eyes.but(region="mouth"), RECIPE.but(pooling=pooling)):
        with pytest.raises(NoStore, match=here.folder.name):
            Store.find(tmp_path, other)


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [({}, 2 * 11 * 5 + 5), ({"pooling": "max"}, 2 * 11 * 5 + 5), ({"pooling": "mean+std"}, 225),
     ({"encoding": "isolated"}, 15), ({"encoding": "isolated", "pooling": "mean+std"}, 25)],
)  # fmt: skip
def test_how_much_it_takes_at_most_is_what_the_layout_says(changes, numbers):
    assert store.at_most(3, 5, RECIPE.but(**changes)) == 3 * numbers * 4


def test_a_video_written_again_replaces_what_was_there(filled):
    filled.write("b", made_from("new"), ledger("b", [1, 2, 4]), found(3, seed=1))
    assert filled.made_from("b") == made_from("new") | {"tokens": "False"}
    assert filled.ledger(["b"]).frame.tolist() == [1, 2, 4]
    assert len(list((filled.folder / "videos").iterdir())) == 2


def test_token_grids_are_kept_on_request_and_go_with_their_video(filled):
    rng = np.random.default_rng(0)
    grids = {3: (rng.integers(0, 11, (4, 6)).astype(np.uint8), rng.normal(size=(4, 6, 5)))}
    filled.write("b", made_from("def"), ledger("b", [3]), found(1), grids)
    frames, labels, tokens = filled.tokens("b")
    assert (frames.tolist(), tokens.dtype) == ([3], np.float16)
    np.testing.assert_array_equal(labels[0], grids[3][0])
    np.testing.assert_allclose(tokens[0], grids[3][1], rtol=1e-3)
    assert filled.made_from("b")["tokens"] == "True"
    filled.write("b", made_from("def"), ledger("b", [3]), found(1))
    assert not filled.tokens_path("b").exists()


@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_rests_of_a_killed_writer_are_swept_away(filled):
    rest = filled.path("b").with_suffix(".4711.part")
    rest.write_bytes(b"half a file")
    writing = filled.claim("b")  # somebody is at it
    filled.sweep()
    assert rest.exists()
    writing.release()
    filled.sweep()
    assert not rest.exists()
    assert filled.path("b").exists()


def test_a_file_that_is_cut_counts_as_not_there(filled):
    path = filled.path("b")
    path.write_bytes(path.read_bytes()[:100])
    assert filled.made_from("b") == {}
    assert filled.made_from("never heard of") == {}
    with pytest.raises(descriptors.DamagedDescriptors):
        filled.view("mouth", ["b"])


@pytest.mark.parametrize("root", ["folder"], indirect=True)
@pytest.mark.parametrize("metadata", [{}, {"content": b"\xff", "stamp": "1", "tokens": "False"}])
def test_a_file_that_does_not_say_what_it_was_made_from_counts_as_not_there(filled, metadata):
    path = filled.path("b")
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    assert filled.made_from("b") == {}


def test_a_ledger_and_grids_that_are_damaged_say_so(filled):
    grid = np.zeros((4, 4), np.uint8), np.ones((4, 4, 5))
    filled.write("b", made_from("def"), ledger("b", [0]), found(1), {0: grid})
    for path, look in (
        (filled.path("b"), lambda: filled.ledger(["b"])),
        (filled.tokens_path("b"), lambda: filled.tokens("b")),
    ):
        look()
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(descriptors.DamagedDescriptors, match=path.name):
            look()


@pytest.mark.parametrize("root", ["folder"], indirect=True)
@pytest.mark.parametrize("networks", ["other", ["d"], None, {"backbone": "x"}])
def test_a_header_of_other_networks_than_its_folder_opens_no_new_store(filled, tmp_path, networks):
    path = filled.folder / store.HEADER
    path.write_text(json.dumps(json.loads(path.read_text()) | {"networks": networks}))
    with pytest.raises(StoreMismatch, match="those that its folder is named by"):
        Store.find(tmp_path, RECIPE)
    with pytest.raises(NoStore):
        Store.find(tmp_path, RECIPE, NETWORKS)
    assert [one.name for one in tmp_path.iterdir()] == [filled.folder.name]


@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_a_claim_is_held_by_one_and_can_be_passed_on(filled, tmp_path):
    other = Store(tmp_path, RECIPE, NETWORKS)
    mine = filled.claim("b")
    assert mine is not None
    assert other.claim("b") is None
    assert other.claim("c") is not None
    mine.release()
    assert other.claim("b") is not None


READ_ONLY = """
import sys
from seglib import recipe
from seglib.files import CannotWrite
from seglib.store import Store

here = Store.find(sys.argv[1], recipe.demo())
print(*here.view("mouth", ["b"])[1].shape, here.made_from("b")["content"])
for attempt in (lambda: here.claim("b"), lambda: here.claim("new"),
                lambda: Store(sys.argv[1], recipe.demo().but(frames=8), here.networks)):
    try:
        attempt()
    except CannotWrite as error:
        print(error)
"""


@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_a_read_only_store_is_read_and_says_that_it_is_one(filled, tmp_path):
    filled.claim("b").release()
    said = mounted(READ_ONLY, tmp_path, "ro", tmp_path).splitlines()
    assert said[0] == "1 5 def"
    assert len(said) == 4
    for line in said[1:]:
        assert "cannot be written: Read-only file system. Expected a folder that can" in line


@pytest.mark.parametrize("root", ["objects"], indirect=True)
def test_objects_have_no_locks_and_no_rests(filled):
    one, other = filled.claim("b"), filled.claim("b")
    for claim in (one, other):
        claim.release()
    names = sorted(path.relative_to(filled.folder).parts[0] for path in filled.folder.rglob("*.*"))
    assert names == ["header.json", "videos", "videos"]


def test_videos_that_are_not_there_are_named(filled):
    with pytest.raises(NotExtracted, match=r"1 of 2 videos.*'c'.*seglib extract"):
        filled.view("mouth", ["b", "c"])
    with pytest.raises(NotExtracted):
        filled.ledger([])


def test_a_store_is_found_by_its_recipe_without_weights(filled, root):
    again = Store.find(root, RECIPE.but(c_grid=(1.0,)))  # comes after the descriptors
    assert (again.folder, again.networks) == (filled.folder, NETWORKS)


def test_another_recipe_or_other_weights_are_another_store(filled, root):
    with pytest.raises(NoStore, match=filled.folder.name):  # it says what else is there
        Store.find(root, RECIPE.but(frames=8))
    assert Store(root, RECIPE.but(frames=8), NETWORKS).folder != filled.folder
    assert Store(root, RECIPE, NETWORKS | {"backbone": "x"}).folder != filled.folder
    with pytest.raises(NoStore, match=r"2 stores.*expected one"):
        Store.find(root, RECIPE)
    assert Store.find(root, RECIPE, NETWORKS).folder == filled.folder
    half = NETWORKS | {"precision": "bfloat16"}
    assert Store.find(root, RECIPE, half).folder == filled.folder  # the same weights


@pytest.mark.parametrize("field", ["layout", "networks", "labels"])
def test_a_header_that_says_something_else_is_refused_by_name(filled, root, field):
    path = filled.folder / store.HEADER
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: "other"}))
    with pytest.raises(StoreMismatch, match=f"says {field} = 'other'"):
        Store(root, RECIPE, NETWORKS)


def test_the_header_tells_the_whole_recipe(filled):
    said = json.loads((filled.folder / store.HEADER).read_text())
    assert said["recipe"]["backbone"] == RECIPE.backbone
    assert said["made_by"].startswith("seglib ")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 20_000])
def test_a_header_that_is_none_is_refused(filled, root, text):
    (filled.folder / store.HEADER).write_text(text)
    with pytest.raises(StoreMismatch, match=r"header\.json says nothing that can be read"):
        Store(root, RECIPE, NETWORKS)
