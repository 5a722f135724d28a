"""Affine maps between a picture and an upright square crop of it.

A map is a float64 ``(2, 3)`` matrix that takes pixel coordinates ``(x, y)`` of the picture to
those of the crop. It is kept with every crop, so that masks and landmarks can follow the face
in both directions. Taught in chapter 01.
"""

from __future__ import annotations

import cv2
import numpy as np


def upright_square(centre: np.ndarray, side: float, angle: float, size: int) -> np.ndarray:
    """The map that cuts a turned square out of a picture and sets it upright.

    Parameters
    ----------
    centre : (2,) array
        Centre of the square in the picture, in pixels.
    side : float
        Side of the square in the picture, in pixels.
    angle : float
        How far the square is turned, in radians, clockwise on the screen.
    size : int
        Side of the crop, in pixels.

    Returns
    -------
    (2, 3) float64 array
    """
    zoom = size / side
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    # Pixel centres lie at integers, so the middle of the crop is (size - 1) / 2.
    shift = (size - 1) / 2 - turn @ np.asarray(centre, dtype=np.float64)
    return np.column_stack([turn, shift])


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Carry ``(..., 2)`` points through a ``(2, 3)`` map."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The map back, crop to picture."""
    return cv2.invertAffineTransform(matrix)


def warp(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Cut the ``(size, size, 3)`` crop of a map; beyond the border the edge is repeated.

    A picture much larger than its crop is first shrunk by exact area averages: bilinear
    sampling alone would skip pixels and invent texture, which a forensic probe would read.
    """
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    step = min(int(1 / zoom + 1e-6), *image.shape[:2]) if zoom < 0.5 else 1
    if step > 1:
        height, width = image.shape[0] // step, image.shape[1] // step
        image = image[: height * step, : width * step]
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        # Shrunk pixel i covers step source pixels, centred on step * i + (step - 1) / 2.
        offset = matrix[:, :2] @ np.full(2, (step - 1) / 2)
        matrix = np.column_stack([matrix[:, :2] * step, matrix[:, 2] + offset])
    return cv2.warpAffine(
        image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
