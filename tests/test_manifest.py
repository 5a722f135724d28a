"""A manifest that is wrong is refused by name; groups are what plain union and find make them."""

import os

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib import manifest
from seglib.manifest import COLUMNS, BadManifest, Leak
from seglib.media import MissingFile


def row(uid, **changes):
    known = {"video_uid": uid, "path": f"/data/{uid}.mp4", "label": 0, "dataset": "ffpp"}
    return known | {"method": "original", "split": "test", "target": f"ffpp/{uid}"} | changes


@pytest.fixture
def table():
    """Two people in test, one of them forged with the face of the other, and one in training."""
    fake = row("004_982", label=1, method="FaceSwap", target="ffpp/004", source="ffpp/982")
    fake |= {"pair_id": "004", "mask": "/data/masks/004_982.mp4"}
    return manifest.from_rows([row("982"), row("004"), fake, row("071", split="train")])


# -- the schema --------------------------------------------------------------------------------


def test_what_is_not_known_of_a_video_is_empty(table):
    assert tuple(table.columns) == COLUMNS
    assert table.loc[0, ["source", "pair_id", "mask", "compression"]].tolist() == [""] * 4
    assert table["frames"].tolist() == [0] * 4


def test_a_valid_manifest_is_ordered_and_typed(table):
    shuffled = table[sorted(COLUMNS)].iloc[::-1].astype({"label": float, "frames": float})
    again = manifest.validate(shuffled)
    assert tuple(again.columns) == COLUMNS
    assert list(again.index) == [0, 1, 2, 3]
    assert again["label"].dtype == again["frames"].dtype == "int64"


def test_nothing_found_is_still_a_manifest():
    assert tuple(manifest.from_rows([]).columns) == COLUMNS


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("label", 2, "column label, row 2 (uid '004'): found 2, expected 0 (bona fide) or 1"),
        ("label", "1", "found '1', expected 0"),
        ("split", "testing", "column split, row 2 (uid '004'): found 'testing', expected train"),
        ("video_uid", "", "column video_uid, row 2 (uid ''): found '', expected one for every"),
        ("video_uid", "982", "found '982', expected each of them once"),
        ("path", "", "column path, row 2"),
        ("path", "/data/982.mp4", "found '/data/982.mp4', expected each of them once"),
        ("target", 4, "column target, row 2 (uid '004'): found 4, expected text"),
        ("source", float("nan"), "found nan, expected text"),
        ("frames", 2.5, "found 2.5, expected a whole number"),
        ("frames", -1, "found -1, expected a whole number"),
        ("frames", "many", "found 'many', expected a whole number"),
        ("group", "", "expected one for every row; fill it with with_groups"),
    ],
)
def test_a_wrong_cell_is_named_with_its_row_and_what_belongs_there(table, column, value, says):
    table = table.astype(object)
    table.loc[1, column] = value
    with pytest.raises(BadManifest) as caught:
        manifest.validate(table)
    assert says in str(caught.value)


def test_of_many_wrong_cells_the_first_is_shown_and_the_others_counted(table):
    with pytest.raises(BadManifest, match=r"row 1 .*, and 3 more rows,: found 'tset'"):
        manifest.validate(table.assign(split="tset"))


def test_a_column_that_is_not_there_is_named(table):
    with pytest.raises(BadManifest, match="no column source, mask; expected all of video_uid"):
        manifest.validate(table.drop(columns=["mask", "source"]))


def test_a_column_too_many_is_met_with_a_suggestion(table):
    with pytest.raises(BadManifest, match="'pair_ids'; did you mean 'pair_id'"):
        manifest.validate(table.rename(columns={"pair_id": "pair_ids"}))
    with pytest.raises(BadManifest, match="'labels'; did you mean 'label'"):
        manifest.from_rows([row("004", labels=1)])


# -- leaks -------------------------------------------------------------------------------------


def test_a_person_in_two_splits_is_a_leak_that_is_named_and_counted():
    fake = row("004_982", label=1, target="ffpp/004", source="ffpp/982")
    with pytest.raises(Leak) as caught:
        manifest.from_rows([row("982", split="train"), row("004"), fake, row("071")])
    assert "1 of 2 groups are in more than one split (004; videos: 2 in test, 1 in train" in str(
        caught.value
    )
    assert "shared people: ffpp/982)" in str(caught.value)


def test_a_pair_in_two_splits_is_a_leak_where_nobody_is_known():
    fake = row("b", label=1, target="", pair_id="a")
    with pytest.raises(Leak, match="linked by pairs"):
        manifest.from_rows([row("a", target="", split="train"), fake])


# -- groups ------------------------------------------------------------------------------------

NAMES = st.sampled_from(["", "a/1", "a/2", "a/3", "b/1", "b/2"])
UIDS = [f"v{n}" for n in range(8)]
LINKS = st.tuples(NAMES, NAMES, st.sampled_from(["", *UIDS, "elsewhere"]))


def naive_groups(rows):
    """Merge any two videos that share something until nothing moves."""
    group = {row["video_uid"]: row["video_uid"] for row in rows}
    people = {r["video_uid"]: {r["source"], r["target"]} - {""} for r in rows}
    videos = {r["video_uid"]: {r["video_uid"], r["pair_id"]} - {""} for r in rows}
    for _ in rows:
        for one in group:
            for other in group:
                if people[one] & people[other] or videos[one] & videos[other]:
                    group[one] = group[other] = min(group[one], group[other])
    return group


@given(st.lists(LINKS, min_size=1, max_size=len(UIDS)))
def test_groups_are_the_components_of_shared_people_and_pairs(links):
    named = [dict(zip(("source", "target", "pair_id"), link, strict=True)) for link in links]
    rows = [row(uid, **link) for uid, link in zip(UIDS, named, strict=False)]
    table = manifest.with_groups(pd.DataFrame(rows))
    assert dict(zip(table["video_uid"], table["group"], strict=True)) == naive_groups(rows)


@settings(max_examples=20)
@given(st.lists(LINKS, min_size=1, max_size=len(UIDS)), st.randoms())
def test_the_order_of_rows_changes_neither_groups_nor_digest(links, random):
    named = [dict(zip(("source", "target", "pair_id"), link, strict=True)) for link in links]
    rows = [row(uid, **link) for uid, link in zip(UIDS, named, strict=False)]
    table = manifest.from_rows(rows)
    shuffled = manifest.from_rows(random.sample(rows, len(rows)))
    by_uid = shuffled.set_index("video_uid").loc[table["video_uid"], "group"]
    assert by_uid.tolist() == table["group"].tolist()
    assert manifest.digest(shuffled) == manifest.digest(table)


def test_joined_manifests_share_only_whom_they_share(table):
    crops = [row("crop/004", target="ffpp/004"), row("dfd/004", target="dfd/004")]
    joined = pd.concat([table, manifest.from_rows(crops)])
    groups = manifest.with_groups(joined).set_index("video_uid")["group"]
    assert groups["crop/004"] == groups["004"]
    assert groups["dfd/004"] == "dfd/004"


# -- files -------------------------------------------------------------------------------------


def test_what_is_written_is_read(table, tmp_path):
    manifest.write(table, tmp_path / "made/manifest.csv")
    pd.testing.assert_frame_equal(manifest.read(tmp_path / "made/manifest.csv"), table)
    assert os.listdir(tmp_path / "made") == ["manifest.csv"]


def test_a_folder_can_be_moved_with_its_manifest(tmp_path):
    here = tmp_path / "here"
    rows = [row("004", path=str(here / "real/zoë 1.mp4"), mask=str(tmp_path / "masks"))]
    manifest.write(manifest.from_rows(rows), here / "manifest.csv")
    text = (here / "manifest.csv").read_text(encoding="utf-8")
    assert "real/zoë 1.mp4" in text
    assert "../masks" in text
    assert str(tmp_path) not in text
    here.rename(tmp_path / "there")
    moved = manifest.read(tmp_path / "there/manifest.csv")
    assert moved.loc[0, "path"] == str(tmp_path / "there/real/zoë 1.mp4")
    assert moved.loc[0, "mask"] == str(tmp_path / "masks")
    assert manifest.digest(moved) == manifest.digest(manifest.from_rows(rows))


def test_a_manifest_from_a_spreadsheet_is_read(table, tmp_path):
    manifest.write(table, tmp_path / "manifest.csv")
    text = (tmp_path / "manifest.csv").read_bytes()
    (tmp_path / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(manifest.read(tmp_path / "manifest.csv"), table)


def test_names_that_look_like_numbers_or_nothing_stay_names(tmp_path):
    rows = [row("004", target="007"), row("1e3", target="NA"), row("null", target="nan")]
    manifest.write(manifest.from_rows(rows), tmp_path / "manifest.csv")
    again = manifest.read(tmp_path / "manifest.csv")
    assert again["video_uid"].tolist() == ["004", "1e3", "null"]
    assert again["target"].tolist() == ["007", "NA", "nan"]


def test_an_interrupted_write_leaves_the_old_manifest_and_no_litter(table, tmp_path, monkeypatch):
    path = tmp_path / "manifest.csv"
    manifest.write(table, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        manifest.write(table.iloc[:2], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["manifest.csv"]


def test_a_broken_manifest_is_not_written(table, tmp_path):
    with pytest.raises(BadManifest):
        manifest.write(table.assign(label=3), tmp_path / "manifest.csv")
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFile, match=r"nothing\.csv does not exist"):
        manifest.read(tmp_path / "nothing.csv")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'video_uid\n"open', b"a\n1,2\n3,4,5\n"])
def test_a_file_that_is_no_table_in_utf8_is_refused(tmp_path, content):
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(BadManifest, match=r"manifest\.csv"):
        manifest.read(path)


@pytest.mark.parametrize("number", ["9" * 20, "9" * 5000, "٣"])
@pytest.mark.parametrize("column", ["label", "frames"])
def test_a_number_that_no_computer_holds_is_a_bad_cell(table, tmp_path, column, number):
    manifest.write(table, tmp_path / "m.csv")
    cells = pd.read_csv(tmp_path / "m.csv", dtype=str, keep_default_na=False)
    cells.loc[1, column] = number
    cells.to_csv(tmp_path / "m.csv", index=False)
    with pytest.raises(BadManifest, match=f"column {column}, row 2"):
        manifest.read(tmp_path / "m.csv")


def test_a_path_that_is_no_utf8_is_refused_before_anything_is_written():
    with pytest.raises(BadManifest, match=r"column path: found '/a/\\udcff.mp4', expected text"):
        manifest.from_rows([row("982", path="/a/\udcff.mp4")])


def test_a_bad_cell_is_told_with_its_file(table, tmp_path):
    path = tmp_path / "manifest.csv"
    manifest.write(table, path)
    path.write_text(path.read_text().replace(",1,ffpp", ",yes,ffpp"))
    with pytest.raises(BadManifest, match=r"manifest\.csv: column label, row 3 .*found 'yes'"):
        manifest.read(path)
    manifest.write(table, path)
    path.write_text(path.read_text().replace("test,,ffpp/982", "train,,ffpp/982"))
    with pytest.raises(Leak, match=r"manifest\.csv: 1 of 2 groups"):
        manifest.read(path)


# -- summing up --------------------------------------------------------------------------------


def test_the_digest_knows_the_protocol_and_not_the_place(table):
    digest = manifest.digest(table)
    assert len(digest) == 12
    int(digest, 16)
    for column in ("path", "mask"):
        assert manifest.digest(table.assign(**{column: "elsewhere"})) == digest
    assert manifest.digest(table.assign(frames=7)) == digest
    for column in set(COLUMNS) - {"path", "mask", "frames", "label"}:
        assert manifest.digest(table.assign(**{column: "other"})) != digest, column
    assert manifest.digest(table.assign(label=1)) != digest
    assert manifest.digest(table.iloc[1:]) != digest


def test_videos_and_groups_are_counted_by_split_and_method(table):
    assert manifest.counts(table).to_dict("split")["data"] == [
        ["ffpp", "train", "original", 0, 1, 1],
        ["ffpp", "test", "FaceSwap", 1, 1, 1],
        ["ffpp", "test", "original", 0, 2, 1],
    ]
