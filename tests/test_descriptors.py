"""What is kept of a face: views that recombine it, and files that are whole or not there."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from textwrap import dedent

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seglib import descriptors, files, indexing, recipe, regions
from seglib.descriptors import BY_LABEL, DamagedDescriptors, Descriptors, Layout, OtherPart
from seglib.errors import UnknownName

COLUMNS = [field.name for field in fields(Descriptors) if field.name != "layout"]
WIDTH = 5
LAYOUTS = [
    Layout(region, pooling) for region in ("", "eyes") for pooling in ("mean", "max", "mean+std")
]


def made_up(rows=6, seed=0, layout=BY_LABEL):
    """Pools of random tokens, some sets without any, and a last row without a face."""
    rng = np.random.default_rng(seed)
    tokens = torch.from_numpy(rng.normal(size=(rows, 5, 6, WIDTH)).astype(np.float32))
    dealt = rng.integers(0, len(regions.LABELS), (rows, 5, 6))
    dealt[::2][dealt[::2] == regions.label_id("nose")] = 0
    members = indexing.by_label(dealt)
    if layout.region:
        members = members[:, list(regions.part_ids(layout.region))].any(1, keepdims=True)
    pools, counts = indexing.partial_pools(tokens, members, layout.pooling)
    elsewhere = indexing.shuffled(members, rng)
    random, _ = indexing.partial_pools(tokens, elsewhere, layout.pooling)
    cls = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    sure = rng.random(rows).astype(np.float32)
    found = Descriptors(pools, counts, random, cls, sure, np.full(rows, ""), layout)
    missing = Descriptors.missing(["NoFace: nobody, 顔"], WIDTH, layout)
    return Descriptors.joined([found, missing])


def test_a_file_is_smaller_than_what_it_holds(tmp_path):
    """Numbers that hardly repeat make a dictionary of them larger than they are."""
    width, sets = 384, len(regions.LABELS)
    rng = np.random.default_rng(0)
    found = Descriptors.missing([""] * 32, width)
    arrays = (found.pools, found.random, found.cls)
    drawn = [rng.normal(size=one.shape).astype(np.float32) for one in arrays]
    counts = rng.integers(1, 40, (32, sets))
    Descriptors(drawn[0], counts, drawn[1], drawn[2], found.sure, found.reasons).save(
        tmp_path / "a.parquet"
    )
    assert (tmp_path / "a.parquet").stat().st_size < sum(one.nbytes for one in drawn)


# -- views -------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.sampled_from(sorted(regions.PARTS)), st.booleans())
def test_a_view_is_the_mean_over_the_parts_tokens(seed, part, random):
    found, ids = made_up(seed=seed), list(regions.part_ids(part))
    sums = found.random if random else found.pools
    view = found.view(f"random {part}" if random else part)
    for row in range(len(found)):
        total = sum(int(found.counts[row, i]) for i in ids)
        if total:
            expected = sum(sums[row, i].astype(float) for i in ids) / total
            np.testing.assert_allclose(view[row], expected, rtol=1e-4, atol=1e-5)
        else:
            assert np.isnan(view[row]).all()


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        *((name, BY_LABEL) for name in descriptors.VIEWS),
        *((name, layout) for name in ("eyes", "random eyes", "cls") for layout in LAYOUTS[1:]),
    ],
)
def test_a_view_of_a_file_reads_only_its_columns_and_is_the_same(tmp_path, name, layout):
    found = made_up(layout=layout)
    found.save(tmp_path / "a.parquet")
    column = descriptors.read(tmp_path / "a.parquet", descriptors.needs(name, layout))
    np.testing.assert_array_equal(descriptors.view(name, column, layout), found.view(name))
    if layout.region and name != "cls":
        kind = "random" if name.startswith("random") else "pool"
        assert descriptors.needs(name, layout) == ["reason", f"{kind} eyes", "count eyes"]
    if name == "mouth":
        assert sorted(descriptors.needs(name)) == sorted(
            ["reason", *(f"{k} {n}" for k in ("pool", "count") for n in ("ulip", "imouth", "llip"))]
        )


@pytest.mark.parametrize(
    ("name", "hint"), [("mout", "'mouth'"), ("CLS", "'cls'"), ("random mout", "'random mouth'")]
)
def test_an_unknown_view_gets_a_suggestion(name, hint):
    with pytest.raises(UnknownName, match=f"unknown view '{name}'; did you mean {hint}"):
        made_up().view(name)


def same(one, other):
    assert one.layout == other.layout
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        assert getattr(one, name).dtype.kind == getattr(other, name).dtype.kind


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_the_whole_again(layout):
    found = made_up(layout=layout)
    same(Descriptors.joined(found.rows()), found)
    same(Descriptors.joined([found.of(slice(2)), found.of(np.arange(2, 7))]), found)
    assert found.of(np.array([3, 0])).reasons.tolist() == ["", ""]


# -- layouts -----------------------------------------------------------------------------------


def test_a_layout_is_that_of_the_recipe():
    demo = recipe.demo()
    assert Layout.of(demo) == BY_LABEL
    assert BY_LABEL.sets == regions.LABELS
    assert Layout.of(demo.but(region="eyes", pooling="max")) == Layout("", "max")
    for one_part in ({"encoding": "isolated"}, {"patch_rule": "touched"}, {"patch_rule": 0.5}):
        layout = Layout.of(demo.but(region="eyes", **one_part))
        assert layout == Layout("eyes", "mean")
        assert layout.sets == ("eyes",)


@pytest.mark.parametrize("part", regions.PARTS)
def test_a_part_is_the_union_of_its_labels_or_the_one_set_that_there_is(part):
    assert BY_LABEL.of_part(part) == list(regions.part_ids(part))
    assert Layout(part).of_part(part) == [0]


@pytest.mark.parametrize("name", ["mouth", "random mouth"])
def test_another_part_than_the_one_that_was_kept_says_what_to_extract(name, tmp_path):
    found = made_up(layout=Layout("eyes"))
    message = r"'mouth' were asked .* those of 'eyes' were kept: .* Extract with region='mouth'"
    with pytest.raises(OtherPart, match=message):
        found.view(name)
    with pytest.raises(OtherPart, match=message):
        descriptors.needs(name, found.layout)
    with pytest.raises(OtherPart, match=message):
        found.tokens("mouth")
    with pytest.raises(UnknownName, match="unknown view 'eyed'; did you mean 'eyes'"):
        found.view("eyed")
    assert found.view("cls").shape == (7, WIDTH)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_a_view_of_its_width_and_nan_where_there_is_nothing(layout):
    found = made_up(layout=layout)
    width = 2 * WIDTH if layout.pooling == "mean+std" else WIDTH
    for name in ("eyes", "random eyes"):
        view = found.view(name)
        assert view.shape == (7, width)
        assert view.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(view).any(1), found.tokens("eyes") == 0)
    assert found.view("cls").shape == (7, WIDTH)  # which is not pooled


@pytest.mark.parametrize("pooling", ["mean", "max", "mean+std"])
def test_a_part_by_itself_is_that_of_all_labels(pooling):
    """The layout changes what is kept, and not what a part's tokens say."""
    every, eyes = (made_up(layout=Layout(region, pooling)) for region in ("", "eyes"))
    for name in ("eyes", "random eyes"):
        np.testing.assert_allclose(eyes.view(name), every.view(name), rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(eyes.tokens("eyes"), every.tokens("eyes"))


def test_tokens_are_counted_over_the_parts_labels():
    found = made_up()
    assert found.tokens("all").tolist() == [30] * 6 + [0]
    assert found.tokens("nose").tolist() == found.counts[:, regions.label_id("nose")].tolist()
    assert (found.tokens("nose")[:6:2] == 0).all()
    lips = sum(found.counts[:, regions.label_id(name)] for name in regions.PARTS["mouth"])
    assert found.tokens("mouth").tolist() == lips.tolist()
    with pytest.raises(UnknownName, match="did you mean 'mouth'"):
        found.tokens("mout")


# -- on disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows", [7, 0])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, rows, layout):
    found = made_up(layout=layout).of(slice(rows))
    path = tmp_path / "new" / "folder" / "rows.parquet"
    found.save(path)
    same(Descriptors.load(path), found)
    assert os.listdir(path.parent) == ["rows.parquet"]


def test_a_ledger_stands_before_the_descriptors_with_its_metadata(tmp_path):
    found = made_up(2)
    ledger = pa.table({"frame": [4, 9, 14]}).replace_schema_metadata({"content": "abc"})
    found.save(tmp_path / "a.parquet", ledger)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names[:2] == ["frame", "cls"]
    assert table.schema.metadata[b"content"] == b"abc"
    np.testing.assert_array_equal(Descriptors.load(tmp_path / "a.parquet").pools, found.pools)


KILLED = """
    import sys, time
    from pathlib import Path
    import pyarrow.parquet as pq
    from tests.test_descriptors import made_up

    write = pq.write_table
    def slowly(table, where, **options):  # the real file, cut in its middle
        write(table, where, **options)
        content = where.read_bytes()
        where.write_bytes(content[: len(content) // 2])
        print("midway", flush=True)
        time.sleep(600)

    pq.write_table = slowly
    made_up(seed=1).save(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("older", [False, True])
def test_killed_midway_it_leaves_what_was_there(tmp_path, older):
    path, good = tmp_path / "rows.parquet", made_up()
    if older:
        good.save(path)
    command = [sys.executable, "-c", dedent(KILLED), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "midway\n"
        assert any(tmp_path.glob("*.part"))  # it was truly writing
        writer.send_signal(signal.SIGKILL)
    assert path.exists() == older
    good.save(path)  # and the next one is not disturbed by the rest
    np.testing.assert_array_equal(Descriptors.load(path).pools, good.pools)


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_cut_file_is_named_as_such(tmp_path, keep):
    path = tmp_path / "rows.parquet"
    made_up().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if 0 < keep < 1 else keep])
    with pytest.raises(DamagedDescriptors, match=r"rows\.parquet"):
        Descriptors.load(path)


def test_a_file_of_something_else_names_a_column_it_lacks(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DamagedDescriptors, match="pool background"):
        Descriptors.load(tmp_path / "other.parquet")


@pytest.mark.parametrize("layout", [b"", b"mouth", b"[1]", b'{"part": "mouth"}'])
def test_a_file_whose_layout_cannot_be_read_is_named_as_damaged(tmp_path, layout):
    path = tmp_path / "rows.parquet"
    made_up().save(path)
    pq.write_table(pq.read_table(path).replace_schema_metadata({"layout": layout}), path)
    with pytest.raises(DamagedDescriptors, match=r"rows\.parquet holds no whole set"):
        Descriptors.load(path)


@pytest.mark.parametrize("layout", [{"pooling": "sum"}, {"region": "mouht"}])
def test_a_layout_that_there_is_not_is_damage(tmp_path, layout):
    path = tmp_path / "rows.parquet"
    made_up().save(path)
    metadata = {"layout": json.dumps(layout)}
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(DamagedDescriptors, match="its layout is"):
        Descriptors.load(path)


def test_a_bit_that_turned_is_no_other_score(tmp_path):
    """Wherever it is: without check sums Parquet would hand over some as numbers."""
    path, found = tmp_path / "rows.parquet", made_up()
    found.save(path)
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 37):
        changed = bytearray(whole)
        changed[place] ^= 4
        path.write_bytes(changed)
        try:
            same(Descriptors.load(path), found)
        except DamagedDescriptors:
            refused += 1
    assert refused > len(whole) / 37 / 2


def test_a_reason_may_name_a_file_whose_name_is_no_utf8(tmp_path):
    found = Descriptors.missing(["UnreadableImage: /frames/\udcff.png is empty"], 5)
    found.save(tmp_path / "rows.parquet")
    (reason,) = Descriptors.load(tmp_path / "rows.parquet").reasons
    assert reason == "UnreadableImage: /frames/\\udcff.png is empty"


def test_a_missing_file_is_simply_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Descriptors.load(tmp_path / "gone.parquet")


def test_a_save_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "rows.parquet").mkdir()  # cannot be replaced by a file
    with pytest.raises(files.CannotWrite):
        made_up().save(tmp_path / "rows.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]


def test_descriptors_of_several_layouts_are_not_joined():
    mouth, eyes = (
        Descriptors.missing(["NoFace: nobody"], WIDTH, descriptors.Layout(part))
        for part in ("mouth", "eyes")
    )
    with pytest.raises(descriptors.OtherPart, match="2 layouts were to be joined"):
        Descriptors.joined([mouth, eyes])
