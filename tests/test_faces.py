"""Finding, choosing and cropping faces: real pictures, also those that make trouble.

RetinaFace runs as facer's own class, with seeded weights in the format of the published file:
its faces are nonsense, but what becomes of them is not.
"""

import hashlib
import pickle
import sys

import cv2
import numpy as np
import pytest
import skimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from seglib import alignment, assets, faces, media, weights
from seglib.errors import UnknownName
from seglib.faces import Face

ASTRONAUT = skimage.data.astronaut()  # (512, 512, 3), one face of about 108 pixels


@pytest.fixture(scope="module")
def detector():
    return faces.load("mesh")


@pytest.fixture(scope="module")
def astronaut(detector):
    return faces.largest(ASTRONAUT, detector)


def error(found, expected):
    """Mean distance of landmarks, as a share of the distance between the eyes."""
    between = np.linalg.norm(expected[0] - expected[1])
    return np.linalg.norm(found - expected, axis=1).mean() / between


def drawn(matrix, width=512, height=512):
    return cv2.warpAffine(ASTRONAUT, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)


# -- finding -----------------------------------------------------------------------------------


def test_a_face_is_found_with_its_landmarks_in_their_places(astronaut):
    right, left, nose, right_corner, left_corner = astronaut.points
    assert right[0] < nose[0] < left[0]
    assert right_corner[0] < left_corner[0]
    assert max(right[1], left[1]) < nose[1] < min(right_corner[1], left_corner[1])
    assert astronaut.mesh.shape == (468, 2)
    low, high = astronaut.box[:2], astronaut.box[2:]
    assert ((astronaut.mesh >= low) & (astronaut.mesh <= high)).all()
    assert astronaut.extent == (high - low).max()
    assert 0.5 <= astronaut.score <= 1
    assert 0.99 < astronaut.sure < 1


@pytest.mark.parametrize("degrees", [-60, -30, 30, 60])
def test_a_turned_face_is_found_and_cut_out_upright(detector, astronaut, degrees):
    turn = cv2.getRotationMatrix2D((255.5, 255.5), degrees, 1)
    turned = drawn(turn)
    face = faces.largest(turned, detector)
    assert error(face.points, alignment.transform(turn, astronaut.points)) < 0.03
    crop = faces.crop(turned, face, 224, 1.0)
    (_, right), (_, left) = crop.face.points[:2]
    assert abs(right - left) < 1  # pixel
    # The box stays upright in the picture, so a turned face's crop may be somewhat wider.
    upright = faces.crop(ASTRONAUT, astronaut, 224, 1.0)
    corners = np.array([[0.0, 0], [223, 0], [0, 223]])  # of the crop, back in the first picture
    for map_back in (alignment.inverse(crop.matrix), alignment.inverse(turn), upright.matrix):
        corners = alignment.transform(map_back, corners)
    (right, down), (left, up) = corners[1] - corners[0], corners[2] - corners[0]
    assert abs(down) < 0.04 * right
    assert abs(left) < 0.04 * up
    assert 0.8 < right / 223 < 1.25


@given(st.floats(-40, 40), st.floats(0.5, 1.5), st.floats(-60, 60), st.floats(-60, 60))
def test_landmarks_follow_the_picture(detector, astronaut, degrees, zoom, x, y):
    matrix = cv2.getRotationMatrix2D((225.0, 125.0), degrees, zoom)  # about the face
    matrix[:, 2] += (30 + x, 130 + y)
    expected = alignment.transform(matrix, astronaut.points)
    # Among those found: once in a thousand pictures a fold of the suit passes for a face, barely.
    assert min(error(face.points, expected) for face in detector(drawn(matrix))) < 0.08


def test_grey_is_as_good_as_colour(detector, astronaut):
    grey = np.repeat(cv2.cvtColor(ASTRONAUT, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    assert error(faces.largest(grey, detector).points, astronaut.points) < 0.03


@pytest.mark.parametrize("columns", [2, 5])
def test_of_several_faces_all_are_found_and_the_largest_is_first(detector, columns):
    people = [media.read_image(picture.path) for picture in assets.pictures("orl")[::40]]
    people[3] = cv2.resize(people[3], None, fx=1.3, fy=1.3)[:112, 14:106]  # closer to the camera
    rows = [np.hstack(people[i : i + columns]) for i in range(0, 10, columns)]
    found = detector(np.vstack(rows))
    centres = np.array([(face.box[:2] + face.box[2:]) / 2 for face in found])
    places = {(int(y // 112), int(x // 92)) for x, y in centres}
    assert len(found) == 10
    assert places == {(i // columns, i % columns) for i in range(10)}
    extents = [face.extent for face in found]
    assert extents == sorted(extents, reverse=True)
    assert tuple((centres[0] // (92, 112)).astype(int)[::-1]) == divmod(3, columns)


def test_a_small_face_in_a_large_picture_is_found(detector, astronaut):
    small = cv2.resize(ASTRONAUT, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    large = np.full((900, 1400, 3), 128, np.uint8)
    large[400:656, 800:1056] = small
    face = faces.largest(large, detector)
    assert face.extent < 60
    assert error(face.points, (astronaut.points - 0.5) / 2 + (800, 400)) < 0.05


@pytest.mark.parametrize("left", [180, 195])
def test_a_face_at_the_border_is_found_and_its_crop_repeats_the_edge(detector, astronaut, left):
    cut = ASTRONAUT[:, left:]
    face = faces.largest(cut, detector)
    assert error(face.points, astronaut.points - (left, 0)) < 0.15
    crop = faces.crop(cut, face, 160, 1.3)
    edge = int(np.ceil(alignment.transform(crop.matrix, np.array([0.0, face.points[2, 1]]))[0]))
    assert edge > 20  # so much of the crop lies beyond the picture
    assert crop.image.std() > 20
    upright = alignment.upright_square((face.box[:2] + face.box[2:]) / 2, 200, 0.0, 200)
    level = alignment.warp(cut, upright, 200)
    beyond = int(alignment.transform(upright, np.zeros(2))[0])
    assert (level[:, :beyond] == level[:, :1]).all()


@pytest.mark.parametrize("name", ["mesh", "retinaface", "whole"])
def test_a_batch_equals_its_pictures_one_by_one(name, request):
    if name == "retinaface":
        request.getfixturevalue("retinaface_file")
    detector = faces.load(name)
    pictures = [SCENE, SCENE[::-1].copy(), np.zeros_like(SCENE), SCENE[:, ::-1].copy()]
    together = detector.batch(pictures)
    assert len(together) == 4
    for found, picture in zip(together, pictures, strict=True):
        alone = detector(picture)
        assert len(found) == len(alone)
        for one, other in zip(found, alone, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=1e-3)
            assert (one.points is None) == (other.points is None)


def test_a_detectors_digest_is_that_of_its_files(retinaface_file, detector):
    published = hashlib.sha256(retinaface_file.read_bytes()).hexdigest()
    assert faces.load("retinaface").digest == published[:12]
    files = ("face_detection_short_range.tflite", "face_landmark.tflite")
    contents = b"".join((assets.fetch("face-mesh") / name).read_bytes() for name in files)
    assert detector.digest == hashlib.sha256(contents).hexdigest()[:12]
    assert faces.load("whole").digest == hashlib.sha256().hexdigest()[:12]


# -- RetinaFace --------------------------------------------------------------------------------

SCENE = ASTRONAUT[:240, 100:420]


@pytest.fixture(scope="module")
def seeded():
    """Weights with which facer's RetinaFace sees several faces in SCENE, and none in the dark."""
    faces.facer()
    from facer.face_detection import retinaface

    torch.manual_seed(1)
    network = retinaface.RetinaFace(cfg=retinaface.cfg_mnet, phase="test")
    for head in network.ClassHead:
        head.conv1x1.weight.data *= 8000  # so that scores spread over 0 to 1
    return network.state_dict()


@pytest.fixture
def retinaface_file(seeded, tmp_path, monkeypatch):
    """The seeded weights as they are published: trained in parallel, saved by an older torch."""
    file = tmp_path / "mobilenet0.25_Final.pth"
    state = {f"module.{name}": tensor for name, tensor in seeded.items()}
    torch.save(state, file, _use_new_zipfile_serialization=False)
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(tmp_path))
    return file


def seen_by_facer(file, image):
    network = faces.facer().face_detector(
        "retinaface/mobilenet", "cpu", model_path=str(file), threshold=0.8
    )
    with torch.inference_mode():
        found = network(torch.from_numpy(image).permute(2, 0, 1)[None])
    return found["rects"].numpy(), found["points"].numpy(), found["scores"].numpy()


def test_retinafaces_faces_are_facers_with_pixel_centres_at_integers(retinaface_file):
    rects, points, scores = seen_by_facer(retinaface_file, SCENE)
    sides = (rects[:, 2:] - rects[:, :2]).max(axis=1)
    order = np.argsort(-sides, kind="stable")
    assert len(order) > 3
    assert (np.diff(order) < 0).any()  # facer's order is another, by score
    found = faces.load("retinaface", "cpu")(SCENE)
    np.testing.assert_allclose([face.box for face in found], rects[order] - 0.5, atol=1e-4)
    np.testing.assert_allclose([face.points for face in found], points[order] - 0.5, atol=1e-4)
    np.testing.assert_allclose([face.score for face in found], scores[order], atol=1e-6)
    assert all(face.mesh is None for face in found)


@pytest.mark.parametrize("shape", [(240, 320), (1, 1), (7, 40)], ids=["dark", "pixel", "strip"])
def test_where_retinaface_sees_no_face_the_list_is_empty(retinaface_file, shape):
    assert faces.load("retinaface")(np.zeros((*shape, 3), np.uint8)) == []


def test_a_large_picture_is_looked_at_smaller_and_its_faces_scaled_back(
    retinaface_file, monkeypatch
):
    detector = faces.load("retinaface")
    expected = detector(SCENE)
    monkeypatch.setattr(faces, "RETINA_SIDE", max(SCENE.shape))
    large = SCENE.repeat(3, axis=0).repeat(3, axis=1)  # its area averages are SCENE, exactly
    found = detector(large)
    assert len(found) == len(expected) > 3
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose((one.box + 0.5) / 3, other.box + 0.5, atol=1e-3)
        np.testing.assert_allclose((one.points + 0.5) / 3, other.points + 0.5, atol=1e-3)


def test_facers_switch_for_the_whole_process_is_put_back(retinaface_file, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    faces.load("retinaface")
    assert not torch.backends.cudnn.benchmark


def test_without_its_file_the_error_is_that_of_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGLIB_WEIGHTS", str(tmp_path))
    with pytest.raises(weights.WeightsMissing, match=r"mobilenet0\.25_Final\.pth"):
        faces.load("retinaface")


class Touch:
    """Unpickled, it runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.999])
def test_a_cut_file_is_named_as_damaged(retinaface_file, share):
    whole = retinaface_file.read_bytes()
    retinaface_file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(weights.WeightsDamaged, match=r"mobilenet0.*is not RetinaFace.*Delete it"):
        faces.load("retinaface")


@pytest.mark.parametrize("contents", [b"<html>not found</html>", b"hello world", b"PK\3\4 zip"])
def test_a_file_of_something_else_is_named_as_damaged(retinaface_file, contents):
    retinaface_file.write_bytes(contents)
    with pytest.raises(weights.WeightsDamaged, match="is not RetinaFace as it was published"):
        faces.load("retinaface")


@pytest.mark.parametrize("stored", [torch.zeros(3), {}, {"other.weight": torch.zeros(3)}])
def test_other_tensors_are_named_as_damage(retinaface_file, stored):
    torch.save(stored, retinaface_file)
    with pytest.raises(weights.WeightsDamaged, match="is not RetinaFace as it was published"):
        faces.load("retinaface")


def test_weights_that_are_not_all_there_are_refused(retinaface_file, seeded):
    head = {name: tensor for name, tensor in seeded.items() if not name.startswith("fpn.")}
    torch.save({"state_dict": head}, retinaface_file)
    with pytest.raises(weights.WeightsDamaged, match=r"\d+ of its tensors are missing, say fpn\."):
        faces.load("retinaface")


def test_nothing_but_tensors_is_unpickled(retinaface_file, tmp_path):
    retinaface_file.write_bytes(pickle.dumps(Touch(tmp_path / "ran"), protocol=2))
    with pytest.raises(weights.WeightsDamaged):
        faces.load("retinaface")
    assert not (tmp_path / "ran").exists()


def test_without_facer_the_error_names_the_extra(retinaface_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "facer", None)  # as if it were not installed
    with pytest.raises(faces.FacerMissing, match=r"pip install 'seglib\[farl\]'"):
        faces.load("retinaface")


# -- choosing ----------------------------------------------------------------------------------

WIDE = (400, 300)  # pixels


def boxed(*boxes):
    return [Face(np.array(box, float), np.zeros((5, 2)), 0.9) for box in boxes]


def marked(rows, columns):
    mask = np.zeros(WIDE[::-1], bool)
    mask[rows, columns] = True
    return mask


def test_by_default_the_first_face_is_chosen_which_is_the_largest():
    found = boxed((0, 0, 90, 90), (100, 0, 150, 50))
    assert faces.choose(found, WIDE) is found[0]
    covered = marked(slice(0, 50), slice(100, 150))
    assert faces.choose(found, WIDE, "largest", covered) is found[0]


def test_by_mask_the_face_that_holds_most_of_it_is_chosen():
    found = boxed((0, 0, 90, 90), (100, 0, 150, 50), (200, 0, 240, 40))
    assert faces.choose(found, WIDE, "mask", marked(slice(5, 45), slice(80, 150))) is found[1]
    # Partly beyond the border, where there are no pixels to count.
    found = boxed((0, 0, 90, 90), (350, 250, 450, 350))
    assert faces.choose(found, WIDE, "mask", marked(slice(200, 300), slice(300, 400))) is found[1]
    found = boxed((0, 0, 90, 90), (-50, -50, 40, 40))
    assert faces.choose(found[1:], WIDE, "mask", marked(slice(0, 9), slice(0, 9))) is found[1]


def test_of_equally_covered_faces_the_larger_is_chosen():
    found = boxed((0, 0, 90, 90), (0, 0, 50, 50))
    assert faces.choose(found, WIDE, "mask", marked(slice(0, 20), slice(0, 20))) is found[0]


def test_a_bona_fide_picture_has_no_mask_and_gives_its_largest_face():
    found = boxed((0, 0, 90, 90), (100, 0, 150, 50))
    assert faces.choose(found, WIDE, "mask", None) is found[0]


@given(st.lists(st.tuples(st.integers(-40, 420), st.integers(-40, 320)), min_size=2, max_size=2))
def test_a_box_holds_the_pixels_whose_centres_lie_in_it(corners):
    box = np.concatenate([np.min(corners, axis=0), np.max(corners, axis=0) + 0.5])
    y, x = np.mgrid[: WIDE[1], : WIDE[0]]
    inside = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
    big = boxed((-1, -1, 500, 500), box)  # holds all that the other holds
    mask = inside.copy()
    if mask.any():
        assert faces.choose(big, WIDE, "mask", mask) is big[0]
        if max(box[2] - box[0], box[3] - box[1]) >= faces.MIN_FACE:
            assert faces.choose(big[1:], WIDE, "mask", mask) is big[1]
    if not inside.all():
        with pytest.raises(faces.NoFaceUnderMask):
            faces.choose(big[1:], WIDE, "mask", ~inside)


def test_no_face_under_the_mask_is_an_error_of_its_own():
    found = boxed((0, 0, 90, 90), (100, 0, 150, 50))
    with pytest.raises(faces.NoFaceUnderMask, match=r"none of 2 faces.*400 x 300.*marks 100 pix"):
        faces.choose(found, WIDE, "mask", marked(slice(200, 210), slice(200, 210)))
    with pytest.raises(faces.NoFaceUnderMask, match="marks 0 pixels"):
        faces.choose(found, WIDE, "mask", marked(slice(0, 0), slice(0, 0)))
    with pytest.raises(faces.NoFace, match="400 x 300"):
        faces.choose([], WIDE, "mask", marked(slice(0, 9), slice(0, 9)))


def test_a_masked_face_may_be_too_small_too():
    found = boxed((0, 0, 90, 90), (100, 0, 120, 20))
    with pytest.raises(faces.FaceTooSmall, match="is 20 pixels tall"):
        faces.choose(found, WIDE, "mask", marked(slice(0, 20), slice(100, 120)))


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(faces.WrongMaskSize, match=r"\(150, 200\); expected \(300, 400\)"):
        faces.choose(boxed((0, 0, 90, 90)), WIDE, "mask", np.ones((150, 200), bool))


def test_an_unknown_rule_gets_a_suggestion():
    with pytest.raises(UnknownName, match="unknown face choice 'larges'; did you mean 'largest'"):
        faces.choose(boxed((0, 0, 90, 90)), WIDE, "larges")


# -- what is refused ---------------------------------------------------------------------------

CAT = skimage.data.chelsea()


@pytest.mark.parametrize(
    "picture",
    [
        CAT,
        np.zeros((300, 200, 3), np.uint8),
        np.full((300, 200, 3), 128, np.uint8),
        np.full((200, 300, 3), 255, np.uint8),
        cv2.resize(ASTRONAUT[60:190, 160:290], (8, 8), interpolation=cv2.INTER_AREA),
        ASTRONAUT[:1, :1],
        ASTRONAUT[:3, :],
        ASTRONAUT[300:, :],
    ],
    ids=["cat", "black", "grey", "white", "8x8", "1x1", "strip", "no head"],
)
def test_no_face_is_an_error_that_names_the_size(detector, picture):
    height, width = picture.shape[:2]
    with pytest.raises(faces.NoFace, match=f"{width} x {height} pixels; expected a face"):
        faces.largest(picture, detector)


def test_a_face_with_too_few_pixels_is_an_error_that_names_both_sizes(detector, astronaut):
    zoom = 18 / astronaut.extent
    tiny = cv2.resize(ASTRONAUT, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    with pytest.raises(faces.FaceTooSmall, match=r"1\d pixels tall.*expected at least 24"):
        faces.largest(tiny, detector)


def test_an_unknown_detector_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'mesh'"):
        faces.load("mehs")


# -- the crop and its map ----------------------------------------------------------------------


@pytest.mark.parametrize(("size", "scale"), [(280, 1.0), (448, 1.3), (96, 2.0)])
def test_a_crop_holds_the_face_upright_in_its_middle(astronaut, size, scale):
    crop = faces.crop(ASTRONAUT, astronaut, size, scale)
    assert crop.image.shape == (size, size, 3)
    assert crop.image.dtype == np.uint8
    middle = (crop.face.box[:2] + crop.face.box[2:]) / 2
    np.testing.assert_allclose(middle, (size - 1) / 2, atol=0.02 * size)
    assert crop.face.points[0, 1] == pytest.approx(crop.face.points[1, 1])
    zoom = size / (scale * astronaut.extent)
    between = np.linalg.norm(astronaut.points[1] - astronaut.points[0])
    assert crop.face.points[1, 0] - crop.face.points[0, 0] == pytest.approx(zoom * between)


def test_a_crop_shows_at_each_landmark_what_the_picture_shows_there(astronaut):
    y, x = np.mgrid[:512, :512]
    ramp = np.stack([x // 2, y // 2, np.zeros_like(x)], axis=-1).astype(np.uint8)
    crop = faces.crop(ramp, astronaut, 300, 1.3)
    inside = astronaut.mesh.round().astype(int)
    u, v = crop.face.mesh.round().astype(int).T
    assert np.abs(crop.image[v, u, :2].astype(int) - inside // 2).max() <= 1


meshes = npst.arrays(np.float64, (468, 2), elements=st.floats(-500, 500))
affine = npst.arrays(np.float64, (2, 3), elements=st.floats(-3, 3))


@given(meshes, affine, affine)
def test_moving_twice_is_moving_by_the_product(mesh, first, second):
    face = Face(np.concatenate([mesh.min(0), mesh.max(0)]), mesh[:5], 0.9, mesh, 0.7)
    both = second @ np.vstack([first, [0, 0, 1]])
    step, leap = face.moved(first).moved(second), face.moved(both)
    np.testing.assert_allclose(step.points, leap.points, atol=1e-6)
    np.testing.assert_allclose(step.mesh, leap.mesh, atol=1e-6)
    for moved in (step, leap):  # an upright box only grows around what it holds
        assert (moved.mesh >= moved.box[:2] - 1e-6).all()
        assert (moved.mesh <= moved.box[2:] + 1e-6).all()
    assert (step.score, step.sure) == (0.9, 0.7)


@given(meshes)
def test_not_moving_changes_nothing(mesh):
    face = Face(np.concatenate([mesh.min(0), mesh.max(0)]), mesh[:5], 0.9, mesh)
    still = face.moved(np.eye(2, 3))
    np.testing.assert_array_equal(still.box, face.box)
    np.testing.assert_array_equal(still.points, face.points)
    np.testing.assert_array_equal(still.mesh, face.mesh)


def test_a_face_without_a_mesh_stays_without(astronaut):
    bare = Face(astronaut.box, astronaut.points, 1.0)
    assert bare.moved(np.eye(2, 3)).mesh is None
    assert faces.crop(ASTRONAUT, bare, 64, 1.0).face.mesh is None


# -- ready-made crops --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1.3])
def test_a_ready_made_crop_stays_as_it_is(scale):
    (face,) = faces.load("whole")(ASTRONAUT)
    assert face.points is None
    assert np.isnan(face.score)
    assert np.isnan(face.sure)  # nobody looked
    crop = faces.crop(ASTRONAUT, face, 512, scale)
    np.testing.assert_array_equal(crop.image, ASTRONAUT)
    np.testing.assert_array_equal(crop.matrix, np.eye(2, 3))
    np.testing.assert_array_equal(crop.face.box, [-0.5, -0.5, 511.5, 511.5])
    assert crop.face.points is None


def test_a_ready_made_crop_of_another_size_is_all_there():
    (face,) = faces.load("whole")(ASTRONAUT)
    small = faces.crop(ASTRONAUT, face, 128, 1.3).image
    averaged = cv2.resize(ASTRONAUT, (128, 128), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(small, averaged)


def test_a_ready_made_crop_that_is_not_square_is_padded_by_its_edge():
    wide = ASTRONAUT[:200]
    (face,) = faces.load("whole")(wide)
    image = faces.crop(wide, face, 512, 1.3).image
    np.testing.assert_array_equal(image[156:356], wide)
    assert (image[:156] == wide[0]).all()
    assert (image[356:] == wide[-1]).all()


@pytest.mark.parametrize(
    "image",
    [
        skimage.data.astronaut() / 255,  # what scikit-image's functions return
        skimage.data.astronaut()[..., 0],
        np.dstack([skimage.data.astronaut()] * 2),
    ],
    ids=["floats", "grey", "six channels"],
)
def test_a_picture_that_is_no_bytes_is_refused_and_not_called_faceless(image):
    with pytest.raises(faces.NotBytes, match=r"expected uint8, \(H, W, 3\)"):
        faces.load("mesh")(image)
