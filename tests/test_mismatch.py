"""Self-blends of real faces: only the region changes, by a seed, and a code loses detail."""

import numpy as np
import pytest

from seglib import assets, demo, faces, forgery, mismatch, recipe
from seglib.forgery import NothingToForge
from seglib.media import read_image
from seglib.mismatch import Codec


@pytest.fixture(scope="module")
def looked():
    detector = faces.load("mesh")
    images = [read_image(one.path) for one in assets.pictures("csu")[:24]]
    return [(image, faces.largest(image, detector)) for image in images]


@pytest.mark.parametrize("part", forgery.OUTLINES)
@pytest.mark.parametrize("seed", range(4))
def test_a_self_blend_is_a_picture_and_its_mask_is_near_the_part(looked, part, seed):
    image, face = looked[0]
    found = mismatch.self_blend(image, face, part, seed)
    assert (found.image.shape, found.image.dtype) == (image.shape, np.uint8)
    rows, columns = np.nonzero(found.mask)
    points = np.concatenate([face.mesh[list(ring)] for ring in forgery.outlines(part)])
    reach = 0.35 * face.extent
    assert columns.min() > points[:, 0].min() - reach
    assert columns.max() < points[:, 0].max() + reach
    assert rows.min() > points[:, 1].min() - reach
    assert rows.max() < points[:, 1].max() + reach
    again = mismatch.self_blend(image, face, part, seed)
    np.testing.assert_array_equal(found.image, again.image)


def test_seeds_differ(looked):
    found = {mismatch.self_blend(*looked[0], "face", seed).image.tobytes() for seed in range(6)}
    assert len(found) == 6


def test_a_grey_face_stays_grey(looked):
    for seed in range(10):
        image = mismatch.self_blend(*looked[1], "face", seed).image.astype(int)
        assert np.abs(image - image[..., :1]).max() <= 2


def test_a_code_of_few_numbers_loses_more(looked):
    pictures, found = zip(*looked[1:], strict=True)
    codec, (image, face) = Codec.of(pictures, found), looked[0]

    def lost(kept, detail=0.0):
        coded, inside = codec(image, face, kept, detail)
        assert coded.shape == image.shape
        return np.abs(coded.astype(float) - image)[inside].mean()

    losses = [lost(kept) for kept in (1, 5, 20)]
    assert losses == sorted(losses, reverse=True)
    assert lost(20, detail=0.7) < lost(20)
    # Nothing is lost but what warping there and back loses.
    assert lost(20, detail=1.0) < 0.3 * lost(20)


def test_who_is_coded_keeps_their_outline_and_loses_their_skin(looked):
    pictures, found = zip(*looked[1:], strict=True)
    codec, (image, face) = Codec.of(pictures, found), looked[0]
    forged = mismatch.recoded(image, face, codec, 0)
    assert forged.mask.any()
    x0, y0, x1, y1 = face.box.astype(int)
    outside = np.ones(image.shape[:2], bool)
    outside[max(y0 - 40, 0) : y1 + 40, max(x0 - 40, 0) : x1 + 40] = False
    np.testing.assert_array_equal(forged.image[outside], image[outside])


def test_without_a_mesh_nothing_is_forged(looked):
    image, _ = looked[0]
    bare = faces.load("whole")(image)[0]
    with pytest.raises(NothingToForge):
        mismatch.self_blend(image, bare, "mouth")


def test_the_demos_recipe_finds_every_face(looked):
    assert recipe.demo().detector == "mesh"
    assert len(demo.people("csu")) == 173
    assert all(face.mesh is not None for _, face in looked)
