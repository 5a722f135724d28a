"""Fakes with a known region: part swap, whole-face swap, self-blend.

Each forgery starts from a picture and the mesh of its face, changes one region, and says
exactly which pixels it changed. Deterministic by seed. For unnamed research faces only, never
for a person who can be recognised. Taught in chapter 03.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from skimage.transform import SimilarityTransform

from seglib import mesh
from seglib.errors import SeglibError, unknown_name
from seglib.faces import Face

OUTLINES = {
    "mouth": ((*mesh.UPPER_LIP[:11], *mesh.LOWER_LIP[10:0:-1]),),
    "eyes": (mesh.RIGHT_EYE, mesh.LEFT_EYE),
    "nose": (mesh.NOSE,),
    "face": (mesh.FACE_OVAL,),
}
# How far the pasted region goes beyond the outline, of the face's extent: enough to hide the
# target's own part, looked at on a dozen faces before any score was computed. The whole face
# stays a little inside its outline, where the mesh meets the hair.
MARGIN = {"mouth": 0.04, "eyes": 0.05, "nose": 0.03, "face": -0.02}
FEATHER = 0.02  # standard deviation of the soft edge, of the face's extent


class NothingToForge(SeglibError, ValueError):
    """The face has no mesh, or the region lies outside the picture."""


@dataclass(frozen=True)
class Forgery:
    """A forged picture, ``(H, W, 3)`` uint8, and exactly the pixels that differ, ``(H, W)``."""

    image: np.ndarray
    mask: np.ndarray


def part_swap(
    target: np.ndarray,
    target_face: Face,
    source: np.ndarray,
    source_face: Face,
    part: str,
    blend: str = "poisson",
    seed: int | Sequence[int] = 0,
) -> Forgery:
    """Put one part of the source's face onto the target's.

    The source is moved by the similarity that brings its part onto the target's in the least
    squares sense; the seed varies the width of the pasted region.

    Parameters
    ----------
    target, source : (H, W, 3) uint8
    part : "mouth", "eyes", "nose" or "face"
    blend : "poisson" or "feathered"
    """
    _check(part, blend)
    rng = np.random.default_rng(seed)
    points = sorted({point for outline in OUTLINES[part] for point in outline})
    there, here = mesh_of(source_face)[points], mesh_of(target_face)[points]
    move = SimilarityTransform.from_estimate(there, here).params[:2]
    donor = carried(source, move, target.shape)
    region = _region(target_face.mesh, part, target.shape, target_face.extent, rng)
    blended = BLENDS[blend](target, donor, region, target_face.extent)
    return _forgery(target, blended, region)


def self_blend(target: np.ndarray, face: Face, part: str, seed: int | Sequence[int] = 0) -> Forgery:
    """Blend a face with a slightly changed copy of itself.

    After Shiohara & Yamasaki, *Detecting Deepfakes with Self-Blended Images* (CVPR 2022,
    arXiv 2204.08376): the copy is moved, resized, relit and sharpened or blurred, then
    feathered in. Nobody else's face is needed. Simpler than theirs: one part, no elastic
    deformation of the mask, three blend ratios.
    """
    _check(part, "feathered")
    rng = np.random.default_rng(seed)
    points = sorted({point for outline in OUTLINES[part] for point in outline})
    centre = mesh_of(face)[points].mean(0)
    zoom, shift = rng.uniform(0.95, 1.05), rng.uniform(-0.02, 0.02, 2) * face.extent
    move = np.column_stack([np.eye(2) * zoom, centre - zoom * centre + shift])
    donor = _relit(carried(target, move, target.shape), rng)
    region = _region(face.mesh, part, target.shape, face.extent, rng)
    alpha = _feather(region, face.extent)[..., None] * rng.choice([0.5, 0.75, 1.0])
    return _forgery(target, alpha * donor + (1 - alpha) * target, region)


def _check(part: str, blend: str) -> None:
    outlines(part)
    if blend not in BLENDS:
        raise unknown_name("blending method", blend, BLENDS)


def outlines(part: str) -> tuple[Sequence[int], ...]:
    """Rings of mesh points around a part."""
    if part not in OUTLINES:
        raise unknown_name("part to forge", part, OUTLINES)
    return OUTLINES[part]


def mesh_of(face: Face) -> np.ndarray:
    """The face's mesh, ``(468, 2)``, or `NothingToForge`."""
    if face.mesh is None:
        raise NothingToForge(
            "the face to forge has no mesh; expected one found by the detector 'mesh'. "
            "Use seglib.faces.load('mesh')."
        )
    return face.mesh


def carried(image: np.ndarray, move: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A picture through a ``(2, 3)`` map, in the size that `shape` begins with."""
    return cv2.warpAffine(
        image, move, shape[1::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def _region(
    points: np.ndarray, part: str, shape: tuple[int, ...], extent: float, rng: np.random.Generator
) -> np.ndarray:
    """The part's outline, widened by its margin up to a fifth more or less; bool ``(H, W)``."""
    mask = np.zeros(shape[:2], np.uint8)
    for outline in OUTLINES[part]:
        cv2.fillPoly(mask, [np.round(points[list(outline)]).astype(np.int32)], 1)
    radius = round(abs(MARGIN[part]) * extent * rng.uniform(0.8, 1.2))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    mask = (cv2.dilate if MARGIN[part] > 0 else cv2.erode)(mask, disc)
    # A Poisson blend needs a known pixel on every side.
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    if not mask.any():
        raise NothingToForge(
            f"the {part} lies outside the picture of {shape[1]} x {shape[0]} pixels; expected "
            "the whole face in view. Choose another picture."
        )
    return mask.astype(bool)


def _poisson(
    target: np.ndarray, donor: np.ndarray, region: np.ndarray, extent: float
) -> np.ndarray:
    """Gradients of the donor, borders of the target (Perez et al., SIGGRAPH 2003), by OpenCV."""
    x, y, width, height = cv2.boundingRect(region.astype(np.uint8))
    # OpenCV centres the mask's box on this point: the box's own centre moves nothing.
    centre = (x + width // 2, y + height // 2)
    return cv2.seamlessClone(donor, target, region.astype(np.uint8) * 255, centre, cv2.NORMAL_CLONE)


def _feathered(
    target: np.ndarray, donor: np.ndarray, region: np.ndarray, extent: float
) -> np.ndarray:
    """Colours moved to the target's, then a soft edge.

    Mean and deviation of each channel are matched, after Reinhard et al. (*Color Transfer between
    Images*, 2001); in RGB instead of their l-alpha-beta, so that a grey face stays grey to the
    last bit and no tint gives the fake away.
    """
    (mean, std), (mean_donor, std_donor) = (
        (image[region].mean(0), image[region].std(0)) for image in (target, donor)
    )
    # A flat donor must not have its rounding noise blown up.
    moved = (donor - mean_donor) / np.maximum(std_donor, 1) * std + mean
    alpha = _feather(region, extent)[..., None]
    return alpha * moved.clip(0, 255) + (1 - alpha) * target


BLENDS = {"poisson": _poisson, "feathered": _feathered}


def _feather(region: np.ndarray, extent: float) -> np.ndarray:
    """A soft edge inside the region, 1 in its depth and exactly 0 outside."""
    soft = cv2.GaussianBlur(region.astype(np.float32), (0, 0), max(FEATHER * extent, 0.5))
    return np.where(region, (2 * soft - 1).clip(0, 1), 0)


def _relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness, contrast and sharpness changed a little."""
    lit = (image.astype(np.float32) - 128) * rng.uniform(0.9, 1.1) + 128 + rng.uniform(-12, 12)
    blurred = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.6, 1.2))
    return lit + rng.choice([-1.0, 0.5]) * (lit - blurred)


def _forgery(target: np.ndarray, blended: np.ndarray, region: np.ndarray) -> Forgery:
    image = np.where(region[..., None], np.round(blended).clip(0, 255), target).astype(np.uint8)
    return Forgery(image, (image != target).any(axis=-1))
