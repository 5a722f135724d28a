"""Every data set in its true layout becomes a manifest; what is amiss becomes a row of problems."""

import json
import os
import re
import unicodedata
from functools import partial
from pathlib import Path

import layouts
import pandas as pd
import pytest

from seglib import datasets, manifest
from seglib.datasets import BadIndex, CompressionMissing, IndexMissing, LabelContradiction
from seglib.datasets.adapter import as_label
from seglib.datasets.ffpp import PROTOCOL
from seglib.errors import SeglibError, UnknownName
from seglib.manifest import Leak
from seglib.media import MissingFile

LAYOUTS = {name: getattr(layouts, name) for name in datasets.ADAPTERS}
LAYOUTS["ffpp"] = partial(layouts.ffpp, methods=PROTOCOL)


def rows(found):
    """The manifest by uid."""
    return found.table.set_index("video_uid")


def problems(found, kind):
    """path -> detail of the problems of a kind."""
    those = found.problems[found.problems["kind"] == kind]
    return dict(zip(those["path"], those["detail"], strict=True))


def difference(found):
    """(split, method) -> videos more or, mostly, fewer than officially."""
    return found.expected.set_index(["split", "method"])["difference"].to_dict()


# -- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_data_set_is_recognised_and_read_from_its_folder_or_the_one_above(tmp_path, name):
    root = LAYOUTS[name](tmp_path / "the data")
    assert datasets.find(root) == datasets.find(tmp_path) == {name: root}
    found = datasets.scan(tmp_path)
    assert list(found.problems["kind"].unique()) in ([], ["extra"])
    assert set(found.table["label"]) == {0, 1}
    assert found.table["path"].map(os.path.exists).all()
    assert found.table["path"].str.startswith(str(root)).all()
    assert manifest.digest(datasets.scan(root, name).table) == manifest.digest(found.table)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_digest_does_not_depend_on_where_the_data_lies(tmp_path, name):
    here, there = LAYOUTS[name](tmp_path / "here"), LAYOUTS[name](tmp_path / "or/there")
    assert manifest.digest(datasets.scan(here).table) == manifest.digest(datasets.scan(there).table)


def test_every_adapter_says_what_preflight_shows():
    assert list(datasets.ADAPTERS) == [
        "ffpp", "celebdf", "dfd", "dfdc", "deepfakebench", "table", "folder",
    ]  # fmt: skip
    for name, adapter in datasets.ADAPTERS.items():
        assert adapter.name == name
        assert adapter.title
        assert adapter.where
        assert adapter.page.startswith("https://") or name in ("table", "folder")


def test_two_data_sets_in_one_root_are_both_found(tmp_path):
    layouts.ffpp(tmp_path)
    layouts.dfd(tmp_path)
    assert datasets.find(tmp_path) == {"ffpp": tmp_path, "dfd": tmp_path}
    with pytest.raises(datasets.SeveralRecognised, match=r"holds 2 data sets \(ffpp, dfd\)"):
        datasets.scan(tmp_path)
    assert set(datasets.scan(tmp_path, "ffpp").table["dataset"]) == {"ffpp"}
    assert set(datasets.scan(tmp_path, "dfd").table["dataset"]) == {"dfd"}


def test_a_table_beside_known_data_sets_is_not_looked_for(tmp_path):
    for name in ("celebdf", "table", "folder"):
        LAYOUTS[name](tmp_path / name)
    assert datasets.find(tmp_path) == {"celebdf": tmp_path / "celebdf"}
    assert len(datasets.scan(tmp_path / "table").table) == 6


def test_joined_data_sets_are_still_a_manifest(tmp_path):
    tables = [datasets.scan(LAYOUTS[name](tmp_path / name)).table for name in ("ffpp", "celebdf")]
    joined = manifest.validate(manifest.with_groups(pd.concat(tables)))
    assert joined["group"].nunique() == sum(table["group"].nunique() for table in tables)


def test_an_unknown_data_set_is_met_with_a_suggestion(tmp_path):
    with pytest.raises(UnknownName, match="unknown data set 'celeb-df'; did you mean 'celebdf'"):
        datasets.scan(tmp_path, "celeb-df")


def test_an_unknown_option_is_met_with_a_suggestion(tmp_path):
    layouts.ffpp(tmp_path)
    with pytest.raises(UnknownName, match="option of ffpp 'compresion'; did you mean 'compression"):
        datasets.scan(tmp_path, compresion="c40")


def test_where_nothing_is_recognised_it_is_said_what_was_looked_for_and_what_lies_there(tmp_path):
    (tmp_path / "holiday").mkdir()
    with pytest.raises(datasets.NothingRecognised) as caught:
        datasets.scan(tmp_path)
    assert "There lies: holiday." in str(caught.value)
    assert all(f"{name}: {a.where}" in str(caught.value) for name, a in datasets.ADAPTERS.items())


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFile, match="nowhere does not exist"):
        datasets.find(tmp_path / "nowhere")


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "folder"])
def test_a_named_data_set_that_is_not_there_says_which_of_its_files_is_missing(tmp_path, name):
    with pytest.raises((IndexMissing, CompressionMissing)):
        datasets.scan(tmp_path, name)


def test_one_class_only_is_refused_with_its_counts_unless_it_is_asked_for(tmp_path):
    layouts.celebdf(tmp_path)
    for file in (tmp_path / "Celeb-synthesis").iterdir():
        file.unlink()
    with pytest.raises(datasets.MissingClass) as caught:
        datasets.scan(tmp_path)
    assert "has 10 real and 0 fake videos" in str(caught.value)
    assert "Celeb-synthesis none of its 8 videos is there" in str(caught.value)
    assert len(datasets.scan(tmp_path, classes=["real"]).table) == 10
    with pytest.raises(datasets.MissingClass):
        datasets.scan(tmp_path, classes=["fake"])
    with pytest.raises(UnknownName, match="unknown class 'reel'; did you mean 'real'"):
        datasets.scan(tmp_path, classes=["reel"])


def test_one_class_can_be_had_of_both(tmp_path):
    found = datasets.scan(layouts.celebdf(tmp_path), classes=["fake"])
    assert set(found.table["label"]) == {1}
    assert found.expected["method"].tolist() == ["Celeb-synthesis"]


# -- index against disk ------------------------------------------------------------------------


def test_names_are_found_however_the_system_or_the_index_spells_them(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "zoë é") for form in ("NFC", "NFD"))
    for part, (listed, stored) in enumerate([(composed, decomposed), (decomposed, composed)]):
        home = tmp_path / f"part_{part}"
        home.mkdir()
        (home / f"{stored} 1.MP4").touch()
        (home / f"{stored} 2.mp4").touch()
        entry = {"label": "REAL", "split": "test"}
        metadata = {f"{listed} 1.mp4": entry, f"{listed} 2.mp4": entry | {"label": "FAKE"}}
        layouts.index(home / "metadata.json", "\ufeff" + json.dumps(metadata))
    found = datasets.scan(tmp_path, "dfdc")
    assert len(found.table) == 4
    assert found.problems.empty
    assert found.table["path"].map(os.path.exists).all()


def test_a_folder_that_is_closed_is_passed_over(tmp_path, monkeypatch):
    layouts.dfd(tmp_path)
    (tmp_path / "lost+found").mkdir()
    opened = os.listdir  # tests may run as root, to whom nothing is closed

    def closed(folder):
        if folder.name == "lost+found":
            raise PermissionError(folder)
        return opened(folder)

    monkeypatch.setattr(os, "listdir", closed)
    assert list(datasets.find(tmp_path)) == ["dfd"]


def test_hidden_files_and_what_macos_leaves_are_passed_over(tmp_path):
    root = layouts.dfd(tmp_path)
    videos = root / "original_sequences/actors/c23/videos"
    (videos / "._01__hugging_happy.mp4").touch()
    (videos / ".DS_Store").touch()
    layouts.dfd(root / "__MACOSX")
    assert len(datasets.scan(root).table) == 16


def test_a_missing_video_is_a_row_and_a_missing_folder_one_row(tmp_path):
    root = layouts.ffpp(tmp_path)
    (root / "original_sequences/youtube/c23/videos/003.mp4").unlink()
    for file in (root / "manipulated_sequences/FaceSwap/c23/videos").iterdir():
        file.unlink()
    found = datasets.scan(root)
    home = "manipulated_sequences"
    assert problems(found, "missing") == {
        "original_sequences/youtube/c23/videos/003.mp4": "listed, but not there",
        f"{home}/FaceSwap/c23/videos": "none of its 18 videos is there, for instance "
        f"{home}/FaceSwap/c23/videos/000_001.mp4",
        f"{home}/Face2Face/c23/videos": "none of its 18 videos is there, for instance "
        f"{home}/Face2Face/c23/videos/000_001.mp4",
        f"{home}/NeuralTextures/c23/videos": "none of its 18 videos is there, for instance "
        f"{home}/NeuralTextures/c23/videos/000_001.mp4",
    }


def test_a_broken_link_is_missing_and_a_whole_one_is_not(tmp_path):
    root = layouts.celebdf(tmp_path / "data")
    for name in ("id0_0000", "id1_0000"):
        link = root / f"Celeb-real/{name}.mp4"
        elsewhere = tmp_path / f"{name}.mp4"
        link.rename(elsewhere)
        link.symlink_to(elsewhere)
    (tmp_path / "id1_0000.mp4").unlink()
    found = datasets.scan(root)
    assert list(problems(found, "missing")) == ["Celeb-real/id1_0000.mp4"]
    assert "celebdf/Celeb-real/id0_0000" in rows(found).index


def test_an_index_that_is_none_is_named(tmp_path):
    root = layouts.ffpp(tmp_path)
    file = root / "splits/train.json"
    for content, says in [
        (b"<html>", "is not JSON"),
        (b"{}", "holds a JSON dict, expected a list"),
        (b"[]", "is an empty list"),
        (b"\xff\xfe[", "is not text in UTF-8"),
    ]:
        file.write_bytes(content)
        with pytest.raises(BadIndex, match=f"train.json {says}"):
            datasets.scan(root)


@pytest.mark.parametrize("text", ["[" * 20_000, "[" + "9" * 5000 + "]"])
def test_json_that_python_will_not_read_is_no_index(tmp_path, text):
    layouts.ffpp(tmp_path)
    (tmp_path / "splits/val.json").write_text(text)
    with pytest.raises(BadIndex, match=r"val\.json is not JSON"):
        datasets.scan(tmp_path, "ffpp")


@pytest.mark.parametrize("name", ["celebdf", "deepfakebench", "dfdc"])
@pytest.mark.parametrize("put", [os.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_place_of_an_index_is_not_opened(tmp_path, name, put):
    root = getattr(layouts, name)(tmp_path)
    for index in (*root.glob("*.json"), *root.glob("*/metadata.json"), *root.glob("*.txt")):
        index.unlink()
        put(index)
    with pytest.raises((IndexMissing, BadIndex)):
        datasets.scan(root, name)


@pytest.mark.parametrize("name", ["dfd", "folder"])
def test_a_file_whose_name_is_no_utf8_is_passed_over(tmp_path, name):
    root = getattr(layouts, name)(tmp_path)
    first = next(path for path in sorted(root.rglob("*.mp4")))
    (first.parent / os.fsdecode(b"0\xff.mp4")).touch()
    found = datasets.scan(root, name)
    assert problems(found, "name not in UTF-8")
    assert len(found.table) == len(list(root.rglob("*.mp4"))) - 1
    manifest.write(found.table, tmp_path / "manifest.csv")
    found.problems.to_csv(tmp_path / "problems.csv")


def test_an_entry_with_half_a_character_is_passed_over(tmp_path):
    layouts.dfdc(tmp_path, parts=1)
    index = tmp_path / "dfdc_train_part_0/metadata.json"
    entry = {"label": "FAKE", "split": "train", "original": "\ud800.mp4"}
    index.write_text(json.dumps(json.loads(index.read_text()) | {"fake0.mp4": entry}))
    found = datasets.scan(tmp_path, "dfdc")
    assert len(found.table) == 5
    assert problems(found, "name not in UTF-8")


@pytest.mark.parametrize("text", ["\npath,label\n", "path,label\n" + "x" * 200_000 + ",real\n"])
def test_a_table_that_begins_with_nothing_or_has_an_endless_cell_is_refused(tmp_path, text):
    layouts.table(tmp_path)
    (tmp_path / "videos.csv").write_text(text)
    for name in ("table", None):
        with pytest.raises(SeglibError):
            datasets.scan(tmp_path, name)


def test_labels_are_read_as_people_write_them():
    for name in ("real", "REAL", "Bona Fide", "bona-fide", "originals", "0", 0):
        assert as_label(name) == 0
    for name in ("fake", "Fakes", "deepfakes", "1", 1):
        assert as_label(name) == 1
    for name in ("", "2", "reel", None, "Celeb-real"):
        assert as_label(name) is None


# -- FaceForensics++ ---------------------------------------------------------------------------


def test_ffpp_methods_share_stems_and_not_uids(tmp_path):
    found = rows(datasets.scan(layouts.ffpp(tmp_path)))
    fakes = [found.loc[f"ffpp/c23/{method}/002_003"] for method in ("Deepfakes", "FaceSwap")]
    for fake in fakes:
        assert (fake["target"], fake["source"]) == ("ffpp/002", "ffpp/003")
        assert fake["pair_id"] == "ffpp/c23/original/002"
        assert fake["label"] == 1
    assert fakes[0]["path"] != fakes[1]["path"]
    real = found.loc["ffpp/c23/original/002"]
    assert (real["target"], real["source"], real["method"]) == ("ffpp/002", "", "original")
    assert real["group"] == fakes[0]["group"] == fakes[1]["group"]


def test_ffpp_is_split_by_its_official_pairs(tmp_path):
    found = datasets.scan(layouts.ffpp(tmp_path, pairs=(5, 2, 3)))
    counts = manifest.counts(found.table).set_index(["split", "method"])
    for split, pairs in (("train", 5), ("val", 2), ("test", 3)):
        for method in ("original", "Deepfakes", "FaceSwap"):
            assert counts.loc[(split, method), "videos"] == 2 * pairs
            assert counts.loc[(split, method), "groups"] == pairs
    assert difference(found)["train", "Deepfakes"] == 10 - 720
    assert difference(found)["test", "Face2Face"] == -140


def test_ffpp_has_its_official_numbers():
    totals = {}
    for (_, method), number in datasets.ADAPTERS["ffpp"].expected.items():
        totals[method] = totals.get(method, 0) + number
    assert set(totals.values()) == {1000}


def test_ffpp_masks_are_found_where_they_are(tmp_path):
    found = rows(datasets.scan(layouts.ffpp(tmp_path, mask=layouts.touch)))
    fake = found.loc["ffpp/c23/FaceSwap/000_001"]
    masks = tmp_path / "manipulated_sequences/FaceSwap/masks/videos"
    assert fake["mask"] == str(masks / "000_001.mp4")
    assert set(found[found["label"] == 0]["mask"]) == {""}


def test_ffpp_another_compression_is_asked_for_by_name(tmp_path):
    layouts.ffpp(tmp_path)
    layouts.ffpp(tmp_path, compression="c40", mask=layouts.touch)
    found = datasets.scan(tmp_path, compression="c40")
    assert set(found.table["compression"]) == {"c40"}
    assert found.table["video_uid"].str.startswith("ffpp/c40/").all()
    with pytest.raises(CompressionMissing, match=r"compression 'raw'; there are: c23, c40\."):
        datasets.scan(tmp_path, compression="raw")


def test_ffpp_methods_outside_the_protocol_are_asked_for_by_name(tmp_path):
    layouts.ffpp(tmp_path, methods=("Deepfakes", "FaceShifter"))
    assert set(datasets.scan(tmp_path).table["method"]) == {"original", "Deepfakes"}
    found = datasets.scan(tmp_path, methods=["FaceShifter"])
    assert set(found.table["method"]) == {"original", "FaceShifter"}
    assert set(found.expected["method"]) == {"original", "FaceShifter"}
    assert found.problems.empty
    with pytest.raises(UnknownName, match="'FaceShift'; did you mean 'FaceShifter'"):
        datasets.scan(tmp_path, methods=["FaceShift"])
    with pytest.raises(UnknownName, match="DeepFakeDetection is the data set 'dfd'"):
        datasets.scan(tmp_path, methods=["DeepFakeDetection"])


@pytest.mark.parametrize("folder", [".", "dataset/splits", "../splits"])
def test_ffpp_split_files_are_found_where_people_put_them(tmp_path, folder):
    root = layouts.ffpp(tmp_path / "data")
    wanted = root / folder
    wanted.mkdir(parents=True, exist_ok=True)
    for file in (root / "splits").iterdir():
        file.rename(wanted / file.name)
    options = {"splits": wanted} if folder == "../splits" else {}
    assert len(datasets.scan(root, **options).table) == 54


def test_ffpp_without_its_split_files_is_told_where_to_get_them(tmp_path):
    root = layouts.ffpp(tmp_path)
    (root / "splits/val.json").unlink()
    with pytest.raises(IndexMissing) as caught:
        datasets.scan(root)
    assert "dataset/splits of https://github.com/ondyari/FaceForensics" in str(caught.value)


def test_ffpp_unreadable_pairs_are_rows_and_unlisted_videos_one(tmp_path):
    root = layouts.ffpp(tmp_path)
    pairs = json.loads((root / "splits/train.json").read_text())
    pairs[:2] = [[1, 2], ["002"]]
    layouts.index(root / "splits/train.json", "\ufeff" + json.dumps(pairs).replace(",", ",\r\n"))
    found = datasets.scan(root)
    bad = found.problems[found.problems["kind"] == "unreadable index line"]
    assert bad["detail"].tolist() == [
        "entry 1 is [1, 2], expected two stems",
        "entry 2 is ['002'], expected two stems",
    ]
    extra = problems(found, "extra")["original_sequences/youtube/c23/videos"]
    assert extra == "4 not in the index, left out: 000.mp4, 001.mp4, 002.mp4, ..."


def test_ffpp_person_in_two_split_files_is_a_leak(tmp_path):
    root = layouts.ffpp(tmp_path)
    layouts.index(root / "splits/val.json", '[["000", "011"]]')
    with pytest.raises(Leak, match=r"youtube/c23/videos/000\.mp4 in train and in val"):
        datasets.scan(root)


# -- Celeb-DF v2 -------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n"])
def test_celebdf_is_its_official_list(tmp_path, newline):
    found = datasets.scan(layouts.celebdf(tmp_path, newline=newline))
    assert found.table["label"].value_counts().to_dict() == {0: 10, 1: 8}
    assert set(found.table["split"]) == {"test"}
    assert difference(found) == {("test", "original"): -168, ("test", "Celeb-synthesis"): -332}
    assert problems(found, "extra").keys() == {"Celeb-real", "Celeb-synthesis"}
    assert sum(datasets.ADAPTERS["celebdf"].expected.values()) == 518


def test_celebdf_people_are_in_its_names_but_for_youtube(tmp_path):
    found = rows(datasets.scan(layouts.celebdf(tmp_path)))
    fake = found.loc["celebdf/Celeb-synthesis/id0_id1_0001"]
    assert (fake["target"], fake["source"]) == ("celebdf/id0", "celebdf/id1")
    assert fake["pair_id"] == "celebdf/Celeb-real/id0_0001"
    assert found.loc["celebdf/Celeb-real/id0_0001", "target"] == "celebdf/id0"
    stranger = found.loc["celebdf/YouTube-real/00001"]
    assert stranger["target"] == ""
    assert stranger["group"] == "celebdf/YouTube-real/00001"
    assert found["group"].nunique() == 3


def test_celebdf_list_with_its_code_turned_round_is_refused(tmp_path):
    root = layouts.celebdf(tmp_path)
    file = root / "List_of_testing_videos.txt"
    turned = {"0": "1", "1": "0"}
    layouts.index(file, re.sub("^[01]", lambda m: turned[m[0]], file.read_text(), flags=re.M))
    with pytest.raises(LabelContradiction) as caught:
        datasets.scan(root)
    assert "line 1: '0 YouTube-real/00000.mp4' calls a video of YouTube-real fake" in str(
        caught.value
    )


def test_celebdf_unreadable_lines_are_rows(tmp_path):
    root = layouts.celebdf(tmp_path)
    file = root / "List_of_testing_videos.txt"
    repeated = "1 Celeb-real\\id0_0000.mp4\n"
    layouts.index(file, "\ufeff" + repeated + "2 x.mp4\nlabel path\n\n" + file.read_text())
    found = datasets.scan(root)
    bad = found.problems[found.problems["kind"] == "unreadable index line"]
    assert bad["detail"].str.slice(0, 6).tolist() == ["line 2", "line 3"]
    assert problems(found, "listed twice") == {"Celeb-real/id0_0000.mp4": "read once"}
    layouts.index(file, "nothing of use\n")
    with pytest.raises(BadIndex, match="has no line such as"):
        datasets.scan(root)


def test_celebdf_crops_are_not_taken_for_its_videos(tmp_path):
    frame = tmp_path / "Celeb-real/frames/id0_0000/000.png"
    frame.parent.mkdir(parents=True)
    frame.touch()
    layouts.index(tmp_path / "List_of_testing_videos.txt", "1 Celeb-real/id0_0000.mp4\n")
    assert datasets.find(tmp_path) == {}


# -- DFD ---------------------------------------------------------------------------------------


def test_dfd_fakes_are_paired_with_the_target_in_the_same_scene(tmp_path):
    found = datasets.scan(layouts.dfd(tmp_path, mask=layouts.touch))
    assert set(found.table["split"]) == {"test"}
    fake = rows(found).loc["dfd/c23/DeepFakeDetection/01_02__talking_against_wall__YVGY8LOK"]
    assert (fake["target"], fake["source"]) == ("dfd/01", "dfd/02")
    assert fake["pair_id"] == "dfd/c23/original/01__talking_against_wall"
    assert rows(found).loc[fake["pair_id"], "label"] == 0
    assert Path(fake["mask"]).parts[-3:-1] == ("masks", "videos")
    assert difference(found) == {("test", "original"): -355, ("test", "DeepFakeDetection"): -3060}


def test_dfd_video_of_another_name_stays_in_and_is_reported(tmp_path):
    root = layouts.dfd(tmp_path)
    videos = "original_sequences/actors/c23/videos"
    (root / videos / "Park.mp4").touch()
    (root / videos / "preview.jpg").touch()
    found = datasets.scan(root)
    assert list(problems(found, "unknown name")) == [f"{videos}/Park.mp4"]
    assert rows(found).loc["dfd/c23/original/Park", "group"] == "dfd/c23/original/Park"


def test_dfd_another_compression_is_told(tmp_path):
    with pytest.raises(CompressionMissing, match=r"compression 'c40'; there are: c23\."):
        datasets.scan(layouts.dfd(tmp_path, mask=layouts.touch), compression="c40")


# -- DFDC --------------------------------------------------------------------------------------


def test_dfdc_parts_share_clip_names_and_not_uids(tmp_path):
    found = rows(datasets.scan(layouts.dfdc(tmp_path)))
    assert len(found) == 12
    fake = found.loc["dfdc/dfdc_train_part_1/fake0"]
    assert fake["pair_id"] == "dfdc/dfdc_train_part_1/real0"
    assert fake["group"] == found.loc[fake["pair_id"], "group"]
    assert found["group"].nunique() == 6


def test_dfdc_part_alone_has_the_uids_that_it_has_among_others(tmp_path):
    root = layouts.dfdc(tmp_path)
    whole = set(datasets.scan(root).table["video_uid"])
    assert set(datasets.scan(root / "dfdc_train_part_0").table["video_uid"]) < whole
    assert (
        set(datasets.scan(layouts.dfdc(tmp_path / "in/train").parent).table["video_uid"]) == whole
    )


def test_dfdc_training_and_test_parts_are_one_data_set(tmp_path):
    layouts.dfdc(tmp_path / "train")
    layouts.dfdc(tmp_path / "t", parts=1)
    (tmp_path / "t/dfdc_train_part_0").rename(tmp_path / "test")
    assert datasets.find(tmp_path) == {"dfdc": tmp_path}
    assert len(datasets.scan(tmp_path).table) == 18


def test_dfdc_metadata_of_something_else_is_not_taken_for_it(tmp_path):
    layouts.index(tmp_path / "metadata.json", '{"title": {"label": "holiday"}}')
    assert datasets.find(tmp_path) == {}


def test_dfdc_entries_that_say_too_little_are_rows(tmp_path):
    entries = {"a.mp4": {"label": "REAL", "split": "validation"}}
    entries |= {"b.mp4": {"label": "FAKE", "split": "validation", "original": None}}
    entries |= {"c.mp4": {"split": "test"}, "d.mp4": {"label": "REAL"}, "e.mp4": "REAL"}
    for name in entries:
        (tmp_path / name).touch()
    layouts.index(tmp_path / "metadata.json", json.dumps(entries))
    found = datasets.scan(tmp_path)
    assert found.table["split"].tolist() == ["val", "val"]
    assert found.table["pair_id"].tolist() == ["", ""]
    bad = found.problems[found.problems["kind"] == "unreadable index line"]
    assert bad["detail"].str.slice(0, 5).tolist() == ["c.mp4", "d.mp4", "e.mp4"]
    assert list(problems(found, "extra")) == ["."]


# -- DeepfakeBench -----------------------------------------------------------------------------


@pytest.mark.parametrize("slash", ["/", "\\"])
def test_deepfakebench_rows_are_folders_of_frames_with_the_people_of_the_original(tmp_path, slash):
    found = datasets.scan(layouts.deepfakebench(tmp_path, slash=slash))
    assert found.problems.empty
    assert set(found.table["frames"]) == {3}
    fake = rows(found).loc["deepfakebench/ffpp/c23/Deepfakes/002_003"]
    assert (fake["dataset"], fake["target"], fake["source"]) == ("ffpp", "ffpp/002", "ffpp/003")
    assert (fake["split"], fake["compression"]) == ("val", "c23")
    assert fake["pair_id"] in rows(found).index
    assert os.path.isdir(fake["path"])
    fake = rows(found).loc[
        f"deepfakebench/dfd/DeepFakeDetection/01_02__{layouts.SCENES[0]}__YVGY8LOK"
    ]
    assert fake["pair_id"] in rows(found).index


def test_deepfakebench_targets_are_test_data_and_taken_as_listed_a_leak(tmp_path):
    layouts.deepfakebench(tmp_path)
    table = datasets.scan(tmp_path).table
    assert set(table[table["dataset"] == "dfd"]["split"]) == {"test"}
    assert set(table[table["dataset"] == "ffpp"]["split"]) == {"train", "val", "test"}
    with pytest.raises(Leak, match="shared people: dfd/01, dfd/02, dfd/03"):
        datasets.scan(tmp_path, splits="listed")
    with pytest.raises(UnknownName, match="'lists'; did you mean 'listed'"):
        datasets.scan(tmp_path, splits="lists")


def test_deepfakebench_video_in_all_lists_is_one_row(tmp_path):
    root = layouts.deepfakebench(tmp_path)
    listed = json.loads((root / "DFD.json").read_text())
    for lists in listed["DFD"].values():
        together = lists["train"] | lists["val"] | lists["test"]
        lists.update(train=together, val=together, test=together)
    layouts.index(root / "DFD.json", json.dumps(listed))
    found = datasets.scan(root)
    assert (found.table["dataset"] == "dfd").sum() == 6
    assert found.problems.empty
    with pytest.raises(Leak, match="in train and in val"):
        datasets.scan(root, splits="listed")


def test_deepfakebench_celebdf_is_its_test_list_only(tmp_path):
    def video(name):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000.png").touch()
        return {name: {"label": f"CelebDFv2_{name[:4]}", "frames": [f"{name}/000.png"]}}

    lists = {"train": video("real_1") | video("real_2"), "val": {}, "test": video("fake_3")}
    fakes = {"train": {}, "val": {}, "test": lists["test"]}
    reals = lists | {"test": {"real_2": lists["train"]["real_2"]}}
    index = {"Celeb-DF-v2": {"CelebDFv2_real": reals, "CelebDFv2_fake": fakes}}
    layouts.index(tmp_path / "Celeb-DF-v2.json", json.dumps(index))
    table = datasets.scan(tmp_path).table
    assert table["path"].map(os.path.basename).tolist() == ["real_2", "fake_3"]


def test_deepfakebench_missing_frames_are_a_row_a_video(tmp_path):
    root = layouts.deepfakebench(tmp_path)
    real = root / "DeepFakeDetection/original/c23/frames" / f"01__{layouts.SCENES[0]}"
    (real / "002.png").unlink()
    for frame in real.with_name(f"02__{layouts.SCENES[0]}").iterdir():
        frame.unlink()
    real.with_name(f"02__{layouts.SCENES[0]}").rmdir()
    found = datasets.scan(root)
    path = f"DeepFakeDetection/original/c23/frames/01__{layouts.SCENES[0]}"
    assert problems(found, "missing frames") == {path: "2 of 3 are there"}
    assert list(problems(found, "missing")) == [path.replace("01__", "02__")]


def test_deepfakebench_folder_that_is_not_there_is_one_row(tmp_path):
    root = layouts.deepfakebench(tmp_path)
    (root / "DeepFakeDetection").rename(root / "DFD")
    found = datasets.scan(root)
    home = "DeepFakeDetection/{}/c23/frames"
    assert problems(found, "missing").keys() == {
        home.format("original"),
        home.format("manipulated"),
    }


def test_deepfakebench_own_folders_are_looked_into(tmp_path):
    layouts.deepfakebench(tmp_path / "datasets/rgb")
    for file in (tmp_path / "datasets/rgb").glob("*.json"):
        layouts.index(tmp_path / "preprocessing/dataset_json" / file.name, file.read_text())
        file.unlink()
    assert datasets.scan(tmp_path).problems.empty


def test_deepfakebench_entries_that_contradict_or_say_nothing(tmp_path):
    root = layouts.deepfakebench(tmp_path)
    listed = json.loads((root / "DFD.json").read_text())
    listed["DFD"]["DFD_fake"]["test"] |= {"label": "DFD_fake", "none": {"label": "x", "frames": []}}
    listed["DFD"]["Other"] = {"test": {"a": {"label": "Other", "frames": ["a/0.png"]}}}
    layouts.index(root / "DFD.json", json.dumps(listed))
    bad = datasets.scan(root).problems
    assert bad["kind"].tolist() == ["unreadable index line"] * 3
    assert [d.split(":")[0] for d in bad["detail"]] == [
        "DFD/DFD_fake/test/label", "DFD/DFD_fake/test/none", "DFD/Other/test/a",
    ]  # fmt: skip
    listed["DFD"]["DFD_real"]["test"][f"03__{layouts.SCENES[0]}"]["label"] = "DFD_fake"
    layouts.index(root / "DFD.json", json.dumps(listed))
    with pytest.raises(LabelContradiction, match="labelled 'DFD_fake', but listed as 'DFD_real'"):
        datasets.scan(root)


def test_deepfakebench_another_compression_is_told(tmp_path):
    layouts.deepfakebench(tmp_path)
    for compression in ("c23", "c40"):
        found = datasets.scan(tmp_path, compression=compression)
        assert set(found.table["compression"]) == {"", compression}
    with pytest.raises(CompressionMissing, match=r"compression 'raw'; there are: c23, c40\."):
        datasets.scan(tmp_path, compression="raw")


# -- a table -----------------------------------------------------------------------------------


def save(folder, text):
    """A CSV and the files a, b, c and d that it names."""
    for name in "abcd":
        (folder / f"{name}.png").touch()
    layouts.index(folder / "mine.csv", text)
    return folder / "mine.csv"


def test_a_group_in_a_table_links_its_rows(tmp_path):
    found = datasets.scan(layouts.table(tmp_path))
    assert found.table["group"].nunique() == 3
    assert found.table["target"].tolist()[::2] == ["table/000", "table/001", "table/002"]
    assert set(found.table["split"]) == {"test"}


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,real\nb.png,fake\n",
        "\ufefffile;class\r\na.png;Bona Fide\r\n\r\nb.png;FAKE\r\n",
        "width\tfilename\ttarget\n7\ta.png\t0\n8\tb.png\t1\n",
        'Video , Label\n"a.png", real\n./b.png,fakes\n',
    ],
)
def test_a_table_is_read_as_people_save_it(tmp_path, text):
    found = datasets.scan(save(tmp_path, text))
    assert found.table["label"].tolist() == [0, 1]
    assert found.table["method"].tolist() == ["original", "fake"]
    assert found.table["frames"].tolist() == [1, 1]
    assert found.table["target"].tolist() == ["", ""]


def test_a_table_may_say_all_that_a_manifest_does(tmp_path):
    names = ["video_uid", "path", "label", "dataset", "method", "compression", "split"]
    names += ["source", "target", "pair_id", "mask"]
    real = "r,a.png,real,wild,,,train,,007,,\n"
    fake = "f,b.png,fake,wild,swap,c40,Train,wild/008,007,r,c.png\n"
    other = "v,c.png,0,,,,validation,,,,\n"
    found = datasets.scan(save(tmp_path, ",".join(names) + "\n" + real + fake + other))
    row = rows(found).loc["f"]
    assert row[names[3:-1]].tolist() == [
        "wild", "swap", "c40", "train", "wild/008", "wild/007", "r",
    ]  # fmt: skip
    assert row["mask"] == str(tmp_path / "c.png")
    assert rows(found).loc["v", ["split", "dataset"]].tolist() == ["val", "table"]


def test_a_pair_in_a_table_of_paths_is_a_path(tmp_path):
    found = datasets.scan(save(tmp_path, "path,label,pair_id\na.png,real,\nb.png,fake,a.png\n"))
    assert found.table["pair_id"].tolist() == ["", "table/a.png"]
    assert found.table["group"].nunique() == 1


def test_a_table_of_paths_elsewhere_is_read(tmp_path):
    home = tmp_path / "lists"
    home.mkdir()
    save(tmp_path, "")
    layouts.index(home / "mine.csv", f"path,label\n{tmp_path}/a.png,real\n../b.png,fake\n")
    found = datasets.scan(home / "mine.csv")
    assert found.table["path"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


def test_rows_that_cannot_be_read_are_problems(tmp_path):
    text = "path,label,split\na.png,real,\nb.png,fake,\nc.png,unsure,\n,real,\nd.png\nx.png,real,\n"
    found = datasets.scan(save(tmp_path, text + "d.png,real,someday\na.png,real,\n"))
    assert found.table["label"].tolist() == [0, 1]
    bad = found.problems[found.problems["kind"] == "unreadable index line"]
    assert bad["detail"].str.slice(0, 5).tolist() == ["row 3", "row 4", "row 5", "row 7"]
    assert list(problems(found, "missing")) == ["x.png"]
    assert list(problems(found, "listed twice")) == ["a.png"]


def test_a_file_that_is_real_and_fake_is_refused(tmp_path):
    with pytest.raises(LabelContradiction, match=r"lists a\.png as real and as fake"):
        datasets.scan(save(tmp_path, "path,label\na.png,real\na.png,fake\n"))


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("path,lable\na.png,real\n", UnknownName, "'lable'; did you mean 'label'"),
        ("pathh,label\na.png,real\n", UnknownName, "'pathh'; did you mean 'path'"),
        ("path,label,groups\na.png,real,1\n", UnknownName, "'groups'; did you mean 'group'"),
        ("where,label\na.png,real\n", BadIndex, "no column of a path: found where, label"),
        ("path,verdict\na.png,real\n", BadIndex, "no column of a label"),
        ("\n\n", BadIndex, "is empty"),
    ],
)
def test_a_table_without_its_columns_is_told_which(tmp_path, text, error, says):
    with pytest.raises(error, match=says):
        datasets.scan(save(tmp_path, text))


def test_of_several_tables_one_is_to_be_named(tmp_path):
    save(tmp_path, "path,label\na.png,real\nb.png,fake\n")
    layouts.index(tmp_path / "notes.csv", "day,weather\n")
    assert len(datasets.scan(tmp_path).table) == 2
    layouts.index(tmp_path / "other.csv", "path,label\na.png,real\nc.png,fake\n")
    with pytest.raises(IndexMissing, match="2 of its CSV files"):
        datasets.scan(tmp_path, "table")


def test_a_manifest_beside_the_data_is_not_taken_for_a_table(tmp_path):
    found = datasets.scan(layouts.folder(tmp_path))
    manifest.write(found.table, tmp_path / "manifest.csv")
    assert datasets.find(tmp_path) == {"folder": tmp_path}
    again = datasets.scan(tmp_path / "manifest.csv", "table")
    assert rows(again)["group"].to_dict() == rows(found)["group"].to_dict()


def test_a_split_that_is_none_is_met_with_a_suggestion(tmp_path):
    for name in ("table", "folder"):
        root = LAYOUTS[name](tmp_path / name)
        assert set(datasets.scan(root, split="train").table["split"]) == {"train"}
        with pytest.raises(UnknownName, match="unknown split 'tests'; did you mean 'test'"):
            datasets.scan(root, split="tests")


# -- a folder ----------------------------------------------------------------------------------


def test_a_folder_is_read_to_any_depth_and_by_suffix(tmp_path):
    for name in ("real/a.JPG", "Real/no.txt", "real/deep er/zoë.Mp4", "fake/x/y/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("real/.a.jpg", "real/__MACOSX/a.jpg", "elsewhere/a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "fake/x/y/circle").symlink_to(tmp_path / "fake/x")
    (tmp_path / "fake/linked.png").symlink_to(tmp_path / "elsewhere/a.jpg")
    found = datasets.scan(tmp_path)
    assert sorted(found.table["video_uid"]) == [
        "folder/fake/linked.png", "folder/fake/x/y/a.jpg",
        "folder/real/a.jpg", "folder/real/deep er/zoë.mp4",
    ]  # fmt: skip
    assert found.table["group"].nunique() == 4
    assert found.problems.empty


@pytest.mark.parametrize(("real", "fake"), [("Original", "DeepFakes"), ("bona fide", "forged")])
def test_a_folder_may_call_its_classes_as_is_usual(tmp_path, real, fake):
    layouts.folder(tmp_path)
    (tmp_path / "real").rename(tmp_path / real)
    (tmp_path / "fake").rename(tmp_path / fake)
    found = datasets.scan(tmp_path)
    assert set(found.table["method"]) == {"original", fake}


def test_a_folder_whose_classes_are_misspelt_is_met_with_a_suggestion(tmp_path):
    layouts.folder(tmp_path)
    (tmp_path / "fake").rename(tmp_path / "fakke")
    with pytest.raises(UnknownName, match="'fakke'; did you mean 'fake'"):
        datasets.scan(tmp_path)
    (tmp_path / "fakke").rename(tmp_path / "2")
    with pytest.raises(datasets.MissingClass, match="3 real and 0 fake"):
        datasets.scan(tmp_path)
    (tmp_path / "real").rename(tmp_path / "1st")
    with pytest.raises(IndexMissing, match=r"its folders are: 1st, 2\. Expected two"):
        datasets.scan(tmp_path, "folder")


def test_dfdcs_released_test_set_says_is_fake_and_no_split(tmp_path):
    names = {"a.mp4": 0, "b.mp4": 1, "c.mp4": 1}
    for name in names:
        (tmp_path / name).touch()
    index = {name: {"is_fake": fake, "video_id": name} for name, fake in names.items()}
    (tmp_path / "metadata.json").write_text(json.dumps(index))
    assert datasets.find(tmp_path) == {"dfdc": tmp_path}
    table = datasets.scan(tmp_path, "dfdc").table
    assert table.label.tolist() == [0, 1, 1]
    assert set(table.split) == {"test"}
