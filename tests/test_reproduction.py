"""From folder to AUC: every data set in its true layout, with what goes wrong in real ones.

The clips are real H.264 of the demo's faces; the encoders are small random networks through the
real classes (stubs: nothing can be said of an AUC here, but that it is one).
"""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest
import skimage.data
import torch

from seglib import (
    cli,
    clips,
    datasets,
    faces,
    manifest,
    reproduction,
    results,
    store,
    video,
    weights,
)
from seglib.recipe import Recipe
from seglib.reproduction import NothingToReproduce
from tests import layouts
from tests.test_conversion import OpenAIVisionTransformer

pytestmark = pytest.mark.slow
FRAMES = 3


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a clip of a person, bona fide or with a forged mouth; each is filmed once."""
    made, detector = tmp_path_factory.mktemp("made"), faces.load("mesh")

    def write(path, person, forged, seed):
        clip = made / f"{person}-{forged}.mp4"
        if not clip.exists():
            clips.write(clip, person, detector, "mouth" if forged else None, frames=FRAMES)
        if path.suffix == ".mp4":
            shutil.copy(clip, path)
        else:
            ((_, image),) = video.read(clip, [seed % FRAMES])
            cv2.imwrite(str(path), image[..., ::-1])

    return write


def mask(path, person, forged, seed):
    """A mask over the whole face."""
    video.write(path, [np.full((336, 276, 3), 255, np.uint8)] * FRAMES)


@pytest.fixture(scope="module")
def decisions(small, tmp_path_factory):
    """The small recipe on a grid that FaRL's patches of 16 tile too, and FaRL's file."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    state = OpenAIVisionTransformer().state_dict()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGLIB_WEIGHTS", str(folder))
        state = {f"visual.{name}": weight for name, weight in state.items()}
        torch.save({"state_dict": state}, weights.WEIGHTS["farl-b"].where)
        yield small.but(crop_size=224, input_size=224, frames=2, inner_folds=2)


def spoil(path, kind):
    """What is wrong with single videos of real collections."""
    if kind == "missing":
        path.unlink()
    elif kind == "corrupt":
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "no face":
        video.write(path, [skimage.data.chelsea()[:288, :300]] * FRAMES)
    elif kind == "loses its face":
        ((_, face),) = video.read(path, [0])
        cat = cv2.resize(skimage.data.chelsea(), face.shape[1::-1])
        video.write(path, [face, face, cat, cat])


@pytest.fixture(scope="module")
def world(tmp_path_factory, write):
    """All data sets under one root, each with its own misfortunes."""
    root = tmp_path_factory.mktemp("Daten · 数据")
    both = layouts.ffpp(root / "FaceForensics++", write)  # its methods share stems
    layouts.dfd(both, write, mask=mask)  # as FaceForensics++'s own script lays it out
    layouts.celebdf(root / "Celeb-DF-v2", write, newline="\r\n")
    layouts.dfdc(root / "dfdc", write)
    for index in root.glob("dfdc/*/metadata.json"):  # only its test videos are tested on
        index.write_text(index.read_text().replace('"train"', '"test"'))
    c23 = "manipulated_sequences/{}/c23/videos"
    spoil(both / c23.format("Deepfakes") / "000_001.mp4", "corrupt")
    spoil(both / c23.format("FaceSwap") / "000_001.mp4", "loses its face")
    spoil(both / c23.format("FaceSwap") / "001_000.mp4", "missing")
    spoil(root / "Celeb-DF-v2/Celeb-synthesis/id0_id1_0000.mp4", "no face")
    spoil(root / "dfdc/dfdc_train_part_0/fake1.mp4", "missing")
    return root


@pytest.fixture(scope="module")
def done(world, decisions, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return reproduction.reproduce(world, decisions, out / "stores", out)


def tables(found):
    """Every record's rows by its name."""
    return {record.name: record.table() for record in found.records()}


# -- all of it -----------------------------------------------------------------------------------


def test_every_test_set_has_a_row_for_every_view(done, decisions):
    found = tables(done)
    assert list(found) == [
        "ffpp-largest-face",
        "celebdf-largest-face",
        "dfd-largest-face",
        "dfdc-largest-face",
        "dfd-mask-face",
    ]
    for name, table in found.items():
        views = {"mouth", "all", "cls", "random-mouth", "farl-b-mouth", "farl-b-all", "farl-b-cls"}
        assert views <= set(table.index), name
        assert (table.attrs["part"], table.lead["mouth"]) == ("mouth", 0)
        assert table.coverage.le(1).all()
    assert all(record.recipe == decisions.key for record in done.records())


def test_fakes_and_bona_fide_are_counted_as_they_lie_there(done):
    counts = {}
    for record in done.records():
        labels = pd.read_csv(record.path.with_suffix(".csv")).label
        counts[record.title] = ((labels == 1).sum(), (labels == 0).sum())
    assert counts == {
        "ffpp, largest face": (8, 4),
        "celebdf, largest face": (8, 10),
        "dfd, largest face": (8, 8),
        "dfdc, largest face": (5, 6),
        "dfd, mask face": (8, 8),
    }


def test_what_was_not_described_is_in_the_coverage_and_not_a_score(done):
    outcomes = done.tests["celebdf, largest face"]["coverage"]
    assert outcomes.loc["NoFace"].tolist() == [0, 2]
    assert outcomes.loc["described"].tolist() == [20, 14]
    assert tables(done)["celebdf-largest-face"].coverage["mouth"] == pytest.approx(17 / 18)
    (record,) = (r for r in done.records() if r.name == "celebdf-largest-face")
    scores = pd.read_csv(record.path.with_suffix(".csv")).set_index("item")
    assert len(scores) == 18
    absent = scores.index[scores["mouth 0"].isna()]
    assert absent.tolist() == ["celebdf/Celeb-synthesis/id0_id1_0000"]


def test_each_kind_of_fake_has_its_own_number(done):
    found = results.published(folder=done.out)
    for method in ("Deepfakes", "FaceSwap"):
        assert found[f"ffpp-largest-face.mouth@{method}.auc"].n == 8  # 4 fakes, 4 bona fide


def test_frames_are_measured_too(done):
    found = results.published(folder=done.out)
    for name in ("mouth", "farl-b-cls"):
        frames = found[f"dfdc-largest-face-frames.{name}.auc"]
        assert frames.n > found[f"dfdc-largest-face.{name}.auc"].n
        assert frames.groups == found[f"dfdc-largest-face.{name}.auc"].groups


def test_what_is_missing_is_said_and_stops_nothing(done):
    said = "\n".join(done.missing)
    assert "celebdf: 10 of 178 videos of original, test" in said
    incomplete = results.published(folder=done.out)["celebdf-largest-face.mouth.auc"].incomplete
    assert "10 of 178 videos of original, test" in incomplete
    assert "10 of 720 videos of original, train" in incomplete  # it counts what it learned from
    problems = pd.read_csv(done.run / "ffpp-problems.csv")
    assert f"ffpp: {len(problems)} lines of missing or extra files" in said
    assert problems.path.str.contains("001_000").any()


def test_the_record_says_how_it_was_made(done, decisions):
    record = json.loads((done.run / "reproduction.json").read_text(encoding="utf-8"))
    assert record["note"] == str(decisions)
    assert record["recipe"]["frames"] == 2
    assert set(record["networks"]) == {decisions.backbone, "farl-b"}
    (dfd,) = (r for name, r in record["tests"].items() if name == "dfd, mask face")
    assert dfd["resampled_by"] == "target identities"  # four actors who lend to each other
    assert dfd["coverage"][0].keys() == {"outcome", "bona fide", "fake"}


def test_a_second_run_reads_what_is_there_and_says_the_same(
    done, world, decisions, monkeypatch, tmp_path
):
    """Even without any weights: descriptors that were made elsewhere are as good."""

    def gone(*_):
        raise weights.WeightsMissing("no weights here")

    monkeypatch.setattr(reproduction, "Extractor", gone)
    again = reproduction.reproduce(world, decisions, done.out / "stores", tmp_path)
    for name, table in tables(done).items():
        pd.testing.assert_frame_equal(tables(again)[name], table)


def test_every_number_can_be_recomputed_from_the_scores_beside_it(done):
    for record in done.records():
        assert results.recomputed(record) == record.results


# -- part of it ----------------------------------------------------------------------------------


def test_without_training_data_targets_are_described_and_the_gap_is_named(
    world, decisions, tmp_path
):
    found = reproduction.reproduce(world / "dfdc", decisions, tmp_path, tmp_path)
    assert found.records() == []
    assert found.tests["dfdc, largest face"]["coverage"].loc["described"].sum() == 22
    assert any("FaceForensics++" in sentence for sentence in found.missing)


def test_without_weights_everything_is_listed(world, decisions, tmp_path):
    absent = decisions.but(backbone="dinov3-l")
    found = reproduction.reproduce(world, absent, tmp_path, tmp_path)
    assert not {"mouth", "cls"} & {view for table in tables(found).values() for view in table.index}
    assert any("facebook/dinov3-vitl16" in sentence for sentence in found.missing)
    # What is left, FaRL's features, says nothing of any claim: there is no mouth to compare with.
    assert tables(found)["celebdf-largest-face"].attrs["part"] == "farl-b-mouth"


def test_a_store_that_another_process_is_filling_costs_its_own_test_only(
    world, decisions, tmp_path, monkeypatch
):
    claim = store.Store.claim

    def held(self, uid):
        return None if uid == "dfdc/dfdc_train_part_0/real0" else claim(self, uid)

    monkeypatch.setattr(store.Store, "claim", held)
    found = reproduction.reproduce(world, decisions, tmp_path, tmp_path)
    assert "celebdf-largest-face" in tables(found)
    assert "dfdc-largest-face" not in tables(found)
    assert any("1 videos are being described by another" in s for s in found.missing)


def test_without_any_data_it_says_what_was_looked_for(decisions, tmp_path):
    with pytest.raises(NothingToReproduce) as caught:
        reproduction.reproduce(tmp_path, decisions, tmp_path, tmp_path)
    for name in ("FaceForensics++", "Celeb-DF", "DFDC"):
        assert name in str(caught.value)


# -- the same by hand, one data set at a time, on the command line ---------------------------------


def options(decisions: Recipe) -> list[str]:
    """The recipe as a user would ask for it."""
    changed = ("backbone", "crop_size", "input_size", "frames", "inner_folds")
    return ["--mode", "demo", *(f"--set={name}={getattr(decisions, name)}" for name in changed)]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run one command in an empty folder; its exit code must be 0; what it printed comes back."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def test_faceforensics_from_folder_to_table(world, decisions, run, tmp_path):
    said = run("manifest", world / "FaceForensics++", "--dataset", "ffpp", "--out", "ffpp.csv")
    assert "001_000" in said
    assert "Deepfakes" in said
    said = run("extract", "ffpp.csv", *options(decisions))
    assert "videos described" in said
    assert "UnreadableVideo" in said
    said = run("train", "ffpp.csv", *options(decisions))
    assert "mouth: trained on" in said
    run("train", "ffpp.csv", "--view", "random mouth", *options(decisions))
    table = manifest.read("ffpp.csv")
    theirs = pd.DataFrame({"video_uid": table.video_uid, "score": table.label}).iloc[:-1]
    theirs.to_csv("oracle.csv", index=False)
    probes = ("mouth.safetensors", "random-mouth.safetensors")
    said = run("evaluate", "ffpp.csv", "--out", "table.csv",
               "--scores", "Oracle=oracle.csv", "--probe", *probes)  # fmt: skip
    found = pd.read_csv("table.csv").set_index("view")
    assert found.index.tolist() == ["mouth", "random-mouth", "Oracle"]
    assert found["items"].tolist() == [12, 12, 11]  # the test split, and its scores given
    assert found.auc["Oracle"] == 1
    assert said.startswith("mouth: AUC")
    for column in ("auc", "eer", "tpr@5%", "brier", "accuracy", "auc of frames", "worst"):
        assert column in said
    assert "mouth, by how a fake was made" in said

    said = run("evaluate", "ffpp.csv", "--out", "robust.csv", "--probe", probes[0],
               "--robustness", "h264:5", "occlusion:1")  # fmt: skip
    robust = pd.read_csv("robust.csv").set_index("perturbation")
    assert robust.index.tolist() == ["none", "h264:5", "occlusion:1"]
    assert robust.auc["none"] == pytest.approx(found.auc["mouth"])
    assert robust.change["none"] == 0
    assert robust.change["h264:5"] == pytest.approx(robust.auc["h264:5"] - robust.auc["none"])
    shares = robust[["coverage", "no_face", "unreadable", "no_part"]]
    assert shares.stack().between(0, 1).all()
    assert "h264:5" in said


@pytest.mark.parametrize("name", ["celebdf", "dfd", "dfdc", "deepfakebench", "table", "folder"])
def test_any_data_set_from_folder_to_auc(name, decisions, run, write, tmp_path):
    root = tmp_path / "Daten 数据"
    getattr(layouts, name)(root, write, **({"mask": mask} if name == "dfd" else {}))
    assert "videos: m.csv" in run("manifest", root, "--out", "m.csv", "--dataset", name)
    table = manifest.read("m.csv")
    run("extract", "m.csv", *options(decisions))
    # Zero-shot data have no training split: the probe learns from copies of them here.
    twice = table.assign(split="train", group=table.video_uid)
    manifest.write(twice, "train.csv")
    run("train", "train.csv", "--view", "all", *options(decisions))
    # A detector that knows the path tells right from wrong, and its opposite is exactly wrong.
    fake = table.path.str.contains("fake|manipulated|synthesis").astype(int)
    pd.DataFrame({"video_uid": table.video_uid, "score": fake}).to_csv("right.csv", index=False)
    pd.DataFrame({"video_uid": table.video_uid, "score": -fake}).to_csv("wrong.csv", index=False)
    manifest.write(table.assign(split="test", group=table.video_uid), "m.csv")
    run("evaluate", "m.csv", "--probe", "all.safetensors", "--out", "table.csv",
        "--scores", "right=right.csv", "wrong=wrong.csv")  # fmt: skip
    found = pd.read_csv("table.csv").set_index("view")
    assert found.loc[["right", "wrong"]].auc.tolist() == [1, 0]
    assert found["items"].tolist() == [len(table)] * 3
    assert found.auc["all"] > 0.5  # of what it was trained on


def test_the_adapters_that_reproduce_asks_for_exist():
    assert {reproduction.TRAIN, *reproduction.TARGETS} <= datasets.ADAPTERS.keys()
    assert set(reproduction.MASKED) <= set(reproduction.TARGETS)
