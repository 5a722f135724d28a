"""Label maps of real faces: every part there, each in its place."""

import cv2
import numpy as np
import pytest
import skimage

from seglib import assets, faces, media, mesh, parsing
from seglib.errors import UnknownName
from seglib.faces import Crop, Face
from seglib.regions import LABELS, label_id, part_ids

SIZE = 280


@pytest.fixture(scope="module")
def detector():
    return faces.load("mesh")


def cropped(image, detector, size=SIZE):
    return faces.crop(image, faces.largest(image, detector), size, 1.0)


@pytest.fixture(scope="module")
def orl(detector):
    """One picture of each of the forty people."""
    paths = [picture.path for picture in assets.pictures("orl")[::10]]
    return [cropped(media.read_image(path), detector) for path in paths]


@pytest.fixture(scope="module")
def label_maps(orl):
    return parsing.load("mesh")(orl)


def test_a_label_map_is_uint8_of_the_crops_size(label_maps):
    assert label_maps.dtype == np.uint8
    assert label_maps.shape == (40, SIZE, SIZE)


@pytest.mark.parametrize("part", ["mouth", "eyes", "brows", "nose", "skin"])
def test_every_face_has_every_part(label_maps, part):
    sizes = np.isin(label_maps, part_ids(part)).sum(axis=(1, 2))
    assert sizes.min() > 3 * 14**2  # more than a few of the demo's patches
    assert sizes.max() < 0.8 * SIZE**2


def test_the_mesh_knows_no_hair(label_maps):
    assert not (label_maps == label_id("hair")).any()


def test_no_part_leaves_the_face(orl, label_maps):
    for crop, labels in zip(orl, label_maps, strict=True):
        hull = cv2.convexHull(crop.face.mesh.astype(np.float32)).round().astype(np.int32)
        face = cv2.fillConvexPoly(np.zeros((SIZE, SIZE), np.uint8), hull, 1)
        face = cv2.dilate(face, np.ones((3, 3), np.uint8))  # corners are rounded to whole pixels
        assert not (labels[face == 0]).any()


def test_parts_stand_in_their_order(label_maps):
    def centre(names):
        places = [np.argwhere(np.isin(m, [label_id(n) for n in names])).mean(0) for m in label_maps]
        return np.array(places)[:, ::-1]

    order = [("rb", "lb"), ("re", "le"), ("nose",), ("ulip",), ("llip",)]
    heights = np.stack([centre(names)[:, 1] for names in order])
    assert (np.diff(heights, axis=0) > 0).all()
    for right, left in (("re", "le"), ("rb", "lb")):  # the person's right stands on the left
        assert (centre([right])[:, 0] < SIZE / 2).all()
        assert (centre([left])[:, 0] > SIZE / 2).all()


def test_a_mirrored_face_has_left_and_right_exchanged(detector):
    image = skimage.data.astronaut()
    parser = parsing.load("mesh")
    (seen,) = parser([cropped(image, detector)])
    (mirrored,) = parser([cropped(image[:, ::-1].copy(), detector)])
    back = mirrored[:, ::-1]
    other = {"rb": "lb", "lb": "rb", "re": "le", "le": "re"}
    for name in LABELS[1:-1]:
        mine, theirs = seen == label_id(name), back == label_id(other.get(name, name))
        assert (mine & theirs).sum() / (mine | theirs).sum() > 0.5, name


def test_a_larger_crop_has_the_same_map_in_more_detail(detector):
    image, parser = skimage.data.astronaut(), parsing.load("mesh")
    (small,) = parser([cropped(image, detector, 112)])
    (large,) = parser([cropped(image, detector, 448)])
    assert (large[1::4, 1::4] == small).mean() > 0.97


@pytest.mark.parametrize(
    ("label", "point"), [("nose", 1), ("nose", 5), ("face", 50), ("face", 151)]
)
def test_a_known_point_of_the_mesh_has_its_label(orl, label_maps, label, point):
    x, y = np.stack([crop.face.mesh[point] for crop in orl]).round().astype(int).T
    found = label_maps[np.arange(len(orl)), y, x]
    assert (found == label_id(label)).mean() > 0.9


def test_an_open_mouth_has_an_inside_and_a_shut_one_has_none(orl):
    def inside(gap):
        points = orl[0].face.mesh.copy()
        lower = [14, 87, 178, 88, 95, 324, 318, 402, 317]
        points[lower, 1] = points[[13, 82, 81, 80, 191, 415, 310, 311, 312], 1] + gap
        face = Face(orl[0].face.box, orl[0].face.points, 1.0, points)
        (labels,) = parsing.load("mesh")([Crop(orl[0].image, orl[0].matrix, face)])
        return (labels == label_id("imouth")).sum()

    assert inside(0) == 0
    assert 0 < inside(5) < inside(15)


def test_a_face_without_a_mesh_says_which_detector_to_take(orl):
    face = Face(orl[0].face.box, orl[0].face.points, 1.0)
    with pytest.raises(parsing.NoMesh, match="detector='mesh'"):
        parsing.load("mesh")([Crop(orl[0].image, orl[0].matrix, face)])


def test_an_unknown_parser_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'mesh'"):
        parsing.load("mehs")


def test_every_label_that_is_painted_is_a_label():
    painted = [name for name, _ in parsing.RINGS]
    assert set(painted) == set(LABELS) - {"background", "hair"}
    assert all(0 <= point < 468 for _, ring in parsing.RINGS for point in ring)
    assert dict(parsing.RINGS)["nose"] == mesh.NOSE
