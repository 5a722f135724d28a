"""What replaces pixels: nothing else changes, nothing flows across, and grey stays grey."""

import numpy as np
import pytest
import skimage
from hypothesis import given
from hypothesis import strategies as st

from seglib.counterfactual import BLUR, CHANGES, SUBSTITUTES, NoOtherFace, WrongSize, substituted
from seglib.errors import UnknownName

FACE = np.ascontiguousarray(skimage.data.astronaut()[20:220, 120:320])
OTHER = np.ascontiguousarray(FACE[::-1])  # any picture of the same size
PART = np.zeros((200, 200), bool)
PART[110:140, 70:150] = True
GREY = FACE[..., :1].repeat(3, -1)


def replaced(image, where, how, seed=0, other=OTHER):
    return substituted(image, where, how, np.random.default_rng(seed), other)


@st.composite
def pictures(draw):
    """Random picture, other face and mask, of one size."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    image, other = rng.integers(0, 256, (2, height, width, 3)).astype(np.uint8)
    return image, other, rng.random((height, width)) < draw(st.floats(0, 1))


# -- what holds for every substitute -----------------------------------------------------------


@given(pictures(), st.sampled_from(SUBSTITUTES))
def test_nothing_else_changes(case, how):
    image, other, where = case
    before = image.copy()
    after = replaced(image, where, how, other=other)
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(after[~where], image[~where])
    np.testing.assert_array_equal(image, before)


@given(pictures(), pictures(), st.sampled_from(SUBSTITUTES))
def test_what_is_put_there_never_depends_on_what_stays(case, another, how):
    image, other, where = case
    changed = np.where(where[..., None], image, np.resize(another[0], image.shape))
    np.testing.assert_array_equal(
        replaced(image, where, how, other=other)[where],
        replaced(changed, where, how, other=other)[where],
    )


@given(pictures(), st.sampled_from(SUBSTITUTES))
def test_a_grey_picture_stays_grey_to_the_last_bit(case, how):
    image, other, where = (one[..., :1].repeat(3, -1) if one.ndim == 3 else one for one in case)
    after = replaced(image, where, how, other=other)
    np.testing.assert_array_equal(after, after[..., :1].repeat(3, -1))


@pytest.mark.parametrize("how", SUBSTITUTES)
@pytest.mark.parametrize("where", [PART, ~PART], ids=["part", "all but the part"])
def test_a_real_picture_is_replaced_on_either_side(how, where):
    after = replaced(FACE, where, how)
    assert (after != FACE).any(-1)[where].mean() > 0.9
    grey = replaced(GREY, where, how, other=GREY[::-1])
    assert (grey == grey[..., :1]).all()


@pytest.mark.filterwarnings("error")  # nothing has no mean
@pytest.mark.parametrize("how", SUBSTITUTES)
def test_nothing_to_replace_leaves_the_picture(how):
    after = replaced(FACE, np.zeros_like(PART), how)
    np.testing.assert_array_equal(after, FACE)
    assert after is not FACE


@pytest.mark.parametrize("how", SUBSTITUTES)
def test_the_generator_alone_decides_between_two_substitutes(how):
    np.testing.assert_array_equal(replaced(FACE, PART, how, 1), replaced(FACE, PART, how, 1))
    differs = (replaced(FACE, PART, how, 1) != replaced(FACE, PART, how, 2)).any()
    assert differs == (how in ("noise", "shuffled"))


def test_each_substitute_is_put_on_either_side_once():
    assert len(CHANGES) == 2 * len(SUBSTITUTES)
    assert set(CHANGES) == {(side, how) for how in SUBSTITUTES for side in ("inside", "outside")}


# -- what each one is --------------------------------------------------------------------------


def test_the_mean_is_that_of_what_it_replaces():
    (colour,) = np.unique(replaced(FACE, PART, "mean")[PART], axis=0)
    np.testing.assert_allclose(colour, FACE[PART].mean(0), atol=0.5)


@pytest.mark.parametrize("level", [0, 60, 255])
@pytest.mark.parametrize("how", [how for how in SUBSTITUTES if how != "other"])
def test_a_flat_region_stays_as_it_is(how, level):
    flat = FACE.copy()
    flat[PART] = level
    np.testing.assert_array_equal(replaced(flat, PART, how), flat)


def wave(length):
    """Grey stripes of that length in pixels, of amplitude 100."""
    column = 128 + 100 * np.cos(2 * np.pi * np.arange(600) / length)
    return np.round(np.broadcast_to(column[:, None], (600, 600, 3))).astype(np.uint8)


@pytest.mark.parametrize(("length", "left"), [(600, 0.82), (200, 1 / 6), (100, 0.001)])
def test_the_blur_leaves_of_a_wave_what_it_says(length, left):
    """A Gaussian leaves exp(-2 (pi sigma / length)^2)."""
    assert left == pytest.approx(np.exp(-2 * (np.pi * BLUR * 600 / length) ** 2), abs=0.003)
    before = wave(length)
    blurred = replaced(before, np.ones((600, 600), bool), "blur", other=None)
    # A column whose ends are far: the blur reaches four deviations.
    before, blurred = (one[240:360, 300, 0] - 128.0 for one in (before, blurred))
    assert (blurred @ before) / (before @ before) == pytest.approx(left, abs=0.01)


@given(pictures())
def test_the_blur_weighs_replaced_pixels_by_their_distance(case):
    image, _, where = case
    places, own = np.argwhere(where), image[where].astype(float)
    apart = ((places[:, None] - places) ** 2).sum(-1)
    weight = np.exp(-apart / (2 * (BLUR * max(where.shape)) ** 2))
    expected = weight @ own / weight.sum(1, keepdims=True)
    blurred = replaced(image, where, "blur", other=None)[where]
    np.testing.assert_allclose(blurred, expected, atol=1)  # OpenCV's kernel ends somewhere


def test_the_blur_keeps_light_and_shade_that_the_mean_does_not():
    light = np.linspace(40, 200, 200).round().astype(np.uint8)
    shaded = np.broadcast_to(light[:, None, None], (200, 200, 3))
    blurred = replaced(shaded, ~PART, "blur")
    assert (np.diff(blurred[:, 0, 0].astype(int)) >= 0).all()
    assert np.ptp(blurred[:, 0, 0]) > 100


def test_noise_has_the_mean_and_the_deviation_of_what_it_replaces():
    rng = np.random.default_rng(0)
    image = np.round(rng.normal((90, 120, 150), (10, 20, 30), (200, 200, 3))).astype(np.uint8)
    noise = replaced(image, PART, "noise")[PART].astype(float)
    np.testing.assert_allclose(noise.mean(0), image[PART].mean(0), atol=2)
    np.testing.assert_allclose(noise.std(0), image[PART].std(0), rtol=0.05)
    assert np.corrcoef(noise.T).min() > 0.99  # one draw a pixel
    neighbours = np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]
    assert abs(neighbours) < 0.1


def test_noise_beyond_black_and_white_is_black_and_white():
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[::2] = 255
    noise = replaced(stripes, PART, "noise")[PART]
    # A sixth of a normal distribution lies more than one deviation above its mean.
    assert (noise == 255).mean() == pytest.approx(1 / 6, abs=0.03)
    assert (noise == 0).mean() == pytest.approx(1 / 6, abs=0.03)


@given(pictures())
def test_shuffling_moves_whole_pixels_and_loses_none(case):
    image, _, where = case
    after = replaced(image, where, "shuffled", other=None)[where]
    order = [np.lexsort(pixels.T) for pixels in (after, image[where])]
    np.testing.assert_array_equal(after[order[0]], image[where][order[1]])


def test_the_other_face_is_taken_at_the_same_places():
    np.testing.assert_array_equal(replaced(FACE, PART, "other")[PART], OTHER[PART])


# -- what is refused ---------------------------------------------------------------------------


def test_an_unknown_substitute_is_refused_by_name():
    with pytest.raises(UnknownName, match="did you mean 'noise'"):
        replaced(FACE, PART, "nois")


def test_another_face_must_be_given_where_it_is_needed():
    with pytest.raises(NoOtherFace, match=r"\(200, 200, 3\)"):
        replaced(FACE, PART, "other", other=None)


@pytest.mark.parametrize("how", SUBSTITUTES)
def test_another_face_of_another_size_is_refused(how):
    with pytest.raises(WrongSize, match=r"\(100, 200, 3\) for a picture of shape \(200, 200, 3\)"):
        replaced(FACE, PART, how, other=OTHER[:100])


@pytest.mark.parametrize("where", [PART[:100], PART.astype(np.uint8), PART[..., None]])
def test_a_mask_that_does_not_fit_is_refused(where):
    with pytest.raises(WrongSize, match=r"expected bool of shape \(200, 200\)"):
        replaced(FACE, where, "mean")
