"""Shortcuts: planted ones are found in real files, and where there is none nothing is claimed."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seglib import (
    assets,
    cli,
    clips,
    demo,
    faces,
    manifest,
    media,
    panel,
    report,
    scoring,
    shortcuts,
    video,
)
from seglib.items import OneClass
from seglib.media import MissingFile, UnreadableImage
from seglib.shortcuts import CATEGORIES, CHANNELS, NoChannel
from seglib.store import NotExtracted, Store
from seglib.video import UnreadableVideo
from tests import test_evaluation
from tests.test_evaluation import NETWORKS, RECIPE

filled = test_evaluation.filled  # its fixture
QUALITIES = range(1, 101)


def forged(dataset, blend, each=1):
    """Bona fide pictures of everybody, so many each, and beside each its forged mouth."""
    pictures = pd.DataFrame(assets.pictures(dataset)).groupby("person", sort=False).head(each)
    with pytest.MonkeyPatch.context() as patch:
        few = [one for one in assets.pictures(dataset) if one.path in set(pictures.path)]
        patch.setattr(assets, "pictures", lambda _: few)
        fakes = demo.forge(dataset, "mouth", blend, faces.load("mesh"))
        return [
            (row, media.read_image(row.path), fake.image)
            for row, fake in zip(demo.people(dataset).itertuples(), fakes, strict=True)
        ]


@pytest.fixture(scope="module")
def orl():
    return forged("orl", "poisson")


@pytest.fixture(scope="module")
def csu():
    return forged("csu", "feathered")


def saved(pairs, folder, suffix=".jpg", real=None, fake=None):
    """A manifest of these pictures, each class saved with options of its own."""
    rows = []
    for number, (row, *images) in enumerate(pairs):
        for label, (image, options) in enumerate(zip(images, (real, fake), strict=True)):
            path = folder / f"{number}-{label}{suffix}"
            Image.fromarray(image).save(path, **(options or {}))
            rows.append(a_row(path, label, row.person, row.partner))
    return manifest.from_rows(rows)


def a_row(path, label, target, source):
    people = {"target": str(target), "source": str(source) if label else ""}
    named = {"video_uid": path.stem, "path": str(path), "label": label, "method": "m" * label}
    return people | named | {"dataset": "d", "split": "train"}


# -- planted ones are found -------------------------------------------------------------------


def test_another_jpeg_quality_of_fakes_is_found(orl, tmp_path):
    found = shortcuts.hunt(saved(orl, tmp_path, real={"quality": 95}, fake={"quality": 75}))
    assert found[found.suspicious].index.tolist() == ["file size", "JPEG quality", "JPEG tables"]
    assert found.auc["JPEG tables"] > 0.95  # a share of fakes: more is more fake
    assert found.auc["JPEG quality"] < 0.05  # as it is: the fakes' is the lower
    assert found.auc["file size"] < 0.05
    assert found.apart[["file size", "JPEG quality", "JPEG tables"]].min() > 0.45
    assert found.loc["JPEG quality", ["bona_fide", "fake"]].tolist() == [95, 75]
    said = shortcuts.warning(found)
    assert "JPEG quality alone: SUSPICIOUS, AUC 0.000 [0.000, 0.000] on 100% of the videos" in said
    assert said.endswith(shortcuts.ADVICE)


def test_two_steps_of_jpeg_quality_are_enough(orl, tmp_path):
    found = shortcuts.hunt(saved(orl, tmp_path, real={"quality": 90}, fake={"quality": 88}))
    assert found.auc["JPEG tables"] > 0.95


def test_another_h264_quality_of_fakes_is_found(orl, tmp_path):
    found = {}
    for crf in (23, 28):
        rows = []
        for number, (row, *images) in enumerate(orl[:16]):
            for label, image in enumerate(images):
                path = tmp_path / f"{crf}-{number}-{label}.mp4"
                video.write(path, clips.filmed(image, 8, number), crf=crf if label else 23)
                rows.append(a_row(path, label, row.person, row.partner))
        found[crf] = shortcuts.hunt(manifest.from_rows(rows))
    assert found[28].suspicious[["bit rate", "file size"]].all()
    assert found[28].auc[["bit rate", "file size"]].max() < 0.05
    assert not found[23].suspicious.any()
    assert {"codec", "container", "duration", "frame rate", "frames"} <= set(
        found[23].index[found[23].auc == 0.5]
    )


def test_png_against_jpeg_is_a_codec_and_no_picture_has_tables_of_both_classes(orl, tmp_path):
    reals = saved(orl[:20], tmp_path, ".png")
    fakes = saved(orl[:20], tmp_path, ".jpg")
    found = shortcuts.hunt(
        manifest.from_rows(pd.concat([reals.query("label == 0"), fakes.query("label == 1")])
                           .to_dict("records"))
    )  # fmt: skip
    assert found.auc["codec"] == 1
    assert np.isnan(found.auc["JPEG quality"])
    assert found.coverage["JPEG quality"] == 0.5
    assert found.note["JPEG quality"] == "20 without, say: PNG (picture) has no JPEG quality"
    assert shortcuts.told(found.loc["JPEG tables"]).startswith("not measured")


def test_a_larger_face_is_known_from_the_ledger(filled):
    store, table = filled
    found = shortcuts.channels(table, store)
    assert set(found["face size"]) == {1.0}
    assert isinstance(found["file size"][0], MissingFile)
    empty = Store(store.folder / "another", RECIPE, NETWORKS)
    assert isinstance(shortcuts.channels(table, empty)["face size"][0], NotExtracted)
    assert isinstance(shortcuts.channels(table)["face size"][0], NoChannel)


def test_face_sizes_are_the_medians_of_frames_with_a_face(monkeypatch, tmp_path):
    ledger = pd.DataFrame({"video_uid": list("aaab"), "x0": 0.0, "y0": 0.0, "y1": 4.0,
                           "x1": [1.0, 9.0, np.nan, np.nan]})  # fmt: skip
    monkeypatch.setattr(Store, "ledger", lambda self, uids: ledger)
    rows = [{"video_uid": one, "path": one, "dataset": "d", "split": "train", "label": n}
            for n, one in enumerate("ab")]  # fmt: skip
    one, none = shortcuts.channels(manifest.from_rows(rows), Store(tmp_path, RECIPE, NETWORKS))[
        "face size"
    ]
    assert one == 4  # of 2 and 6
    assert str(none) == "no face was found"


# -- where there is none, none is claimed -------------------------------------------------------


@pytest.mark.parametrize("dataset", ["orl", "csu"])
@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".jpg", {"quality": 90})])
def test_the_clean_demo_has_none(dataset, suffix, options, tmp_path, request):
    pairs = request.getfixturevalue(dataset)
    check_clean(shortcuts.hunt(saved(pairs, tmp_path, suffix, options, options)))


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "blend"), [("orl", "poisson"), ("csu", "feathered")])
def test_the_clean_demo_has_none_in_all_of_its_pictures(dataset, blend, tmp_path):
    pairs = forged(dataset, blend, each=100)
    for suffix, options in ((".png", {}), (".jpg", {"quality": 90})):
        check_clean(shortcuts.hunt(saved(pairs, tmp_path, suffix, options, options)))


def check_clean(found):
    assert not found.suspicious.any()
    assert found.apart.max() < 0.1
    asked = {"file size", "pixels", "frames", "brightness", "resolution", "codec", "pixel format"}
    assert asked <= set(found.index[found.auc.notna()])
    assert (found.auc[["pixels", "frames", "resolution", "codec", "pixel format"]] == 0.5).all()
    assert "side channels tells the fakes by itself" in shortcuts.warning(found)


def made_up(seed, groups, each, values, whole=False):
    """Labels by a coin, an item each or a whole group each, and values that know nothing of them.

    In the first two groups there are both classes.
    """
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), each)
    labels = rng.integers(0, 2, groups)[group] if whole else rng.integers(0, 2, len(group))
    labels[: 2 * each] = np.tile([0, 1], each)
    rows = [
        {"video_uid": f"{n}", "path": f"{n}", "dataset": "d", "split": "train", "label": label,
         "target": f"{of}"}
        for n, (label, of) in enumerate(zip(labels, group, strict=True))
    ]  # fmt: skip
    return manifest.from_rows(rows), rng.integers(0, values, len(group))


def measured(table, values, name):
    values = values.astype(str) if name in CATEGORIES else values.astype(float)
    cells = pd.DataFrame({name: pd.Series(values, dtype=object)})
    return shortcuts.measure(table, cells).loc[name]


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(2, 5), st.booleans())
def test_a_constant_channel_is_exactly_at_one_half(seed, groups, each, whole):
    table, values = made_up(seed, groups, each, 1, whole)
    for name in ("file size", "codec"):
        found = measured(table, values, name)
        assert (found.auc, found.apart, found.suspicious) == (0.5, 0, False)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(2, 5), st.booleans())
def test_a_category_that_nobody_shares_says_nothing(seed, groups, each, whole):
    """In sample its AUC would be 1."""
    table, _ = made_up(seed, groups, each, 1, whole)
    assert measured(table, np.arange(len(table)), "codec").auc == 0.5
    assert measured(table, table.group.to_numpy(), "codec").auc == 0.5


@pytest.mark.parametrize(("name", "values"), [("file size", 100), ("codec", 2), ("codec", 6)])
@pytest.mark.parametrize("whole", [False, True])
def test_labels_dealt_anew_leave_one_half(name, values, whole):
    """On average neither above nor below; leaving out one group at a time would give 0.33."""
    found = [measured(*made_up(seed, 20, 4, values, whole), name) for seed in range(30)]
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([one.suspicious for one in found]) <= 0.1


def test_labels_dealt_anew_within_groups_hide_a_planted_quality(orl, tmp_path):
    table = saved(orl, tmp_path, real={"quality": 95}, fake={"quality": 75})
    cells = shortcuts.channels(table)
    rng, found = np.random.default_rng(0), []
    for _ in range(15):
        dealt = table.groupby("group").label.transform(rng.permutation)
        found.append(shortcuts.measure(table.assign(label=dealt), cells))
    means = pd.concat([one.auc for one in found], axis=1).mean(axis=1)
    assert means.dropna().between(0.42, 0.58).all()
    assert np.mean([one.suspicious.any() for one in found]) < 0.2


def test_a_category_that_turns_round_between_people_is_no_shortcut():
    """Always below one half: what is learned from some is wrong of the others."""
    table, _ = made_up(0, 2, 10, 1)
    values = (table.label ^ (table.group == table.group[0])).to_numpy()
    found = measured(table, values, "codec")
    assert found.auc < 0.4
    assert not found.suspicious


def test_of_three_couples_chance_is_not_called_suspicious():
    table, _ = made_up(0, 4, 2, 1)
    table["label"] = np.tile([0, 1], 4)
    for couples, suspicious in ((3, False), (4, True)):
        some = table[: 2 * couples]
        found = measured(some, some.label.to_numpy(), "file size")
        assert (found.auc, found.low, found.suspicious) == (1, 1, suspicious)


def test_few_people_and_one_class():
    table, values = made_up(0, 2, 4, 2)
    alone = table[table.group == table.group[0]].reset_index(drop=True)
    found = measured(alone, values[:4], "codec")
    assert np.isnan(found.auc)
    assert "expected two at least" in found.note
    assert not found.suspicious
    assert not measured(alone, np.arange(4), "file size").suspicious  # one group has no interval
    with pytest.raises(OneClass, match="8 videos of 1 classes"):
        shortcuts.hunt(table.assign(label=1))
    with pytest.raises(OneClass, match="0 videos of 0 classes"):
        shortcuts.hunt(table[:0])


# -- reading ------------------------------------------------------------------------------------


def test_a_quality_is_what_was_asked_of_libjpeg(orl, tmp_path):
    image = orl[0][1]
    for quality in QUALITIES:
        Image.fromarray(image).save(tmp_path / "a.jpg", quality=quality)
        cv2.imwrite(str(tmp_path / "b.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        one, other = (shortcuts.of(tmp_path / name)["JPEG quality"] for name in ("a.jpg", "b.jpg"))
        assert one == other == quality


def test_a_quality_is_the_nearest_for_tables_of_other_encoders():
    assert shortcuts.jpeg_quality({0: [1] * 64}) == 100
    assert shortcuts.jpeg_quality({0: [255] * 64}) == 1


def test_a_video_tells_what_its_file_says(tmp_path):
    grey = [np.full((48, 64, 3), level, np.uint8) for level in (50, 100, 150)]
    video.write(tmp_path / "a.mp4", grey, rate=10)
    found = shortcuts.of(tmp_path / "a.mp4")
    assert found["brightness"] == pytest.approx(100, abs=2)
    assert found.items() >= {
        "codec": "h264", "pixel format": "yuv420p", "resolution": "64 x 48", "pixels": 3072,
        "frames": 3, "frame rate": 10.0, "duration": pytest.approx(0.3),
        "file size": (tmp_path / "a.mp4").stat().st_size,
    }.items()  # fmt: skip
    assert found["bit rate"] > 0
    assert isinstance(found["JPEG tables"], NoChannel)


def test_a_folder_of_frames_is_summed_up(orl, tmp_path):
    for number, image in enumerate(orl[0][1:]):
        Image.fromarray(image).save(tmp_path / f"{number}.jpg", quality=80)
    found = shortcuts.of(tmp_path)
    assert found["file size"] == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert (found["frames"], found["JPEG quality"], found["container"]) == (2, 80, "folder")
    assert str(found["bit rate"]) == "JPEG (folder) has no bit rate"


def test_what_cannot_be_read_is_missing_with_its_reason_and_stops_nothing(orl, tmp_path):
    table = saved(orl, tmp_path, real={"quality": 95}, fake={"quality": 75})
    cut, gone = table.path[0], table.path[1]
    with open(cut, "r+b") as file:
        file.truncate(700)
    shutil.move(gone, tmp_path / "elsewhere")
    (tmp_path / "page.mp4").write_text("<html>")
    (tmp_path / "empty").mkdir()
    cells = shortcuts.channels(table)
    assert isinstance(cells.codec[0], UnreadableImage)
    assert isinstance(cells.codec[1], MissingFile)
    assert isinstance(shortcuts.of(tmp_path / "page.mp4")["frames"], UnreadableVideo)
    assert set(map(type, shortcuts.of(tmp_path / "empty").values())) == {video.EmptyFolder}
    found = shortcuts.measure(table, cells)
    assert found.auc["JPEG tables"] == 1
    assert found.coverage["JPEG tables"] == 1 - 2 / len(table)
    assert found.note["codec"].startswith("2 without, say: ")
    assert "probably cut short" in found.note["codec"] or "does not exist" in found.note["codec"]


@pytest.mark.parametrize("suffix", [".mp4", ".jpg", ".png"])
def test_damage_of_any_kind_stops_nothing(orl, tmp_path, suffix):
    path, rng = tmp_path / f"a{suffix}", np.random.default_rng(0)
    if suffix == ".mp4":
        video.write(path, clips.filmed(orl[0][1], 4))
    else:
        Image.fromarray(orl[0][1]).save(path)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    kinds = set()
    for _ in range(60):
        damaged = whole[: rng.integers(1, 2 * len(whole))].copy()
        damaged[rng.integers(0, len(damaged), 8)] = rng.integers(0, 256)
        path.write_bytes(damaged.tobytes())
        found = shortcuts.of(path)
        assert found.keys() == set(CHANNELS)
        numbers = [found[one] for one in shortcuts.NUMBERS if not isinstance(found[one], Exception)]
        assert np.isfinite(np.array(numbers, float)).all()
        kinds.add(type(found["codec"]).__name__)
    assert {"UnreadableVideo", "UnreadableImage"} & kinds


def test_a_drive_that_is_gone_stops_nothing(monkeypatch, tmp_path):
    def gone(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(video, "length", gone)
    found = shortcuts.of(tmp_path / "a.mp4")
    assert set(map(type, found.values())) == {UnreadableVideo}
    assert "Permission denied. Check the file" in str(found["codec"])


# -- on the command line, in the card and in the report -----------------------------------------


@pytest.fixture
def planted(filled, orl):
    """The store of `filled`, beside pictures: its fakes saved at another quality."""
    store, table = filled
    root = store.folder.parent
    table["path"] = [str(root / f"{uid}.jpg") for uid in table.video_uid]
    for row in table.itertuples():
        image = orl[int(row.target.removeprefix("x/"))][1]
        Image.fromarray(image).save(row.path, quality=75 if row.label else 95)
    manifest.write(table, root / "m.csv")
    return root


def test_a_manifest_can_be_asked_alone(planted, capsys):
    out = planted / "new" / "shortcuts.csv"
    options = ["--mode", "demo", "--store", str(planted)]
    assert cli.main(["shortcuts", str(planted / "m.csv"), "--out", str(out), *options]) == 0
    said = capsys.readouterr().out
    assert "JPEG tables alone: SUSPICIOUS, AUC 1.000" in said
    assert "bit rate: 24 without, say: JPEG (picture) has no bit rate" in said
    assert "intervals resample identity groups" in said
    found = pd.read_csv(out).set_index("channel")
    assert found.index.tolist() == list(CHANNELS)
    assert found.auc[["JPEG tables", "face size"]].tolist() == [1, 0.5]
    elsewhere = ["--split", "test", "--store", str(planted / "none")]
    assert cli.main(["shortcuts", str(planted / "m.csv"), *elsewhere]) == 0
    assert "face size: 12 without, say: no descriptor store" in capsys.readouterr().out
    assert cli.main(["shortcuts", str(planted / "m.csv"), "--split", "val"]) == cli.FAILED


def test_training_warns_goes_on_and_keeps_it_in_card_and_report(planted, capsys):
    probe = planted / "mouth.safetensors"
    options = ["--mode", "demo", "--set=inner_folds=2", "--set=c_grid=0.1,1"]
    command = ["train", str(planted / "m.csv"), "--store", str(planted), "--out", str(probe)]
    assert cli.main([*command, *options]) == 0
    said = capsys.readouterr()
    assert "JPEG quality alone: SUSPICIOUS, AUC 0.000" in said.err
    assert "mouth: trained on 12 videos" in said.out
    rows = json.loads(probe.with_suffix(".json").read_text())["shortcuts"]
    assert [row["channel"] for row in rows] == list(CHANNELS)
    assert [row["auc"] for row in rows if row["channel"] == "bit rate"] == [None]
    assert str(planted) not in json.dumps(rows)
    assert cli.main(["card", str(probe)]) == 0
    assert "JPEG tables alone: SUSPICIOUS, AUC 1.000" in capsys.readouterr().out
    assert cli.main(["export", str(planted / "hub"), "--probe", str(probe)]) == 0
    assert "| JPEG tables alone | SUSPICIOUS, AUC 1.000" in (planted / "hub/README.md").read_text()
    for path in (probe, planted / "hub", planted / "hub/mouth.safetensors"):
        trained = panel.load(path)
        assert trained.suspicious == ["file size", "JPEG quality", "JPEG tables"]
        page = " ".join(report.page([], trained).split())
        assert "file size, JPEG quality, JPEG tables alone tell the fakes" in page
        assert '<th scope="row">not suspicious</th>' in page
        assert "codec" in page


def test_a_report_on_probes_that_were_not_asked_does_not_warn():
    own = panel.load(scoring.OWN)
    assert own.suspicious == []
    assert "Shortcuts." not in report.page([], own)


@pytest.mark.parametrize(
    ("groups", "said"), [(0, "could be measured"), (2, "2 groups are too few")]
)
def test_where_nothing_could_be_asked_nothing_is_called_clear(groups, said):
    rows = {"auc": [0.9 if groups else np.nan], "groups": [groups], "suspicious": [False]}
    found = pd.DataFrame(rows, index=["file size"])
    assert said in shortcuts.warning(found)
    assert "none of" not in shortcuts.warning(found)
