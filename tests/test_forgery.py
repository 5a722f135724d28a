"""Forgeries of real, unnamed research faces: where they change a picture, and where never."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from seglib import assets, faces, forgery, media
from seglib.errors import UnknownName
from seglib.forgery import NothingToForge, part_swap, self_blend

PARTS, BLENDS = tuple(forgery.OUTLINES), tuple(forgery.BLENDS)
BY_EYE = 1.2  # how much a seed may widen a margin
ORL, OTHER, CSU = ("orl", 0), ("orl", 155), ("csu", 60)


@cache
def portrait(dataset, number):
    image = media.read_image(assets.pictures(dataset)[number].path)
    return image, faces.largest(image, faces.load("mesh"))


def swap(target, source, part, blend="poisson", seed=0):
    return part_swap(*portrait(*target), *portrait(*source), part, blend, seed)


def forgeries(target, source):
    """Every way to forge a picture, by name."""
    for part in PARTS:
        for blend in BLENDS:
            yield f"{part}, {blend}", part, swap(target, source, part, blend)
        yield f"{part}, self-blend", part, self_blend(*portrait(*target), part)


def neighbourhood(face, part, shape):
    """Pixels within the widest margin of the part's outline."""
    outside = np.ones(shape[:2], np.uint8)
    for outline in forgery.OUTLINES[part]:
        cv2.fillPoly(outside, [np.round(face.mesh[list(outline)]).astype(np.int32)], 0)
    margin = max(forgery.MARGIN[part], 0) * BY_EYE * face.extent
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= margin + 1.5


def test_there_are_two_ways_to_blend_and_four_parts():
    assert BLENDS == ("poisson", "feathered")
    assert PARTS == ("mouth", "eyes", "nose", "face")


@pytest.mark.parametrize(
    ("target", "source"), [(ORL, OTHER), (CSU, ("csu", 3)), (CSU, ORL)], ids=["orl", "csu", "mixed"]
)
def test_the_mask_is_exactly_what_changed_and_stays_on_the_part(target, source):
    image, face = portrait(*target)
    before = image.copy()
    for name, part, fake in forgeries(target, source):
        assert fake.image.shape == image.shape, name
        assert fake.image.dtype == np.uint8, name
        assert fake.mask.dtype == bool, name
        np.testing.assert_array_equal(fake.mask, (fake.image != image).any(-1), name)
        near = neighbourhood(face, part, image.shape)
        assert not fake.mask[~near].any(), name
        assert fake.mask[near].mean() > 0.3, f"{name} hardly changes its part"
    np.testing.assert_array_equal(image, before)  # the target itself is left alone


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("blend", BLENDS)
def test_what_is_pasted_is_the_sources_part(part, blend):
    """The changed region takes the form of the lender: it correlates with it, moved there."""
    image, face = portrait(*ORL)
    source, lender = portrait(*OTHER)
    fake = swap(ORL, OTHER, part, blend)
    points = sorted({point for outline in forgery.OUTLINES[part] for point in outline})
    move, _ = cv2.estimateAffinePartial2D(lender.mesh[points], face.mesh[points])
    moved = cv2.warpAffine(source, move, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)

    def likeness(one, other):
        return np.corrcoef(one[fake.mask].ravel(), other[fake.mask].ravel())[0, 1]

    assert likeness(fake.image, moved) > max(likeness(image, moved), 0.6)


def test_a_seed_fixes_the_forgery_and_another_changes_it():
    for seeded in (
        lambda seed: swap(CSU, ("csu", 3), "mouth", "poisson", seed),
        lambda seed: swap(CSU, ("csu", 3), "eyes", "feathered", seed),
        lambda seed: self_blend(*portrait(*CSU), "mouth", seed),
    ):
        first, again = seeded(7), seeded(7)
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.mask, again.mask)
        # A swap's seed only moves a margin of whole pixels: two seeds may well meet.
        assert len({seeded(seed).image.tobytes() for seed in range(6)}) > 1


@pytest.mark.parametrize("person", [ORL, OTHER, CSU])
@pytest.mark.parametrize("part", PARTS)
def test_a_face_swapped_with_itself_by_poisson_stays_as_it_was(person, part):
    """Catches a paste that is off by one pixel: OpenCV centres the mask's box by itself."""
    image, _ = portrait(*person)
    for seed in range(3):  # odd and even boxes
        fake = swap(person, person, part, "poisson", seed)
        # OpenCV cuts the fraction off, so a solution of 99.99 becomes 99.
        assert np.abs(fake.image.astype(int) - image).max() <= 1


@pytest.mark.parametrize("part", PARTS)
def test_a_face_swapped_with_itself_by_feathering_stays_as_it_was(part):
    image, _ = portrait(*CSU)
    apart = swap(CSU, CSU, part, "feathered").image.astype(int) - image
    assert np.abs(apart).max() <= 3  # 8-bit L*a*b* and back
    assert abs(apart.mean()) < 0.2


@pytest.mark.parametrize("level", [60, 120])
def test_feathering_does_not_darken(level):
    """Colours are rounded to whole levels, not cut down to them: a flat region keeps its mean."""
    image, face = portrait(*CSU)
    flat = np.full_like(image, level)
    fake = part_swap(flat, face, *portrait("csu", 3), "face", "feathered")
    inside = cv2.fillPoly(
        np.zeros(image.shape[:2], np.uint8),
        [np.round(face.mesh[list(forgery.OUTLINES["face"][0])]).astype(np.int32)],
        1,
    )
    assert fake.image[inside > 0].mean() == pytest.approx(level, abs=0.25)


# -- colour ------------------------------------------------------------------------------------


def tinted(image, tint):
    return np.round(image * np.array(tint)).astype(np.uint8)


@pytest.mark.parametrize("part", PARTS)
def test_colour_pictures_are_forged_in_colour(part):
    (target, face), (source, lender) = portrait(*CSU), portrait("csu", 3)
    target, source = tinted(target, (1, 0.8, 0.65)), tinted(source, (0.6, 0.8, 1))
    for blend in BLENDS:
        fake = part_swap(target, face, source, lender, part, blend)
        np.testing.assert_array_equal(fake.mask, (fake.image != target).any(-1))
        colours = (fake.image[fake.mask], target[fake.mask], source.reshape(-1, 3))
        here, wanted, lent = ((c[:, 0] - c[:, 2].astype(float)).mean() for c in colours)
        assert abs(here - wanted) < 0.3 * abs(lent - wanted), f"{blend} brings the lender's tint"


def test_a_grey_face_stays_grey():
    for name, _, fake in forgeries(ORL, OTHER):
        assert (fake.image == fake.image[..., :1]).all(), name


# -- self-blend --------------------------------------------------------------------------------


def test_a_self_blend_differs_a_little_and_from_seed_to_seed():
    image, _ = portrait(*CSU)
    fakes = [self_blend(*portrait(*CSU), "mouth", seed) for seed in range(5)]
    assert len({fake.image.tobytes() for fake in fakes}) == len(fakes)
    for fake in fakes:
        apart = np.abs(fake.image.astype(int) - image)[fake.mask]
        assert 0.5 < apart.mean() < 40


# -- at the border, and nothing to forge -------------------------------------------------------


def cut(target, rows, columns):
    """A piece of a portrait, and its face in the piece's pixels."""
    image, face = portrait(*target)
    piece = np.ascontiguousarray(image[rows, columns])
    shift = np.array([[1, 0, -(columns.start or 0)], [0, 1, -(rows.start or 0)]], float)
    return piece, face.moved(shift)


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_cut_by_the_border_is_forged_up_to_it(part, side):
    _, face = portrait(*CSU)
    points = face.mesh[sorted({point for outline in forgery.OUTLINES[part] for point in outline})]
    x, y = np.round(points.mean(0)).astype(int)
    whole = slice(None)
    rows = {"top": slice(y, None), "bottom": slice(None, y)}.get(side, whole)
    columns = {"left": slice(x, None), "right": slice(None, x)}.get(side, whole)
    piece, moved = cut(CSU, rows, columns)
    source = portrait("csu", 3)
    for fake in (
        *(part_swap(piece, moved, *source, part, blend) for blend in BLENDS),
        self_blend(piece, moved, part),
        part_swap(*source, piece, moved, part),  # the lender, too, may be cut
    ):
        assert fake.mask.any()
    fake = part_swap(piece, moved, *source, part)
    assert not fake.mask[~neighbourhood(moved, part, piece.shape)].any()
    for seed in range(3):  # nothing is shifted by what the border takes away
        itself = part_swap(piece, moved, piece, moved, part, seed=seed).image
        assert np.abs(itself.astype(int) - piece).max() <= 1


def test_a_part_outside_the_picture_is_refused_with_its_size():
    image, face = portrait(*CSU)
    top = slice(None, int(face.box[1]) - 20)
    piece, moved = cut(CSU, top, slice(None))
    with pytest.raises(NothingToForge, match=rf"mouth .* {piece.shape[1]} x {piece.shape[0]}"):
        part_swap(piece, moved, image, face, "mouth")


@pytest.mark.parametrize("whose", ["target", "source"])
def test_a_face_without_a_mesh_is_refused(whose):
    image, face = portrait(*ORL)
    bare = replace(face, mesh=None)
    pair = {"target": (image, bare, image, face), "source": (image, face, image, bare)}[whose]
    with pytest.raises(NothingToForge, match="no mesh"):
        part_swap(*pair, "mouth")
    with pytest.raises(NothingToForge, match="no mesh"):
        self_blend(image, bare, "mouth")


def test_unknown_names_get_a_suggestion():
    image, face = portrait(*ORL)
    with pytest.raises(UnknownName, match="part to forge 'mout'; did you mean 'mouth'"):
        part_swap(image, face, image, face, "mout")
    with pytest.raises(UnknownName, match="blending method 'poison'; did you mean 'poisson'"):
        part_swap(image, face, image, face, "mouth", "poison")
    with pytest.raises(UnknownName, match="part to forge 'eye'; did you mean 'eyes'"):
        self_blend(image, face, "eye")
