"""Several detectors on the same videos: frames to videos, groups, other people's scores."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from seglib import evaluation, manifest, probing, recipe
from seglib.descriptors import Descriptors
from seglib.evaluation import BadScores, NoTraining, Scores
from seglib.probing import BadProbe
from seglib.store import Store

NETWORKS = {"detector": "d", "parser": "p", "backbone": "b", "width": 4, "precision": "float32"}
RECIPE = recipe.demo().but(c_grid=(0.1, 1.0), folds=4, inner_folds=2)


def videos(people=8, methods=("A", "B")):
    """A manifest: each person's own video, and forgeries of it by each method."""
    rows = []
    for person in range(people):
        base = {"dataset": "x", "split": "train" if person < people // 2 else "test",
                "target": f"x/{person}"}  # fmt: skip
        rows.append(base | {"video_uid": f"{person}", "label": 0, "path": f"{person}.mp4"})
        rows += [
            base | {"video_uid": f"{m}{person}", "label": 1, "method": m, "path": f"{m}{person}"}
            for m in methods
        ]
    rows = [row | {"method": row.get("method", manifest.ORIGINAL)} for row in rows]
    return manifest.from_rows(rows)


@pytest.fixture
def filled(tmp_path):
    """Three frames a video; only the mouth tells a fake, and only method A by much."""
    store, table, rng = Store(tmp_path, RECIPE, NETWORKS), videos(), np.random.default_rng(0)
    for row in table.itertuples():
        sums = rng.normal(size=(3, 11, 4)).astype(np.float32)
        sums[:, 7:10, 0] += {manifest.ORIGINAL: 0, "A": 6, "B": 0.2}[row.method]
        counts = np.ones((3, 11), np.int64)
        if row.video_uid == "A7":
            counts[:, 7:10] = sums[:, 7:10] = 0  # no frame of it shows a mouth
        cls = rng.normal(size=(3, 4)).astype(np.float32)
        found = Descriptors(sums, counts, sums[:, ::-1].copy(), cls, np.ones(3), np.full(3, ""))
        ledger = pd.DataFrame({"frame": range(3)}).assign(
            video_uid=row.video_uid, faces=1, score=1.0, x0=0.0, y0=0.0, x1=1.0, y1=1.0
        )
        store.write(row.video_uid, {"content": "c", "stamp": "s"}, ledger, found)
    return store, table


# -- from frames to videos -----------------------------------------------------------------------


def scored(filled, view="mouth", seeds=()):
    store, table = filled
    probes = evaluation.train(table, store, view, RECIPE, seeds)
    return probes, evaluation.detect(probes, store, view, table.video_uid)


def test_a_videos_score_is_the_mean_of_its_frames_log_odds(filled):
    store, table = filled
    (probe,), found = scored(filled)
    _, values = store.view("mouth", ["B2"])
    uids = table.video_uid.tolist()
    expected = probing.score(probe, values).mean()
    assert found.videos[0, uids.index("B2")] == pytest.approx(expected)
    assert np.flatnonzero(np.isnan(found.videos[0])).tolist() == [uids.index("A7")]
    logits = probe.logits(values)
    assert probe.slope * logits.mean() + probe.offset == pytest.approx(expected)
    assert found.thresholds.tolist() == [[probe.threshold]]
    assert found.frames[0].tolist() == np.repeat(uids, 3).tolist()
    assert found.frames[1].shape == (1, 3 * len(uids))


def test_two_methods_that_share_a_stem_stay_two_videos():
    """In FaceForensics++ all four methods call this file 071_054.mp4."""
    frames = np.repeat(["ffpp/c23/Deepfakes/071_054", "ffpp/c23/FaceSwap/071_054"], 2)
    scores = np.array([[1.0, 3.0, -5.0, -7.0]])
    found = evaluation.score_videos(frames, scores, pd.Series(sorted(set(frames))))
    assert found.tolist() == [[2, -6]]


def test_several_seeds_leave_other_people_out(filled):
    probes, found = scored(filled, seeds=(0, 1, 2))
    assert len(probes) == 3
    assert found.videos.shape == (3, 24)
    assert found.thresholds.shape == (3, 1)
    weights = [probe.weight for probe in probes]
    assert not np.allclose(weights[0], weights[1])


def test_a_probe_learns_from_the_training_split_alone(filled):
    store, table = filled
    ((probe,), _) = scored(filled)
    flipped = table.assign(label=table.label.where(table.split == "train", 1 - table.label))
    for other in (flipped, table[table.split == "train"]):
        (again,) = evaluation.train(other, store, "mouth", RECIPE)
        np.testing.assert_array_equal(probe.weight, again.weight)
        assert (again.slope, again.threshold) == (probe.slope, probe.threshold)


def test_without_both_classes_there_is_nothing_to_train_on(filled):
    store, table = filled
    with pytest.raises(NoTraining, match="0 videos of 0 classes"):
        evaluation.train(table[table.split == "test"], store, "mouth", RECIPE)
    with pytest.raises(NoTraining, match="4 videos of 1 classes"):
        evaluation.train(table[table.label == 0], store, "mouth", RECIPE)


def test_each_kind_of_fake_stands_against_all_bona_fide(filled):
    _, table = filled
    scores, _ = evaluation.together(table, {"mouth": scored(filled)[1]})
    found = scores.by_method("mouth")
    assert list(found) == ["A", "B"]
    assert [one.items for one in found.values()] == [15, 16]
    assert found["A"].value > 0.95 > found["B"].value
    assert [one.coverage for one in found.values()] == [pytest.approx(15 / 16), 1]


def test_frames_can_be_measured_one_by_one(filled):
    """As some papers do: more items, the same people."""
    _, table = filled
    _, detector = scored(filled)
    scores, drawn = evaluation.together(table, {"mouth": detector}, "a test")
    assert (scores.title, drawn) == ("a test", "identity groups")
    frames, videos = evaluation.frame_auc(scores, detector), scores.auc("mouth")
    assert (frames.items, videos.items) == (3 * 23, 23)
    assert frames.groups == videos.groups == 8
    labels = np.repeat(table.label.to_numpy(), 3)
    seen = ~np.isnan(detector.frames[1][0])
    expected = roc_auc_score(labels[seen], detector.frames[1][0, seen])
    assert frames.value == pytest.approx(expected)


# -- abstentions -----------------------------------------------------------------------------------


def test_what_an_abstention_counts_is_told_side_by_side(filled):
    """The one video without a mouth is a fake: dropped, undecided, or ranked last."""
    _, table = filled
    scores, _ = evaluation.together(table, {"mouth": scored(filled)[1]})
    found = scores.abstentions()
    assert found.columns.tolist() == ["dropped", "half", "worst", "coverage"]
    assert found.coverage["mouth"] == pytest.approx(23 / 24)
    values = {rule: scores.auc("mouth", rule).value for rule in ("dropped", "half", "worst")}
    assert values["worst"] < min(values["half"], values["dropped"])
    assert found.half["mouth"].startswith(f"{values['half']:.3f} [")


def test_coverage_counts_what_became_of_frames_by_class():
    table = pd.DataFrame({"video_uid": ["r", "f"], "label": [0, 1]})
    ledger = pd.DataFrame(
        {"video_uid": ["r", "r", "f", "f", "f"],
         "reason": ["", "NoFace: a, b: c", "", "", "MissingFile: gone"]}
    )  # fmt: skip
    found = evaluation.coverage(table, ledger)
    assert found.to_dict() == {
        "bona fide": {"described": 1, "NoFace": 1, "MissingFile": 0},
        "fake": {"described": 2, "NoFace": 0, "MissingFile": 1},
    }
    one_class = evaluation.coverage(table, ledger[ledger.video_uid == "r"])
    assert one_class.fake.tolist() == [0, 0]


# -- what is drawn -------------------------------------------------------------------------------


def test_groups_are_drawn_where_there_are_enough():
    table = videos()
    drawn, name = evaluation.resampled_by(table)
    assert name == "identity groups"
    assert drawn.tolist() == table.group.tolist()


def test_where_all_hangs_together_the_target_is_drawn():
    """As in Celeb-DF: everybody lends to the next, so that there is one component."""
    table = videos()
    fakes = table.label == 1
    person = table.target.str.slice(2).astype(int)
    table = table.assign(source=("x/" + ((person + 1) % 8).astype(str)).where(fakes, ""))
    table = manifest.with_groups(table.assign(split="test"))
    assert table.group.nunique() == 1
    stranger = table.iloc[[0]].assign(video_uid="s", target="", group="s")
    table = pd.concat([table, stranger], ignore_index=True)
    drawn, name = evaluation.resampled_by(table)
    assert name == "target identities"
    assert drawn.tolist() == [*table.target[:-1], "s"]  # of whom nothing is known stands alone


# -- the table ------------------------------------------------------------------------------------


def test_the_table_puts_every_detector_against_the_first_on_common_items():
    rng = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 30), np.repeat(np.arange(15), 4)
    good, poor = labels + rng.normal(size=60), rng.normal(size=60)
    poor[:5] = np.nan
    found = Scores(labels, groups, {"mouth": good, "other": poor}).table("mouth")
    assert found.lead["mouth"] == 0
    both = Scores(labels[5:], groups[5:], {"mouth": good[5:], "other": poor[5:]}).table("mouth")
    assert found.lead["other"] == pytest.approx(both.auc["mouth"] - both.auc["other"])
    assert found.coverage.tolist() == [1, pytest.approx(55 / 60)]
    first, second = evaluation.verdict(found).splitlines()
    assert first.startswith("mouth: AUC 0.")
    assert "mouth is ahead of other" in second


def test_a_view_that_scores_nobody_has_no_auc_and_stops_no_other():
    labels, groups = np.tile([0, 1], 6), np.repeat(np.arange(6), 2)
    brows = np.where(labels == 1, 1.0, np.nan)
    found = Scores(labels, groups, {"mouth": labels + 0.0, "brows": brows}).table("mouth")
    assert np.isnan(found.loc["brows", ["auc", "low", "lead"]].to_numpy(float)).all()
    assert found.coverage["brows"] == 0.5
    assert found["items"].tolist() == [12, 6]
    assert found.auc["mouth"] == 1


# -- sentences ---------------------------------------------------------------------------------


def sentence(low, high, highest=0.8):
    lead = (low + high) / 2
    table = pd.DataFrame(
        {"auc": [0.7, 0.7 - np.nan_to_num(lead)], "low": 0.6, "high": [0.8, highest],
         "lead": [0, lead], "lead_low": [0, low], "lead_high": [0, high]},
        index=["mouth", "cls"],
    )  # fmt: skip
    table.attrs["part"] = "mouth"
    first, *others = evaluation.verdict(table).splitlines()
    assert first == "mouth: AUC 0.700 [0.600, 0.800]"
    assert len(others) == 1
    return others[0].strip()


@pytest.mark.parametrize(
    ("low", "high", "verb"),
    [
        (0.05, 0.15, "is ahead of"),
        (-0.15, -0.05, "is behind"),
        (-0.05, 0.15, "cannot be told from"),
        (0, 0.1, "cannot be told from"),  # an interval that touches zero contains it
        (-0.1, 0, "cannot be told from"),
        (0, 0, "cannot be told from"),
        (np.nan, np.nan, "cannot be told from"),  # no interval, no claim
    ],
)
def test_a_sentence_says_what_its_interval_allows(low, high, verb):
    lead = (low + high) / 2
    assert sentence(low, high) == f"mouth {verb} cls: {lead:+.3f} [{low:+.3f}, {high:+.3f}]"


def test_a_rival_below_chance_is_called_inverted():
    assert sentence(0.2, 0.4, highest=0.45).startswith("mouth is ahead of cls (inverted):")


# -- probes on disk -------------------------------------------------------------------------------


def test_probes_come_back_and_score_the_same(filled, tmp_path):
    store, table = filled
    probes, found = scored(filled, seeds=(0, 1))
    card = evaluation.card(table, store, "mouth", RECIPE)
    probing.save(probes, tmp_path / "deep" / "mouth.safetensors", card)
    again, said = probing.load(tmp_path / "deep" / "mouth.safetensors")
    np.testing.assert_array_equal(
        evaluation.detect(again, store, "mouth", table.video_uid).videos, found.videos
    )
    assert said["view"] == "mouth"
    assert (said["videos"], said["fakes"], said["groups"]) == (12, 8, 4)
    evaluation.fits(said, store.recipe, store.networks)


def test_descriptors_of_another_recipe_are_refused_with_every_field(filled, tmp_path):
    store, table = filled
    card = json.loads(json.dumps(evaluation.card(table, store, "mouth", RECIPE)))
    evaluation.fits(card, RECIPE.but(frames=3, face_choice="mask"), NETWORKS)
    other = Store(tmp_path, RECIPE.but(crop_scale=1.3), NETWORKS | {"backbone": "finetuned"})
    with pytest.raises(BadProbe) as caught:
        evaluation.fits(card, other.recipe, other.networks)
    assert "crop_scale is 1.0 for the probe and 1.3 for the descriptors" in str(caught.value)
    assert "backbone" in str(caught.value)


def test_of_a_decision_that_a_card_does_not_know_the_default_was_taken(filled, tmp_path):
    store, table = filled
    card = json.loads(json.dumps(evaluation.card(table, store, "mouth", RECIPE)))
    for decision in ("encoding", "layer", "pooling"):  # came with chapter 04
        del card["recipe"][decision]
    evaluation.fits(card, store.recipe, store.networks)
    other = Store(tmp_path, RECIPE.but(pooling="max", layer=-4), NETWORKS)
    with pytest.raises(BadProbe) as caught:
        evaluation.fits(card, other.recipe, other.networks)
    assert "pooling is 'mean' for the probe and 'max' for the descriptors" in str(caught.value)
    assert "layer is -1 for the probe and -4 for the descriptors" in str(caught.value)
    assert "encoding" not in str(caught.value)


def test_a_card_that_does_not_name_a_network_fits_none(filled):
    store, table = filled
    card = evaluation.card(table, store, "mouth", RECIPE)
    card["networks"] = {name: one for name, one in NETWORKS.items() if name != "parser"}
    with pytest.raises(BadProbe, match="parser is None for the probe and 'p' for the descriptors"):
        evaluation.fits(card, store.recipe, store.networks)


# -- other people's scores ------------------------------------------------------------------------


def test_scores_of_another_detector_find_their_videos(tmp_path):
    table = videos(people=2)
    path = tmp_path / "xception.csv"
    path.write_bytes("\ufeffvideo_uid,score,note\r\nA1,0.5,x\r\n0,-1e-3,y\r\nB0, ,z\r\n".encode())
    scores = evaluation.read_scores(path, table)
    known = dict(zip(table.video_uid, scores, strict=True))
    assert (known["A1"], known["0"]) == (0.5, -0.001)
    assert np.isnan([known["B0"], known["1"]]).all()


def test_probabilities_of_another_detector_become_log_odds(tmp_path):
    table = videos(people=2)
    path = tmp_path / "meso.csv"
    path.write_text("video_uid,score\nA1,0.5\n0,0\nB0,1\n1,0.9\n")
    known = dict(zip(table.video_uid, evaluation.read_scores(path, table), strict=True))
    assert known["A1"] == 0
    assert known["1"] == pytest.approx(np.log(9))
    assert -np.inf < known["0"] < -30
    assert 30 < known["B0"] < np.inf


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("uid,score\nA1,1\n", r"its columns are \['uid', 'score'\]"),
        ("video_uid,score\nA1,1\nA1,2\n", "'A1' stands there twice"),
        ("video_uid,score\nA1,1\nB1,high\n", "line 3, 'B1': 'high' is no finite number"),
        ("video_uid,score\nA1,nan\n", "line 2, 'A1': 'nan' is no finite number"),
        ("video_uid,score\nA1,inf\n", "leave it empty where the detector abstained"),
        ("video_uid,score\nz,1\n", r"none of its 1 videos is in the manifest, say \['z'\]"),
        ("video_uid,score\n", "none of its 0 videos"),
        ("", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_table_of_scores_that_does_not_fit_says_why(tmp_path, text, said):
    path = tmp_path / "scores.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadScores, match=said):
        evaluation.read_scores(path, videos(people=2))


def test_tiny_probabilities_keep_their_order(tmp_path):
    table = videos(people=2)
    (tmp_path / "s.csv").write_text("video_uid,score\nA1,1e-20\n0,1e-30\nB0,0\n")
    known = dict(
        zip(table.video_uid, evaluation.read_scores(tmp_path / "s.csv", table), strict=True)
    )
    assert known["A1"] > known["0"] > known["B0"] > -np.inf


def test_a_table_of_empty_scores_says_so(tmp_path):
    (tmp_path / "s.csv").write_text("video_uid,score\nA1,\n0,\n")
    with pytest.raises(BadScores, match="all its scores are empty"):
        evaluation.read_scores(tmp_path / "s.csv", videos(people=2))


def test_a_detector_that_scored_one_class_is_not_compared():
    labels, groups = np.tile([0, 1], 6), np.repeat(np.arange(6), 2)
    scores = Scores(
        labels, groups, {"mouth": labels + 0.0, "brows": np.where(labels == 1, 1.0, np.nan)}
    )
    said = evaluation.verdict(scores.table("mouth"))
    assert said.endswith("  brows has scored no items of both classes: nothing to compare")
    assert scores.abstentions().index.tolist() == ["mouth"]
