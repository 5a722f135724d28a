"""Any file in, a verdict or a reason out: through the real detector, mesh and transformer class.

The probes are stubs (see `conftest.probes`); what they say means nothing, that they are asked
about the right tokens, frames and faces does.
"""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from samples import sound
from scipy.special import expit

from seglib import assets, clips, faces, media, panel, probing, regions, scoring, video
from seglib.faces import Face
from seglib.media import read_image
from seglib.panel import OVERALL


@pytest.fixture(scope="module")
def scorer(probes):
    return scoring.Scorer(probes, frames=4)


@pytest.fixture(scope="module")
def portrait():
    return assets.pictures("csu")[0].path


@pytest.fixture(scope="module")
def filmed(tmp_path_factory, scorer):
    path = tmp_path_factory.mktemp("clips") / "one.mp4"
    clips.write(path, 0, scorer.extractor.detector)
    return path


def large(path):
    """An ORL portrait, large enough that two fit into one picture."""
    return read_image(path).repeat(3, 0).repeat(3, 1)


# -- pictures ------------------------------------------------------------------------------------


def test_a_picture_gets_an_estimate_of_each_part_and_of_all(scorer, portrait):
    found = scorer(portrait)
    (track,) = found.tracks
    assert (found.length, found.reason, found.is_video) == (1, "", False)
    assert list(track.estimates) == [*panel.PARTS, OVERALL]
    for one in track.estimates.values():
        assert one.low <= one.log_odds <= one.high
        assert one.low < one.high
        assert one.probability == pytest.approx(1 / (1 + math.exp(-one.log_odds)))
        assert one.distance > 0


def test_the_estimate_is_the_probes_score_of_the_extractors_descriptor(scorer, portrait):
    (track,) = scorer(portrait).tracks
    described = scorer.extractor([read_image(portrait)])
    for part, probes in scorer.panel.probes.items():
        expected = [probing.score(probe, described.view(part))[0] for probe in probes]
        assert track.estimates[part].log_odds == pytest.approx(expected[0], abs=1e-4)
        low, high = np.percentile(expected[1:], [2.5, 97.5])
        assert track.estimates[part].low == pytest.approx(min(low, expected[0]), abs=1e-4)
        assert track.estimates[part].high == pytest.approx(max(high, expected[0]), abs=1e-4)


def test_every_face_has_a_track(scorer):
    two = [large(one.path) for one in assets.pictures("orl")[::10][:2]]
    found = scorer.picture(np.hstack(two))
    assert [track.number for track in found.tracks] == [1, 2]
    alone = [scorer.picture(np.hstack([one, np.full_like(one, 128)])) for one in two]
    assert len({track.estimates[OVERALL].log_odds for track in found.tracks}) == 2
    assert all(len(one.tracks) == 1 for one in alone)


def test_no_face_no_score(scorer):
    found = scorer.picture(np.full((200, 200, 3), 128, np.uint8))
    assert not found.tracks
    assert found.reason.startswith("NoFace: no face found in a picture of 200 x 200 pixels")


def test_a_face_that_is_too_small_gets_none(scorer, portrait, monkeypatch):
    monkeypatch.setattr(faces, "MIN_FACE", 500)
    found = scorer(portrait)
    assert not found.tracks
    assert found.reason.startswith("FaceTooSmall: ")


def test_small_faces_beside_a_large_one_are_not_passed_over_in_silence(
    scorer, portrait, monkeypatch
):
    find = scorer.extractor.detector
    small = [Face(np.array([0, 0, side, side]), None, 0.9) for side in (18.0, 12.0)]
    monkeypatch.setattr(scorer.extractor, "detector", lambda image: [*find(image), small[0]])
    one = scorer(portrait)
    assert len(one.tracks) == 1
    assert one.reasons[0].startswith("FaceTooSmall: a further face is 18 pixels tall; expected")
    monkeypatch.setattr(scorer.extractor, "detector", lambda image: [*find(image), *small])
    assert "2 further faces are at most 18 pixels tall" in scorer(portrait).reasons[0]


def test_a_hidden_part_abstains_and_the_others_speak(scorer, portrait, monkeypatch):
    parse = scorer.extractor.parser.parse

    def without_a_mouth(crops):
        maps, sure = parse(crops)
        return np.where(np.isin(maps, (7, 8, 9)), 1, maps).astype(np.uint8), sure

    monkeypatch.setattr(scorer.extractor.parser, "parse", without_a_mouth)
    (track,) = scorer(portrait).tracks
    hidden = track.estimates["mouth"]
    assert hidden.reason.startswith("PartHidden: no patch of the mouth in any of 1 frames")
    assert math.isnan(hidden.probability)
    assert not hidden.above
    assert not track.estimates["eyes"].reason
    assert not track.estimates[OVERALL].reason


def test_what_lies_outside_the_training_is_told(scorer, portrait):
    far = max(one.distance for one in scorer(portrait).tracks[0].estimates.values())
    for limit, outside, withheld in ((far, False, False), (far / 1.5, True, False),
                                     (far / 1e3, True, True)):  # fmt: skip
        references = {
            part: replace(one, limit=one.limit * limit)
            for part, one in scorer.panel.references.items()
        }
        moved = scoring.Scorer(replace(scorer.panel, references=references))
        estimates = moved(portrait).tracks[0].estimates.values()
        assert any(one.outside for one in estimates) == outside
        assert any(one.reason.startswith("OutsideTraining: ") for one in estimates) == withheld
        assert all(math.isnan(one.probability) == bool(one.reason) for one in estimates)
    bare = scoring.Scorer(replace(scorer.panel, references={}))
    estimates = bare(portrait).tracks[0].estimates
    assert all(math.isnan(one.distance) and not one.outside for one in estimates.values())


def test_a_part_that_is_too_strange_has_no_say_in_the_whole(scorer, portrait):
    references = dict(scorer.panel.references)
    references["mouth"] = replace(references["mouth"], limit=1e-6)
    strange = scoring.Scorer(replace(scorer.panel, references=references))(portrait).tracks[0]
    usual = scorer(portrait).tracks[0]
    assert strange.estimates["mouth"].reason.startswith("OutsideTraining: ")
    others = [usual.estimates[part].log_odds for part in panel.PARTS if part != "mouth"]
    one = scorer.panel.combination
    expected = one.slope * np.mean(others) + one.offset
    assert strange.curves[OVERALL][0] == pytest.approx(expected, abs=1e-5)


def test_where_few_parts_have_a_score_they_have_none_together(scorer, portrait):
    references = {
        part: replace(one, limit=1e-6) if part != "skin" else one
        for part, one in scorer.panel.references.items()
    }
    (track,) = scoring.Scorer(replace(scorer.panel, references=references))(portrait).tracks
    assert track.estimates[OVERALL].reason.startswith("TooFewParts: half or more of the parts")
    assert not track.estimates["skin"].reason


def test_of_few_probes_no_interval_is_made(probes, portrait):
    few = {part: several[:6] for part, several in probes.probes.items()}
    found = scoring.Scorer(replace(probes, probes=few))(portrait)
    for one in found.tracks[0].estimates.values():
        assert not math.isnan(one.probability)
        assert all(map(math.isnan, one.interval))


# -- token shares ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["contextual", "isolated"])
def test_shares_add_up_to_the_score_less_the_constant(probes, portrait, encoding):
    decided = probes.recipe.but(encoding=encoding)
    (track,) = scoring.Scorer(replace(probes, recipe=decided))(portrait).tracks
    for part, (probe, *_) in probes.probes.items():
        shares = track.shown.shares[part]
        kept = np.isin(track.shown.labels, regions.part_ids(part))
        np.testing.assert_array_equal(np.isfinite(shares), kept)
        expected = track.estimates[part].log_odds - probe.constant
        assert np.nansum(shares) == pytest.approx(expected, abs=1e-5)


def test_a_score_that_is_not_linear_has_no_shares(probes, portrait):
    views = {part: np.zeros((4, 32)) for part in panel.PARTS}
    assert probes.scores(views)  # the stub's own conditioning is linear
    decided = probes.recipe.but(conditioning="layernorm")
    (track,) = scoring.Scorer(replace(probes, recipe=decided))(portrait).tracks
    assert track.shown.shares == {}


# -- videos ---------------------------------------------------------------------------------------


def test_a_videos_score_is_the_mean_of_its_frames(scorer, filmed):
    found = scorer(filmed)
    (track,) = found.tracks
    assert found.is_video
    assert list(found.asked) == list(track.frames) == video.evenly(12, 4)
    for name, one in track.estimates.items():
        assert one.log_odds == pytest.approx(track.curves[name].mean(), abs=1e-6)
    frames = [scorer.picture(image) for _, image in video.read(filmed, found.asked)]
    alone = [one.tracks[0].estimates[OVERALL].log_odds for one in frames]
    np.testing.assert_allclose(track.curves[OVERALL], alone, atol=1e-4)
    assert track.shown.frame in track.frames
    middle = sorted(track.curves[OVERALL])[1]
    assert track.curves[OVERALL][list(track.frames).index(track.shown.frame)] == middle


def test_two_faces_of_a_video_keep_their_tracks(scorer, tmp_path):
    one, other = (large(p.path) for p in assets.pictures("orl")[::10][:2])
    frames = []
    for number in range(8):
        step = 4 * number
        frames.append(np.hstack([np.roll(one, step, 1), np.roll(other, -step, 1)])[:, :, :])
    video.write(tmp_path / "two.mp4", frames)
    found = scorer(tmp_path / "two.mp4")
    assert len(found.tracks) == 2
    left, right = sorted(found.tracks, key=lambda track: track.boxes[0, 0])
    assert len(left.frames) == len(right.frames) == 4
    assert (np.diff(left.boxes[:, 0]) > 0).all()
    assert (np.diff(right.boxes[:, 0]) < 0).all()


def test_a_face_that_jumps_begins_another_track():
    def face(x, size=100.0):
        return Face(np.array([x, 0, x + size, size]), None, 1.0)

    tracks = []
    for boxes in ([face(0), face(300)], [face(310), face(20)], [face(700)], [face(20, 20.0)]):
        list(scoring._linked(tracks, boxes))
    assert [one.last.box[0] for one in tracks] == [20, 310, 700, 20]
    first, second, *_ = tracks
    assert first.last.extent == 100
    assert second.last.box[0] == 310


def test_a_new_face_far_away_parts_no_near_ones():
    """One of two people leaves, another comes in at the other end."""

    def face(x):
        return Face(np.array([x, 0, x + 100.0, 100.0]), None, 1.0)

    tracks = []
    for faces_seen in ([face(0), face(100)], [face(90), face(1000)]):
        list(scoring._linked(tracks, faces_seen))
    assert [one.last.box[0] for one in tracks] == [0, 90, 1000]


def test_a_frame_without_a_face_is_a_reason_and_the_others_stand(scorer, filmed, tmp_path):
    frames = [image for _, image in video.read(filmed, range(12))]
    frames[:6] = [np.full_like(frames[0], 128)] * 6
    video.write(tmp_path / "half.mp4", frames)
    found = scorer(tmp_path / "half.mp4")
    assert [track.frames.tolist() for track in found.tracks] == [[7, 10]]
    assert sorted(found.reasons) == [1, 4]
    assert all(one.startswith("NoFace") for one in found.reasons.values())


# -- what cannot be scored ------------------------------------------------------------------------


def spoiled(name, folder, filmed):
    path = folder / name
    if name == "page.mp4":
        path.write_text("<html><script>alert(1)</script>")
    elif name == "empty.jpg":
        path.touch()
    elif name == "cut.mp4":
        path.write_bytes(filmed.read_bytes()[:200])
    elif name == "sound.mp4":
        sound(path)
    return path


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("page.mp4", "UnreadableVideo"),
        ("empty.jpg", "UnreadableImage"),
        ("cut.mp4", "UnreadableVideo"),
        ("sound.mp4", "UnreadableVideo"),
        ("absent.jpg", "MissingFile"),
        ("absent.mp4", "MissingFile"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_reason(scorer, filmed, tmp_path, name, reason):
    found = scorer(spoiled(name, tmp_path, filmed))
    assert not found.tracks
    assert found.reason.startswith(f"{reason}: ")


def test_a_video_that_breaks_off_is_scored_as_far_as_it_goes(scorer, filmed, tmp_path):
    import av

    path = tmp_path / "broken.ts"
    with av.open(str(filmed)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    cut = path.read_bytes()
    path.write_bytes(cut[: len(cut) * 4 // 5])
    found = scorer(path)
    assert found.tracks
    assert set(found.tracks[0].frames) | set(found.reasons) == set(found.asked)


def test_one_frame_is_enough(scorer, portrait, tmp_path):
    image = read_image(portrait)
    video.write(tmp_path / "one.mp4", [image])
    found = scorer(tmp_path / "one.mp4")
    assert (found.length, found.is_video, len(found.tracks)) == (1, False, 1)


def test_4k_is_scored_like_the_same_face_in_small(scorer, portrait, tmp_path):
    image = read_image(portrait)
    wide = np.full((2160, 3840, 3), 128, np.uint8)
    large = image.repeat(7, 0).repeat(7, 1)[:2160]
    wide[: len(large), 1000 : 1000 + large.shape[1]] = large
    video.write(tmp_path / "4k.mp4", [wide, wide], crf=10)
    (track,) = scorer(tmp_path / "4k.mp4").tracks
    (small,) = scorer(portrait).tracks
    assert max(track.shown.picture.shape) == scoring.SMALL
    far = abs(track.estimates[OVERALL].log_odds - small.estimates[OVERALL].log_odds)
    assert far < 2  # log-odds; the stub hangs on every pixel


def test_frames_of_uneven_length_are_counted_and_not_timed(scorer, portrait, tmp_path):
    from fractions import Fraction

    import av

    image = np.ascontiguousarray(read_image(portrait)[:256, :200])
    with av.open(str(tmp_path / "uneven.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 200, len(image) // 2 * 2, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for time in (0, 40, 900, 910, 5000, 5010):
            frame = av.VideoFrame.from_ndarray(image[: stream.height], format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    found = scorer(tmp_path / "uneven.mkv")
    assert found.length == 6
    assert list(found.tracks[0].frames) == video.evenly(6, 4)


def test_strange_names_are_names(scorer, portrait, tmp_path):
    for name in ("a b.jpg", "'quote\".jpg", "näme 名.jpg", "<b>bold</b>.jpg", "$(touch x).jpg"):
        copy = tmp_path / name.replace("/", "_")
        shutil.copy(portrait, copy)
        assert scorer(copy).tracks
    assert len(scoring.found([tmp_path])) == 5


# -- which files ----------------------------------------------------------------------------------


def test_folders_and_patterns_lead_to_their_pictures_and_videos(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.jpg", "sub/c.mp4", "sub/.git/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    names = [path.relative_to(tmp_path).as_posix() for path in scoring.found([tmp_path])]
    assert names == ["a.png", "b.JPG", "sub/c.mp4"]
    assert scoring.found([str(tmp_path / "*.png"), tmp_path / "a.png"]) == [tmp_path / "a.png"]
    assert scoring.found([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    assert scoring.found([tmp_path / "absent.jpg"]) == [tmp_path / "absent.jpg"]


def test_nothing_to_score_is_told(tmp_path):
    with pytest.raises(scoring.NothingToScore, match=r"no picture or video under .*; expected"):
        scoring.found([tmp_path])
    (tmp_path / "a.jpg").touch()
    with pytest.raises(scoring.NothingToScore, match="sub"):
        scoring.found([tmp_path / "a.jpg", tmp_path / "sub*"])


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "gone.jpg")
    assert scoring.found([tmp_path]) == [tmp_path / "lost.jpg"]


def test_a_pattern_takes_pictures_and_videos_only(tmp_path):
    for name in ("a.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert scoring.found([tmp_path / "*"]) == [tmp_path / "a.jpg"]


# -- as numbers -----------------------------------------------------------------------------------


def test_a_record_is_the_estimate_in_numbers(scorer, portrait):
    found = scorer(portrait)
    rows = list(scoring.records(found))
    assert [row["part"] for row in rows] == [*panel.PARTS, OVERALL]
    one = found.tracks[0].estimates[OVERALL]
    assert rows[-1]["probability"] == one.probability
    assert rows[-1]["threshold"] == pytest.approx(expit(one.threshold))
    assert rows[-1]["above"] == (one.log_odds > one.threshold)
    measured = scorer.panel.card["measured"][OVERALL]["false_positive_rate"]
    assert rows[-1]["false_positive_rate"] == measured[0]


def test_a_record_with_curves_has_every_frame(scorer, filmed):
    found = scorer(filmed)
    rows = list(scoring.records(found, curves=True))
    assert [frame for frame, _ in rows[-1]["curve"]] == found.tracks[0].frames.tolist()
    np.testing.assert_allclose(
        [value for _, value in rows[-1]["curve"]], expit(found.tracks[0].curves[OVERALL])
    )


def test_a_file_without_a_score_has_a_record_with_its_reason(scorer, tmp_path):
    (row,) = scoring.records(scorer(tmp_path / "absent.jpg"))
    assert row["part"] is None
    assert row["reason"].startswith("MissingFile")
    assert "probability" not in row


def test_light_keeps_all_but_the_pictures(scorer, filmed):
    found = scorer(filmed)
    assert list(scoring.records(found.light())) == list(scoring.records(found))
    assert found.light().tracks[0].shown is None


def test_every_suffix_is_known_once():
    assert not set(media.SUFFIXES) & set(media.VIDEO_SUFFIXES)
