"""Videos in: real H.264, whole, cut, damaged, turned, and the folders that stand for videos."""

import os
import struct
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from samples import sound

from seglib import media, video
from seglib.errors import SeglibError
from seglib.video import DamagedFrame, EmptyFolder, UnreadableVideo, VideoTooLarge

HEIGHT, WIDTH = 96, 128


def numbered(count):
    """Frames whose brightness says which one they are: 3 + 4 * index."""
    return [np.full((HEIGHT, WIDTH, 3), 3 + 4 * i, np.uint8) for i in range(count)]


def noisy(count):
    """Frames that are hard to compress, so that damage shows."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(count)]


@pytest.fixture
def clip(tmp_path):
    """Sixty frames with B-frames, under a name with spaces and beyond ASCII."""
    path = tmp_path / "ein Gesicht · 顔 ü.mp4"
    video.write(path, numbered(60))
    return path


def which(image):
    return round((float(image.mean()) - 3) / 4)


# -- which frames ------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.integers(1, 200))
def test_indices_are_spread_over_the_whole(total, count):
    chosen = video.evenly(total, count)
    assert len(chosen) == min(total, count)
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < total
    # Mirrored in time they are the same up to rounding: neither end is preferred.
    assert abs((total - 1 - chosen[-1]) - chosen[0]) <= 1
    steps = np.diff(chosen)
    assert not len(steps) or steps.max() - steps.min() <= 1


def test_frames_are_those_asked_for_in_the_order_of_the_film(clip):
    assert video.length(clip) == 60
    chosen = video.evenly(60, 8)
    found = list(video.read(clip, chosen))
    assert [index for index, _ in found] == chosen
    assert [which(image) for _, image in found] == chosen
    assert {image.shape for _, image in found} == {(HEIGHT, WIDTH, 3)}
    assert {image.dtype for _, image in found} == {np.dtype(np.uint8)}


def test_a_short_video_gives_all_it_has(tmp_path):
    video.write(tmp_path / "three.mp4", numbered(3))
    chosen = video.evenly(video.length(tmp_path / "three.mp4"), 32)
    assert [which(image) for _, image in video.read(tmp_path / "three.mp4", chosen)] == [0, 1, 2]


def test_odd_sides_lose_one_pixel_and_no_more(tmp_path):
    video.write(tmp_path / "odd.mp4", [np.zeros((65, 91, 3), np.uint8)] * 2)
    ((_, image),) = video.read(tmp_path / "odd.mp4", [0])
    assert image.shape == (64, 90, 3)


def test_more_compression_is_a_smaller_file(tmp_path):
    for crf in (23, 40):
        video.write(tmp_path / f"{crf}.mp4", noisy(5), crf=crf)
    assert (tmp_path / "40.mp4").stat().st_size < (tmp_path / "23.mp4").stat().st_size / 2


WRITE = """
import os, sys
import skimage.data
from seglib import video
if len(sys.argv) > 2:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
astronaut = skimage.data.astronaut()
video.write(sys.argv[1], [astronaut[i : i + 336, 2 * i : 2 * i + 276] for i in range(8)])
"""


def test_the_same_pictures_are_the_same_file_whatever_memory_holds_and_on_any_cores(tmp_path):
    """glibc fills fresh memory with what MALLOC_PERTURB_ says; elsewhere three runs are alike."""
    alone = ["alone"] * hasattr(os, "sched_setaffinity")
    for filling, more in (("1", []), ("170", []), ("170", alone)):
        command = [sys.executable, "-c", WRITE, tmp_path / f"{filling}{len(more)}.mp4", *more]
        subprocess.run(command, check=True, env=os.environ | {"MALLOC_PERTURB_": filling})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def mark_rotation(path, degrees):
    """Write into the track's header (ISO 14496-12, tkhd) how far a player turns it clockwise."""
    cos, sin = (round(f(np.deg2rad(degrees))) for f in (np.cos, np.sin))
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    unity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    assert content[start : start + 36] == unity
    turned = (cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    content[start : start + 36] = struct.pack(">9i", *turned)
    path.write_bytes(content)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_phone_gives_upright_frames(tmp_path, degrees):
    upright = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    upright[: HEIGHT // 2, : WIDTH // 2] = 255  # bright in the upper left
    stored = np.ascontiguousarray(np.rot90(upright, degrees // 90))
    turned = tmp_path / "turned.mp4"
    video.write(turned, [stored] * 3)
    mark_rotation(turned, degrees)
    ((_, image),) = video.read(turned, [1])
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).mean() < 8


# -- what stands for a video -------------------------------------------------------------------


def test_a_folder_of_frames_is_read_in_natural_order(tmp_path):
    for i, image in enumerate(numbered(12)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / "._3.png").write_bytes(b"what macOS leaves behind")
    assert video.length(tmp_path) == 12
    found = list(video.read(tmp_path, [2, 9, 10]))
    assert [(index, which(image)) for index, image in found] == [(2, 2), (9, 9), (10, 10)]


def test_a_bad_picture_in_a_folder_is_its_own_error(tmp_path):
    for i, image in enumerate(numbered(3)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    (tmp_path / "1.png").write_bytes(b"<html>")
    first, (_, error), last = video.read(tmp_path, [0, 1, 2])
    assert isinstance(error, media.UnreadableImage)
    assert (which(first[1]), which(last[1])) == (0, 2)


def test_a_picture_is_a_video_of_one_frame(tmp_path):
    cv2.imwrite(str(tmp_path / "one.PNG"), numbered(1)[0])
    assert video.length(tmp_path / "one.PNG") == 1
    ((index, image),) = video.read(tmp_path / "one.PNG", [0])
    assert (index, which(image)) == (0, 0)


def test_an_empty_folder_says_what_belongs_there(tmp_path):
    with pytest.raises(EmptyFolder, match="expected the frames"):
        video.length(tmp_path)


@pytest.mark.parametrize("kind", ["folder", "picture", "video"])
def test_a_frame_beyond_the_end_is_an_error_in_its_place(tmp_path, kind):
    path = {"folder": tmp_path / "frames", "picture": tmp_path / "a.png",
            "video": tmp_path / "a.mp4"}[kind]  # fmt: skip
    if kind == "video":
        video.write(path, numbered(1))
    else:
        (tmp_path / "frames").mkdir()
        cv2.imwrite(str(path / "0.png" if kind == "folder" else path), numbered(1)[0])
    (_, image), (index, error) = video.read(path, [0, 7])
    assert (which(image), index) == (0, 7)
    assert isinstance(error, UnreadableVideo)
    assert "frame 7 cannot be had" in str(error)


# -- what is wrong with a file -----------------------------------------------------------------


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", bytes(5000), b"RIFF1234AVI "],
    ids=["empty", "a web page", "zeros", "a header alone"],
)  # fmt: skip
def test_what_is_no_video_is_said_at_once(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4 is no whole video"):
        video.length(path)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4 is no whole video"):
        list(video.read(path, [0]))


def test_a_missing_file_and_a_missing_folder(tmp_path):
    with pytest.raises(media.MissingFile, match="does not exist"):
        video.length(tmp_path / "gone.mp4")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clip.mp4")
    for look in (video.length, lambda path: next(video.read(path, [0]))):
        with pytest.raises(media.NotAFile, match="a device or a pipe"):
            look(tmp_path / "clip.mp4")


def test_a_name_that_no_file_can_have_is_missing(tmp_path):
    with pytest.raises(media.MissingFile):
        video.length(tmp_path / f"{'x' * 300}.mp4")


def test_sound_alone_is_no_video(tmp_path):
    path = sound(tmp_path / "sound.mp4")
    with pytest.raises(UnreadableVideo, match="no picture"):
        video.length(path)


def test_a_codec_that_nobody_knows_is_no_video(clip, tmp_path):
    path = tmp_path / "odd.mp4"
    path.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(UnreadableVideo, match="codec"):
        video.length(path)


def test_a_film_that_breaks_off_keeps_its_beginning(tmp_path):
    """In MPEG-TS, which needs no index at its end, a cut file opens and ends early."""
    path = tmp_path / "whole.ts"
    video.write(path, noisy(40))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    found = [error for _, error in video.read(path, [0, 39])]
    assert isinstance(found[0], np.ndarray)
    assert isinstance(found[1], UnreadableVideo)
    assert "frame 39" in str(found[1])


def test_damage_is_told_and_never_painted_over(tmp_path):
    path = tmp_path / "damaged.mp4"
    video.write(path, noisy(40))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = np.random.default_rng(1).bytes(3000)
    path.write_bytes(content)
    found = [image for _, image in video.read(path, video.evenly(40, 40))]
    assert len(found) == 40
    bad = [image for image in found if isinstance(image, SeglibError)]
    assert bad
    assert {type(error) for error in bad} <= {DamagedFrame, UnreadableVideo}
    assert isinstance(found[0], np.ndarray)


@pytest.mark.parametrize("place", [0.7, 0.8, 0.9])
def test_what_is_made_from_a_damaged_frame_is_not_used_either(tmp_path, place):
    """Decoders mark the frame that was hit, and none of those that are made from it."""
    path = tmp_path / "damaged.mp4"
    scene = np.tile(skimage.data.astronaut(), (1, 2, 1))
    video.write(path, [scene[100:300, 3 * i : 3 * i + 300] for i in range(60)])
    sound = [image for _, image in video.read(path, range(60))]
    content = bytearray(path.read_bytes())
    hit = int(place * len(content))
    content[hit : hit + 40] = np.random.default_rng(2).bytes(40)
    path.write_bytes(content)
    found = [image for _, image in video.read(path, range(60))]
    bad = [i for i, image in enumerate(found) if isinstance(image, SeglibError)]
    assert 0 < bad[0] < bad[-1] == 59  # to the end: there is one key frame, the first
    assert bad == list(range(bad[0], 60))
    assert all((found[i] == sound[i]).all() for i in range(bad[0]))
    assert [i for i, _ in video.read(path, bad[::7])] == bad[::7]


def test_a_key_frame_ends_the_damage(tmp_path):
    """Two films of the same size in one stream, of which the first is damaged."""
    parts = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}.ts"
        video.write(path, noisy(12))
        parts.append(bytearray(path.read_bytes()))
    middle = len(parts[0]) // 2
    parts[0][middle : middle + 400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(b"".join(parts))
    found = [image for _, image in video.read(path, range(24))]
    assert any(isinstance(image, DamagedFrame) for image in found[:12])
    assert all(isinstance(image, np.ndarray) for image in found[-12:])


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_title_that_is_no_text_is_no_matter(tmp_path, suffix):
    """Old cameras wrote Latin-1."""
    path = tmp_path / f"titled{suffix}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Groesse 17"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in numbered(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert b"Groesse 17" in content
    path.write_bytes(content.replace(b"Groesse 17", "Größen, 17".encode("latin-1")))
    assert video.length(path) == 5
    assert [which(image) for _, image in video.read(path, [0, 4])] == [0, 4]


# -- what was made to do harm --------------------------------------------------------------------

SESSION = """\
v=0
o=- 0 0 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=video 5004 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
OTHERS = {  # what FFmpeg takes for a film, and what that would have it read
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n",
    "script.mp4": "ffconcat version 1.0\nfile secret.ts\n",
    "session.mp4": SESSION,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_names_other_files_or_addresses_is_no_film(tmp_path, name):
    video.write(tmp_path / "secret.ts", numbered(5))
    assert video.length(tmp_path / "secret.ts") == 5
    path = tmp_path / name
    path.write_text(OTHERS[name])
    with pytest.raises(UnreadableVideo, match="does not open"):
        video.length(path)
    with pytest.raises(UnreadableVideo, match="does not open"):
        list(video.read(path, [0]))


def test_ffmpeg_by_itself_would_follow_them(tmp_path):
    """Else the test above would prove nothing."""
    video.write(tmp_path / "secret.ts", numbered(5))
    for name in ("list.m3u8", "script.mp4"):
        (tmp_path / name).write_text(OTHERS[name])
        with av.open(str(tmp_path / name)) as followed:
            assert sum(packet.size > 0 for packet in followed.demux(video=0)) == 5


def test_a_name_with_a_colon_is_a_name(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("10:30.mp4", "concat:a.mp4", "pipe:0"):
        clip.rename(name)
        assert video.length(name) == 60
        Path(name).rename(clip)


def test_a_film_that_grows_midway_stays_within_the_limit(tmp_path, monkeypatch):
    """The other size is in the stream itself, which no header announces."""
    small, large = tmp_path / "small.ts", tmp_path / "large.ts"
    video.write(small, numbered(20))
    video.write(large, [np.tile(image, (4, 4, 1)) for image in numbered(20)])
    grown = tmp_path / "grown.ts"
    grown.write_bytes(small.read_bytes() + large.read_bytes())
    sizes = [image.shape for _, image in video.read(grown, [0, 30])]
    assert sizes == [(HEIGHT, WIDTH, 3), (4 * HEIGHT, 4 * WIDTH, 3)]
    monkeypatch.setattr(video, "MAX_PIXELS", HEIGHT * WIDTH)
    first, error = (image for _, image in video.read(grown, [0, 30]))
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert isinstance(error, UnreadableVideo)


def test_a_film_without_end_is_refused(clip, monkeypatch):
    monkeypatch.setattr(video, "MAX_FRAMES", 59)
    with pytest.raises(VideoTooLarge, match="has more than 59 frames; expected as many at most"):
        video.length(clip)
    monkeypatch.setattr(video, "MAX_FRAMES", 60)
    assert video.length(clip) == 60


def test_decoding_that_takes_too_long_ends(clip, monkeypatch):
    """By a clock that goes on ten minutes with every look at it."""
    monkeypatch.setattr(video, "time", SimpleNamespace(monotonic=count(0, 600).__next__))
    found = dict(video.read(clip, [0, 4, 40, 59]))
    assert [which(found[index]) for index in (0, 4)] == [0, 4]
    for index in (40, 59):
        assert isinstance(found[index], VideoTooLarge)
        assert "has 4,200 s of decoding; expected at most 3,600 s" in str(found[index])
    with pytest.raises(VideoTooLarge, match="of decoding"):
        video.length(clip)


def test_a_huge_frame_is_refused_from_the_header(clip, monkeypatch):
    monkeypatch.setattr(video, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(media.ImageTooLarge, match=f"{WIDTH} x {HEIGHT}"):
        video.length(clip)
