"""The real networks on real faces, against eyes that people have marked."""

import subprocess
import sys

import numpy as np
import pytest
import skimage
from hypothesis import given
from hypothesis import strategies as st

from seglib import assets, media, mesh

ASTRONAUT = skimage.data.astronaut()


@pytest.fixture(scope="module")
def networks():
    return mesh.FaceMesh()


@pytest.fixture(scope="module")
def astronaut(networks):
    (face,) = networks.detect(ASTRONAUT)
    return networks.landmarks(ASTRONAUT, face)[0]


def marked_eyes():
    """Picture name -> ``(2, 2)``: the eye on the left of the picture first, marked by hand."""
    lines = (assets.fetch("csu") / "coords.txt").read_text().splitlines()
    rows = [line.split() for line in lines if line.strip()]
    return {name: np.array(numbers, dtype=float).reshape(2, 2) for name, *numbers in rows}


def test_eyes_are_where_people_marked_them(networks):
    marks, errors, crossed = marked_eyes(), [], []
    for picture in assets.pictures("csu"):
        image = media.read_image(picture.path)
        points, _ = networks.landmarks(image, networks.detect(image)[0])
        eyes = [points[list(ring)].mean(0) for ring in (mesh.RIGHT_EYE, mesh.LEFT_EYE)]
        truth = marks[picture.path.stem]
        between = np.linalg.norm(truth[1] - truth[0])
        errors.append(np.linalg.norm(eyes - truth, axis=1).mean() / between)
        crossed.append(np.linalg.norm(eyes - truth[::-1], axis=1).mean() / between)
    assert len(errors) == 173
    assert np.mean(errors) < 0.07  # of the distance between the eyes; people mark pupils
    assert np.max(errors) < 0.15
    assert np.min(crossed) > 0.8  # the person's right is the picture's left


@pytest.mark.parametrize(
    ("right", "left"),
    [(mesh.RIGHT_EYE, mesh.LEFT_EYE), (mesh.RIGHT_BROW, mesh.LEFT_BROW)],
    ids=["eyes", "brows"],
)
def test_the_persons_right_is_on_the_left_of_the_picture(astronaut, right, left):
    assert astronaut[list(right), 0].max() < astronaut[list(left), 0].min()


RINGS = {
    name: getattr(mesh, name)
    for name in ("FACE_OVAL", "RIGHT_EYE", "LEFT_EYE", "RIGHT_BROW", "LEFT_BROW", "NOSE",
                 "UPPER_LIP", "LOWER_LIP", "INNER_MOUTH")
}  # fmt: skip


@pytest.mark.parametrize("name", RINGS)
def test_a_ring_runs_around_once_and_never_crosses_itself(astronaut, name):
    ring = astronaut[list(RINGS[name])]
    assert len(set(RINGS[name])) == len(RINGS[name])
    sides = list(zip(ring, np.roll(ring, -1, axis=0), strict=True))
    for i, one in enumerate(sides):
        for j, other in enumerate(sides[i + 2 :], i + 2):
            if (j + 1) % len(sides) != i:
                assert not crosses(*one, *other), f"sides {i} and {j} of {name}"


def crosses(a, b, c, d):
    def turn(p, q, r):
        return np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))

    return turn(a, b, c) * turn(a, b, d) < 0 and turn(c, d, a) * turn(c, d, b) < 0


@pytest.mark.parametrize("name", ["FACE_OVAL", "NOSE", "UPPER_LIP", "LOWER_LIP", "INNER_MOUTH"])
def test_a_ring_in_the_middle_of_the_face_is_symmetric(networks, name):
    errors = []
    for picture in assets.pictures("orl")[::40]:  # ten people, near enough from the front
        image = media.read_image(picture.path)
        points, _ = networks.landmarks(image, networks.detect(image)[0])
        across = points[263] - points[33]  # from eye corner to eye corner
        across /= np.linalg.norm(across)
        place = (points - points[list(mesh.FACE_OVAL)].mean(0)) @ across
        ring = place[list(RINGS[name])]
        width = ring.max() - ring.min()
        middle = place[[10, 152, 168, 2, 0, 17]].mean()  # forehead, chin, nose, lips
        errors.append(abs(ring.mean() - middle) / width)
    assert np.median(errors) < 0.1


def test_the_mesh_is_the_less_sure_of_a_face_the_less_of_it_is_seen(networks):
    (face,) = networks.detect(ASTRONAUT)
    noise = np.random.default_rng(0).integers(0, 256, ASTRONAUT.shape)
    looks = [
        networks.landmarks(((1 - share) * ASTRONAUT + share * noise).astype(np.uint8), face)
        for share in (0, 0.3, 0.5)
    ]
    sure = [probability for _, probability in looks]
    assert all(type(probability) is float for probability in sure)
    assert 1 > sure[0] > sure[1] > sure[2] >= mesh.MESH_PRESENCE
    assert networks.landmarks(noise.astype(np.uint8), face) is None


@pytest.mark.parametrize("value", [0, 128, 255])
def test_nothing_is_found_where_nothing_is(networks, value):
    plain = np.full((200, 300, 3), value, np.uint8)
    box, eyes = np.array([100.0, 50, 200, 150]), np.array([[130.0, 90], [170, 90]])
    assert networks.detect(plain) == []
    assert networks.landmarks(plain, mesh.Detection(box, eyes, 1.0)) is None


def test_nothing_is_found_in_noise(networks):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert networks.detect(noise) == []


# -- one detection a face ----------------------------------------------------------------------

numbers = st.floats(0, 100)
detections = st.lists(
    st.builds(
        lambda x, y, width, height, score: mesh.Detection(
            np.array([x, y, x + width, y + height]), np.zeros((2, 2)), score
        ),
        numbers, numbers, st.floats(1, 50), st.floats(1, 50), st.floats(0.5, 1),
    ),
    max_size=12,
)  # fmt: skip


def covered(one, other):
    (a, b, c, d), (e, f, g, h) = one.box, other.box
    common = max(0, min(c, g) - max(a, e)) * max(0, min(d, h) - max(b, f))
    return common / min((c - a) * (d - b), (g - e) * (h - f))


@given(detections)
def test_who_is_dropped_overlaps_a_better_one_and_who_is_kept_does_not(found):
    kept = mesh._suppress(found)
    assert [d.score for d in kept] == sorted((d.score for d in kept), reverse=True)
    for i, one in enumerate(kept):
        assert all(covered(one, other) <= mesh.BLAZE_OVERLAP for other in kept[:i])
    for one in found:
        if not any(one is other for other in kept):
            assert any(
                other.score >= one.score and covered(one, other) > mesh.BLAZE_OVERLAP
                for other in kept
            )


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([2, 4]), st.data())
def test_tiles_are_few_and_show_every_place_not_only_at_their_rim(width, height, parts, data):
    tiles = mesh._tiles(width, height, parts)
    assert len(tiles) <= (2 * parts - 1) ** 2
    x, y = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
    rims = []
    for centre_x, centre_y, side in tiles:
        rim = side / 2 - max(abs(x - centre_x), abs(y - centre_y))
        rims.append(rim + 1e-6)
    assert max(rims) >= min(x, y, width - x, height - y, side / 4)


MEMORY = """
import resource
import numpy as np
from seglib import mesh
networks = mesh.FaceMesh()
networks.detect(np.zeros((64, 64, 3), np.uint8))
image = np.full((9000, 12000, 3), 90, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert networks.detect(image) == []
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_looking_at_108_megapixels_takes_no_second_picture_of_memory():
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 100  # MB; the picture itself is 324
