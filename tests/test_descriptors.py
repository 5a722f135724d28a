"""What is kept of a face: views that recombine it, and files that are whole or not there."""

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
from hypothesis import given
from hypothesis import strategies as st

from seglib import descriptors, regions
from seglib.descriptors import DamagedDescriptors, Descriptors
from seglib.errors import UnknownName

COLUMNS = [field.name for field in fields(Descriptors)]
WIDTH = 5


def made_up(rows=6, seed=0):
    """Random sums, some labels without a token, and a last row without a face."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (rows, len(regions.LABELS)))
    sums, random = rng.normal(size=(2, *counts.shape, WIDTH)).astype(np.float32) * (
        counts[..., None] > 0
    ).astype(np.float32)
    cls = rng.normal(size=(rows, WIDTH)).astype(np.float32)
    found = Descriptors(sums, counts, random, cls, np.full(rows, ""))
    return Descriptors.joined([found, Descriptors.missing(["NoFace: nobody, 顔"], WIDTH)])


# -- views -------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.sampled_from(sorted(regions.PARTS)), st.booleans())
def test_a_view_is_the_mean_over_the_parts_tokens(seed, part, random):
    found, ids = made_up(seed=seed), list(regions.part_ids(part))
    sums = found.random if random else found.sums
    view = found.view(f"random {part}" if random else part)
    for row in range(len(found)):
        total = sum(int(found.counts[row, i]) for i in ids)
        if total:
            expected = sum(sums[row, i].astype(float) for i in ids) / total
            np.testing.assert_allclose(view[row], expected, rtol=1e-4, atol=1e-5)
        else:
            assert np.isnan(view[row]).all()


@pytest.mark.parametrize("name", descriptors.VIEWS)
def test_a_view_of_a_file_reads_only_its_columns_and_is_the_same(tmp_path, name):
    found = made_up()
    found.save(tmp_path / "a.parquet")
    column = descriptors.read(tmp_path / "a.parquet", descriptors.needs(name))
    np.testing.assert_array_equal(descriptors.view(name, column), found.view(name))
    if name == "mouth":
        assert sorted(descriptors.needs(name)) == sorted(
            ["reason", *(f"{k} {n}" for k in ("sum", "count") for n in ("ulip", "imouth", "llip"))]
        )


@pytest.mark.parametrize(
    ("name", "hint"), [("mout", "'mouth'"), ("CLS", "'cls'"), ("random mout", "'random mouth'")]
)
def test_an_unknown_view_gets_a_suggestion(name, hint):
    with pytest.raises(UnknownName, match=f"unknown view '{name}'; did you mean {hint}"):
        made_up().view(name)


def test_rows_are_the_whole_again():
    found = made_up()
    again = Descriptors.joined(found.rows())
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


# -- on disk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [6, 0])
def test_what_is_saved_comes_back_to_the_bit(tmp_path, rows):
    found = made_up(rows)
    path = tmp_path / "new" / "folder" / "rows.parquet"
    found.save(path)
    back = Descriptors.load(path)
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
        assert getattr(back, name).dtype.kind == getattr(found, name).dtype.kind
    assert os.listdir(path.parent) == ["rows.parquet"]


def test_a_ledger_stands_before_the_descriptors_with_its_metadata(tmp_path):
    found = made_up(2)
    ledger = pa.table({"frame": [4, 9, 14]}).replace_schema_metadata({"content": "abc"})
    found.save(tmp_path / "a.parquet", ledger)
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names[:2] == ["frame", "reason"]
    assert table.schema.metadata[b"content"] == b"abc"
    np.testing.assert_array_equal(Descriptors.load(tmp_path / "a.parquet").sums, found.sums)


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
    np.testing.assert_array_equal(Descriptors.load(path).sums, good.sums)


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
    with pytest.raises(DamagedDescriptors, match="reason"):
        Descriptors.load(tmp_path / "other.parquet")


def test_a_missing_file_is_simply_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        Descriptors.load(tmp_path / "gone.parquet")


def test_a_save_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "rows.parquet").mkdir()  # cannot be replaced by a file
    with pytest.raises(IsADirectoryError):
        made_up().save(tmp_path / "rows.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]
