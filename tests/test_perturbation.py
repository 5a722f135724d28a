"""Perturbations are seeded, graded, exact at level 0, and what their sources say they are."""

import errno

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.data import astronaut

from seglib import perturbation, recipe, video
from seglib.errors import UnknownName
from seglib.faces import Face, NotBytes
from seglib.files import CannotWrite
from seglib.perturbation import KINDS, Perturbation

BOX = np.array([30.0, 20.0, 110.0, 120.0])
OF_PICTURES = [kind for kind in KINDS if kind != perturbation.JITTER]


@pytest.fixture
def face():
    return np.ascontiguousarray(astronaut()[:160, 150:290])


@pytest.mark.parametrize("seed", range(8))
def test_a_treated_picture_is_a_picture_of_the_same_size(face, seed):
    found = perturbation.wild(face, seed)
    assert (found.shape, found.dtype) == (face.shape, np.uint8)
    np.testing.assert_array_equal(found, perturbation.wild(face, seed))
    # Nobody would take it for another picture.
    assert np.abs(found.astype(float) - face).mean() < 25


def test_seeds_differ_and_most_change_something(face):
    found = [perturbation.wild(face, (3, number)) for number in range(20)]
    assert len({one.tobytes() for one in found}) > 15
    assert sum((one != face).any() for one in found) > 15


@pytest.mark.parametrize("seed", range(12))
def test_a_grey_picture_stays_grey(face, seed):
    grey = np.repeat(face.mean(-1).astype(np.uint8)[..., None], 3, axis=2)
    found = perturbation.wild(grey, seed).astype(int)
    assert np.abs(found - found[..., :1]).max() <= 1  # JPEG rounds its colours


def test_the_input_is_left_alone(face):
    before = face.copy()
    for seed in range(8):
        perturbation.wild(face, seed)
    np.testing.assert_array_equal(face, before)


def test_more_compression_and_less_scale_lose_more(face):
    def lost(image):
        return np.abs(image.astype(float) - face).mean()

    qualities = [lost(perturbation.jpeg(face, quality)) for quality in (95, 60, 20)]
    assert qualities == sorted(qualities)
    scales = [lost(perturbation.rescaled(face, scale)) for scale in (0.9, 0.5, 0.2)]
    assert scales == sorted(scales)
    assert perturbation.rescaled(face[:9, :9], 0.01).shape == (9, 9, 3)


# --- kinds and levels


def changed(image, kind, level, seed=0):
    return Perturbation(kind, level).picture(image, seed, BOX)


def distance(one, other):
    return np.abs(one.astype(float) - other).mean()


def test_a_recipe_knows_every_kind_and_level():
    assert tuple(KINDS) == recipe.KINDS
    assert {len(kind.levels) for kind in KINDS.values()} == {len(recipe.LEVELS)}
    for decision in recipe.PERTURBATIONS[1:]:
        assert str(Perturbation.of(decision)) == decision
    assert str(Perturbation.of(recipe.UNTOUCHED)) == recipe.UNTOUCHED


@pytest.mark.parametrize("decision", ["jpg:3", "jpeg", "jpeg:6", "jpeg:-1", "none:1"])
def test_another_name_or_level_is_refused(decision):
    with pytest.raises(UnknownName, match="perturbation"):
        Perturbation.of(decision)
    with pytest.raises(UnknownName, match="a level of 1 to 5"):
        recipe.demo().but(perturbation=decision)


@pytest.mark.parametrize(("kind", "level"), [("jpeg", -1), ("jpeg", 6), ("jpg", 3), ("jpeg", 3.5)])
def test_no_other_kind_or_level_can_be_made(kind, level):
    with pytest.raises(UnknownName, match="a level of 1 to 5"):
        Perturbation(kind, level)


@pytest.mark.parametrize("kind", OF_PICTURES)
def test_what_is_no_picture_in_bytes_is_refused(face, kind):
    for wrong in (face / 255, face[..., 0], face.astype(int)):
        with pytest.raises(NotBytes):
            changed(wrong, kind, 2)


def test_seven_kinds_have_the_published_parameters():
    """EndlessSora/DeeperForensics-1.0, perturbation/add_distortion_to_video.py."""
    published = {
        "saturation": (0.4, 0.3, 0.2, 0.1, 0.0),
        "contrast": (0.85, 0.725, 0.6, 0.475, 0.35),
        "blocks": (16, 32, 48, 64, 80),
        "noise": (0.001, 0.002, 0.005, 0.01, 0.05),
        "blur": (7, 9, 13, 17, 21),
        "pixelation": (2, 3, 4, 5, 6),
        "h264": (30, 32, 35, 38, 40),
    }
    assert {name: KINDS[name].levels for name in perturbation.DEEPERFORENSICS} == published


@pytest.mark.parametrize("kind", KINDS)
def test_level_nought_is_exact(face, kind):
    assert changed(face, kind, 0) is face
    found = Face(BOX, None, 1.0)
    assert Perturbation(kind, 0).face(found, 0) is found


@pytest.mark.parametrize("kind", OF_PICTURES)
def test_every_level_is_a_picture_and_takes_more_away(face, kind):
    before = face.copy()
    found = [changed(face, kind, level) for level in recipe.LEVELS]
    assert all((one.shape, one.dtype) == (face.shape, np.uint8) for one in found)
    np.testing.assert_array_equal(face, before)
    again = [changed(face, kind, level) for level in recipe.LEVELS]
    np.testing.assert_array_equal(found, again)
    lost = [distance(one, face) for one in found]
    assert 0 < lost[0] < lost[-1]
    if kind != "screenshot":  # whose aliases come and go with the scale
        assert lost == sorted(lost)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].drawn])
def test_what_is_drawn_follows_the_seed(face, kind):
    def drawn(seed):
        change, found = Perturbation(kind, 3), Face(BOX, None, 1.0)
        return change.picture(face, seed, BOX).tobytes(), tuple(change.face(found, seed).box)

    assert drawn((1, 2)) == drawn((1, 2)) != drawn((1, 3))


@given(
    image=arrays.arrays(np.uint8, (17, 23, 3)),
    kind=st.sampled_from([kind for kind in OF_PICTURES if kind != "h264"]),
    level=st.sampled_from(recipe.LEVELS),
)
@settings(max_examples=150)
def test_any_picture_stays_one(image, kind, level):
    found = Perturbation(kind, level).picture(image, 0, np.array([-5.0, 3.0, 40.0, 30.0]))
    assert (found.shape, found.dtype) == (image.shape, np.uint8)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 9, 3), (64, 7, 3)])
@pytest.mark.parametrize("kind", OF_PICTURES)
def test_a_tiny_picture_stays_one(kind, shape):
    image = np.full(shape, 90, np.uint8)
    assert changed(image, kind, 5).shape == shape


# --- against what the sources say


def test_without_colour_only_luma_is_left(face):
    grey = changed(face, "saturation", 5)
    assert np.ptp(grey, axis=-1).max() == 0
    luma = face @ [0.299, 0.587, 0.114]
    assert np.abs(grey[..., 0] - luma).max() <= 0.51
    np.testing.assert_array_equal(changed(grey, "saturation", 1), grey)


def test_contrast_is_a_factor(face):
    assert np.abs(changed(face, "contrast", 2) - face * 0.725).max() <= 0.51


@pytest.mark.parametrize(("level", "count"), [(1, 16), (5, 80)])
def test_blocks_are_as_many_as_the_level_says_on_256_pixels(level, count):
    white = np.full((256, 400, 3), 255, np.uint8)
    one, *others = (changed(white, "blocks", level, seed) for seed in range(8))
    covered = (np.stack([one, *others]) == 128).all(-1).sum((1, 2))
    assert covered.max() <= 64 * count  # fewer where blocks overlap
    assert covered.mean() > 0.9 * 64 * count * (1 - 64 * count / 2 / 256 / 400)


def test_blocks_of_a_level_are_among_those_of_the_next():
    white = np.full((300, 300, 3), 255, np.uint8)
    few, more = ((changed(white, "blocks", level) == 128) for level in (2, 3))
    assert (few <= more).all()
    assert few.sum() < more.sum()


@pytest.mark.parametrize("level", [1, 3])  # above, much of it is clipped
def test_noise_has_the_variance_that_the_source_adds(level):
    """In its studio range of 219 steps, after which it stretches luma back to 255."""
    grey = np.full((200, 300, 3), 128, np.uint8)
    noise = changed(grey, "noise", level).astype(np.float32)
    luma = cv2.cvtColor(noise, cv2.COLOR_RGB2GRAY)
    expected = np.sqrt(KINDS["noise"].levels[level - 1]) * 255 * 255 / 219
    assert luma.std() == pytest.approx(expected, rel=0.03)


def test_blur_is_opencvs_gaussian(face):
    np.testing.assert_array_equal(changed(face, "blur", 1), cv2.GaussianBlur(face, (7, 7), 7 / 6))


def test_h264_is_what_a_video_file_gives(face, tmp_path):
    even = face[:160, :140]
    video.write(tmp_path / "one.mp4", [even], crf=35)
    ((_, expected),) = video.read(tmp_path / "one.mp4", [0])
    np.testing.assert_array_equal(changed(even, "h264", 3), expected)
    odd = changed(face[:159, :139], "h264", 3)
    assert odd.shape == (159, 139, 3)
    assert distance(odd, face[:159, :139]) < 10


def test_an_occlusion_covers_its_share_of_the_face(face):
    box = np.array([40.0, 40.0, 100.0, 120.0])
    white = np.zeros((400, 400, 3), np.uint8)
    white[::2] = 255  # so that the mean is no value of the picture
    for seed in range(20):
        covered = (Perturbation("occlusion", 3).picture(white, seed, box + 100) != white).any(-1)
        assert covered.sum() == pytest.approx(0.15 * 60 * 80, rel=0.06)
        rows, columns = np.nonzero(covered)
        assert 140 <= columns.mean() <= 200
        assert 140 <= rows.mean() <= 220


def test_without_a_face_nothing_is_covered(face):
    assert Perturbation("occlusion", 5).picture(face, 0, None) is face


@given(seed=st.integers(0, 10**6), level=st.sampled_from(recipe.LEVELS))
def test_jitter_moves_and_scales_a_box_within_its_share(seed, level):
    found = Perturbation("jitter", level).face(Face(BOX, None, 1.0), seed)
    share, side = KINDS["jitter"].levels[level - 1], 100
    assert np.abs((found.box[:2] + found.box[2:] - BOX[:2] - BOX[2:]) / 2).max() <= share * side
    size = (found.box[2:] - found.box[:2]) / (BOX[2:] - BOX[:2])
    assert size[0] == pytest.approx(size[1])
    assert abs(size[0] - 1) <= share + 1e-9


# --- whole videos


def moving(face, count=9):
    return [np.ascontiguousarray(np.roll(face, 2 * n, axis=1)[:160, :140]) for n in range(count)]


def test_a_video_is_reencoded_whole(face, tmp_path):
    path = tmp_path / "clip.mp4"
    video.write(path, moving(face), crf=10)
    change = Perturbation("h264", 5)
    assert change.reencodes(path)
    assert not Perturbation("jpeg", 5).reencodes(path)
    with change.reencoded(path) as copy:
        assert video.length(copy) == 9
        worse = dict(video.read(copy, range(9)))
    assert not copy.parent.exists()
    for index, image in video.read(path, range(9)):
        assert 1 < distance(worse[index], image) < 30


def test_a_video_with_a_damaged_frame_is_not_reencoded_around_it(face, tmp_path):
    path = tmp_path / "clip.ts"
    video.write(path, moving(face, 40), crf=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(content)
    with pytest.raises(video.DamagedFrame), Perturbation("h264", 1).reencoded(path):
        pass


@pytest.mark.parametrize(("height", "width"), [(97, 127), (8, 1)])
def test_odd_sides_become_even_and_nothing_is_cut(face, tmp_path, height, width):
    path = tmp_path / "odd.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr24"
        image = np.ascontiguousarray(face[:height, :width])
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    with Perturbation("h264", 1).reencoded(path) as copy:
        for _, found in video.read(copy, range(3)):
            assert found.shape == perturbation.even(image).shape
            assert distance(found[:height, :width], image) < 15


def test_no_room_for_it_is_not_the_videos_fault(face, tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    video.write(path, moving(face), crf=10)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(video, "write", full)
    with pytest.raises(CannotWrite, match="No space left"), Perturbation("h264", 1).reencoded(path):
        pass


def test_a_picture_or_a_folder_is_not_reencoded_as_a_file(tmp_path):
    (tmp_path / "frame.png").touch()
    assert not any(Perturbation("h264", 1).reencodes(p) for p in (tmp_path, tmp_path / "frame.png"))
