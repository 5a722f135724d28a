"""Clips of the demo's faces: H.264 that the real reader reads, forged where it says so."""

import numpy as np
import pytest

from seglib import clips, faces, video


@pytest.fixture(scope="module")
def detector():
    return faces.load("mesh")


def frames(path):
    return np.stack([image for _, image in video.read(path, range(video.length(path)))])


def test_a_clip_moves_shows_a_face_and_is_the_same_each_time(tmp_path, detector):
    clips.write(tmp_path / "a" / "1.mp4", 1, detector, frames=6)
    clips.write(tmp_path / "2.mp4", 1, detector, frames=6)
    assert (tmp_path / "a" / "1.mp4").read_bytes() == (tmp_path / "2.mp4").read_bytes()
    one = frames(tmp_path / "2.mp4")
    assert one.shape == (6, 336, 276, 3)
    assert np.abs(one[0].astype(int) - one[5]).mean() > 1
    assert all(len(detector(image)) == 1 for image in one[::5])


def test_a_forged_clip_differs_at_the_part_and_hardly_elsewhere(tmp_path, detector):
    clips.write(tmp_path / "real.mp4", 1, detector, frames=1)
    clips.write(tmp_path / "fake.mp4", 1, detector, part="mouth", frames=1)
    (real,), (fake,) = frames(tmp_path / "real.mp4"), frames(tmp_path / "fake.mp4")
    face = faces.largest(real, detector)
    corners = face.points[3:]
    (x0, y0), (x1, y1) = corners.min(0).astype(int) - 10, corners.max(0).astype(int) + 10
    change = np.abs(real.astype(int) - fake).mean(-1)
    assert change[y0:y1, x0:x1].mean() > 10 * change[: y0 - 40].mean()


def test_people_are_different_people(tmp_path, detector):
    for person in (0, 1):
        clips.write(tmp_path / f"{person}.mp4", person, detector, frames=1)
    first, second = frames(tmp_path / "0.mp4"), frames(tmp_path / "1.mp4")
    assert np.abs(first.astype(int) - second).mean() > 10


def test_a_lender_can_be_named(tmp_path, detector):
    clips.write(tmp_path / "next.mp4", 0, detector, part="mouth", frames=1)
    for lender in (1, 2):
        named = tmp_path / f"{lender}.mp4"
        clips.write(named, 0, detector, part="mouth", frames=1, lender=lender)
    same, one, other = (frames(tmp_path / f"{name}.mp4").astype(int) for name in ("next", 1, 2))
    assert (same == one).all()
    assert np.abs(same - other).max() > 1
