"""Face crop -> label map.

A parser is any callable ``list[Crop] -> (B, H, W) uint8`` in LaPa ids (see `regions`). The
embedded one draws the face mesh; FaRL through facer has the same form. Taught in chapter 01.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from seglib import mesh
from seglib.errors import SeglibError, unknown_name
from seglib.faces import Crop
from seglib.regions import label_id

Parser = Callable[[Sequence[Crop]], np.ndarray]

# Painted in this order, so that what lies on top in a face comes last. The mesh knows neither
# hair nor ears nor glasses: hair stays background, glasses become skin or eye.
RINGS = (
    ("face", mesh.FACE_OVAL),
    ("nose", mesh.NOSE),
    ("rb", mesh.RIGHT_BROW),
    ("lb", mesh.LEFT_BROW),
    ("re", mesh.RIGHT_EYE),
    ("le", mesh.LEFT_EYE),
    ("imouth", mesh.INNER_MOUTH),
    ("ulip", mesh.UPPER_LIP),
    ("llip", mesh.LOWER_LIP),
)
SUBPIXEL = 4  # fractional bits of OpenCV's fixed-point polygon corners


class NoMesh(SeglibError):
    """The mesh parser met a face that was found by a detector without a mesh."""


class MeshParser:
    """Fills the contours of MediaPipe's face mesh. No hair class."""

    def __call__(self, crops: Sequence[Crop]) -> np.ndarray:
        """Label maps ``(B, H, W)`` uint8 of crops of one size."""
        return np.stack([self._draw(crop) for crop in crops])

    def _draw(self, crop: Crop) -> np.ndarray:
        if crop.face.mesh is None:
            raise NoMesh(
                "the face of this crop has no mesh, which the parser 'mesh' draws; expected one "
                "found by the detector 'mesh'. Set detector='mesh' in the recipe."
            )
        label_map = np.zeros(crop.image.shape[:2], np.uint8)
        corners = np.round(crop.face.mesh * 2**SUBPIXEL).astype(np.int32)
        for name, ring in RINGS:
            cv2.fillPoly(label_map, [corners[list(ring)]], label_id(name), shift=SUBPIXEL)
        return label_map


PARSERS = {"mesh": MeshParser}


def load(name: str) -> Parser:
    """A parser by name."""
    if name not in PARSERS:
        raise unknown_name("parser", name, PARSERS)
    return PARSERS[name]()
