"""Find the faces of a picture, choose one, cut out an upright crop.

A detector is any callable ``(H, W, 3) uint8 -> list[Face]``, largest face first. The crop
keeps its affine map, so that landmarks and masks can follow the face both ways.
Taught in chapter 01.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from seglib import alignment
from seglib.errors import SeglibError, unknown_name
from seglib.mesh import LEFT_EYE, RIGHT_EYE, FaceMesh

MIN_FACE = 24  # pixels; below it a part is smaller than the blur of the picture
NOSE_TIP, RIGHT_CORNER, LEFT_CORNER = 1, 61, 291  # mesh points


class NoFace(SeglibError):
    """No detector saw a face. The item is recorded with this reason; it never gets a score."""


class FaceTooSmall(SeglibError):
    """The face has too few pixels for its parts to be told apart."""


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the array it was found in.

    box is ``(x0, y0, x1, y1)``. points are RetinaFace's five, ``(5, 2)``: the person's right
    eye (left in the picture), left eye, nose tip, right and left corner of the mouth. mesh is
    ``(468, 2)``, or None if the detector has no mesh.
    """

    box: np.ndarray
    points: np.ndarray
    score: float
    mesh: np.ndarray | None = None

    @property
    def extent(self) -> float:
        """Longer side of the box in pixels."""
        return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))

    def moved(self, matrix: np.ndarray) -> Face:
        """The same face seen through a ``(2, 3)`` map; the box stays upright."""
        corners = self.box[[[0, 1], [2, 1], [2, 3], [0, 3]]]
        seen = alignment.transform(matrix, corners)
        return replace(
            self,
            box=np.concatenate([seen.min(0), seen.max(0)]),
            points=alignment.transform(matrix, self.points),
            mesh=None if self.mesh is None else alignment.transform(matrix, self.mesh),
        )


@dataclass(frozen=True)
class Crop:
    """An upright square around one face: ``(S, S, 3)`` uint8, its map, the face in its pixels."""

    image: np.ndarray
    matrix: np.ndarray
    face: Face


Detector = Callable[[np.ndarray], list[Face]]


class MeshDetector:
    """BlazeFace and the face mesh, see `mesh`; faces without a mesh are dropped."""

    def __init__(self) -> None:
        self._networks = FaceMesh()

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Faces of a ``(H, W, 3)`` uint8 picture, largest first."""
        found = []
        for detection in self._networks.detect(image):
            mesh = self._networks.landmarks(image, detection)
            if mesh is not None:
                found.append(_face_of(mesh, detection.score))
        return sorted(found, key=lambda face: -face.extent)


DETECTORS = {"mesh": MeshDetector}


def load(name: str) -> Detector:
    """A detector by name."""
    if name not in DETECTORS:
        raise unknown_name("detector", name, DETECTORS)
    return DETECTORS[name]()


def largest(image: np.ndarray, detector: Detector) -> Face:
    """The largest face of a picture.

    Raises
    ------
    NoFace, FaceTooSmall
        With the size of what was looked at.
    """
    found = detector(image)
    height, width = image.shape[:2]
    if not found:
        raise NoFace(
            f"no face found in a picture of {width} x {height} pixels; expected a face seen from "
            f"the front or half from the side, at least {MIN_FACE} pixels and a thirtieth of the "
            "picture tall. Crop the picture around the face, or leave it out."
        )
    if found[0].extent < MIN_FACE:
        raise FaceTooSmall(
            f"the largest face is {found[0].extent:.0f} pixels tall in a picture of "
            f"{width} x {height}; expected at least {MIN_FACE}. Use the picture at its full size."
        )
    return found[0]


def crop(image: np.ndarray, face: Face, size: int, scale: float) -> Crop:
    """An upright square crop of ``size`` pixels, `scale` times the face's longer side.

    Upright by the line between the eyes; what lies beyond the border repeats the edge.
    """
    (x0, y0, x1, y1), (right, left) = face.box, face.points[:2]
    angle = float(np.arctan2(*(left - right)[::-1]))
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    matrix = alignment.upright_square(centre, scale * face.extent, angle, size)
    return Crop(alignment.warp(image, matrix, size), matrix, face.moved(matrix))


def _face_of(mesh: np.ndarray, score: float) -> Face:
    eyes = [mesh[list(RIGHT_EYE)].mean(0), mesh[list(LEFT_EYE)].mean(0)]
    points = np.stack([*eyes, *mesh[[NOSE_TIP, RIGHT_CORNER, LEFT_CORNER]]])
    return Face(np.concatenate([mesh.min(0), mesh.max(0)]), points, score, mesh)
