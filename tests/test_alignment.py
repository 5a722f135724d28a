"""The algebra of crop maps, and what warping must not do to pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from seglib import alignment

coordinates = st.floats(-1000, 1000)
points = npst.arrays(np.float64, (7, 2), elements=coordinates)
maps = st.builds(
    alignment.upright_square,
    centre=st.tuples(coordinates, coordinates).map(np.array),
    side=st.floats(1, 5000),
    angle=st.floats(-np.pi, np.pi),
    size=st.integers(1, 600),
)


@given(maps, points)
def test_there_and_back_is_where_we_were(matrix, points):
    there = alignment.transform(matrix, points)
    np.testing.assert_allclose(
        alignment.transform(alignment.inverse(matrix), there), points, atol=1e-6
    )


@given(
    st.tuples(coordinates, coordinates).map(np.array),
    st.floats(1, 5000),
    st.floats(-np.pi, np.pi),
    st.integers(1, 600),
)
def test_a_turned_square_becomes_the_crop(centre, side, angle, size):
    matrix = alignment.upright_square(centre, side, angle, size)
    right, down = (
        np.array([np.cos(angle), np.sin(angle)]),
        np.array([-np.sin(angle), np.cos(angle)]),
    )
    found = alignment.transform(
        matrix, np.stack([centre, centre + side / 2 * right, centre + side / 2 * down])
    )
    middle = (size - 1) / 2
    expected = np.array([[0, 0], [size / 2, 0], [0, size / 2]]) + middle
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(
    npst.arrays(np.uint8, (12, 15, 3)), st.integers(-8, 20), st.integers(-8, 20), st.integers(1, 12)
)
def test_a_whole_shift_is_slicing_and_beyond_the_border_the_edge_repeats(image, x, y, size):
    found = alignment.warp(image, np.array([[1.0, 0, -x], [0, 1.0, -y]]), size)
    padded = np.pad(image, ((40, 40), (40, 40), (0, 0)), mode="edge")
    np.testing.assert_array_equal(found, padded[40 + y : 40 + y + size, 40 + x : 40 + x + size])


@given(npst.arrays(np.uint8, (48, 48, 3)), st.sampled_from([3, 4, 6, 8, 12, 16]))
def test_shrinking_is_the_exact_mean_of_areas(image, step):
    size = 48 // step
    matrix = alignment.upright_square(np.array([23.5, 23.5]), 48, 0.0, size)
    areas = image.reshape(size, step, size, step, 3).mean(axis=(1, 3))
    assert np.abs(alignment.warp(image, matrix, size) - areas).max() <= 1


@given(st.floats(260, 1400), st.floats(-0.6, 0.6))
def test_shrinking_invents_no_texture(side, angle):
    board = np.indices((1000, 1000)).sum(0) % 2 * 255  # a checkerboard of single pixels
    board = np.repeat(board.astype(np.uint8)[..., None], 3, axis=2)
    matrix = alignment.upright_square(np.array([499.5, 499.5]), side, angle, 64)
    found = alignment.warp(board, matrix, 64)[4:-4, 4:-4]
    assert found.min() > 127 - 64
    assert found.max() < 128 + 64


@given(st.floats(20, 240), st.floats(-np.pi, np.pi))
def test_whatever_the_zoom_a_pixel_shows_the_place_that_the_map_says(side, angle):
    y, x = np.mgrid[:256, :256].astype(np.uint8)  # a picture whose colours are its coordinates
    image = np.stack([x, y, np.zeros_like(x)], axis=-1)
    matrix = alignment.upright_square(np.array([127.5, 127.5]), side, angle, 24)
    seen = alignment.warp(image, matrix, 24).astype(float)
    v, u = np.mgrid[:24, :24]
    place = alignment.transform(alignment.inverse(matrix), np.stack([u, v], axis=-1))
    inside = ((place > 12) & (place < 243)).all(axis=-1)
    assert inside.any()
    assert np.abs(seen[..., :2] - place)[inside].max() < 1.1


@pytest.mark.parametrize("shape", [(3, 2000), (2000, 3), (1, 1)])
def test_a_picture_thinner_than_a_shrinking_step_is_still_seen(shape):
    image = np.full((*shape, 3), 200, np.uint8)
    centre, side = np.array(shape[::-1]) / 2 - 0.5, max(shape)
    found = alignment.warp(image, alignment.upright_square(centre, side, 0.0, 16), 16)
    assert (found == 200).all()
