"""What happens in the wild is seeded, stays a picture, and keeps a grey one grey."""

import numpy as np
import pytest
from skimage.data import astronaut

from seglib import perturbation


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
