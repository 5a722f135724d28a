"""Forgeries that need no second face: a face blended with a worse copy of itself.

A face swap leaves what it pasted a little off: in place, colour, sharpness, noise. A probe that
learns such mismatches on self-blends (Shiohara & Yamasaki, *Detecting Deepfakes with Self-Blended
Images*, CVPR 2022, arXiv 2204.08376) has not learned one method's fingerprint. The second kind of
copy here has been through a narrow channel, as the faces of an autoencoder have: Turk &
Pentland's eigenfaces (*Eigenfaces for Recognition*, Journal of Cognitive Neuroscience 3, 1991).
Taught in chapter 08.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from sklearn.decomposition import PCA

from seglib import forgery, mesh
from seglib.faces import Face
from seglib.forgery import Forgery
from seglib.perturbation import jpeg, rescaled

# Set before any score was computed, and left as they were. Lengths are shares of the extent.
SHIFT, TURN, ZOOM = 0.03, 3.0, 0.05  # the copy is moved by up to: extents, degrees, share
BEND = 0.03  # and bent by up to
FEATHER = (0.005, 0.06)  # standard deviation of the soft edge
RATIOS = (0.5, 0.75, 1.0, 1.0, 1.0)  # of the copy, where it lies
SIDE = 128  # pixels of the upright square that is coded
COMPONENTS = (25, 50, 80, 120, 150)  # eigenfaces that a code keeps
# Where eyes and corners of the mouth come to lie in that square.
ANCHORS = np.float32([[0.34, 0.38], [0.66, 0.38], [0.38, 0.72], [0.62, 0.72]]) * SIDE
INNER = (*mesh.RIGHT_BROW, *mesh.LEFT_BROW, *mesh.LOWER_LIP, *mesh.NOSE)


def self_blend(target: np.ndarray, face: Face, part: str, seed: int | Sequence[int] = 0) -> Forgery:
    """Blend a part, or the whole ``"face"``, with a copy that was moved, bent, relit and worsened.

    Parameters
    ----------
    target : (H, W, 3) uint8
    face : Face
        With a mesh.
    part : a name of `forgery.OUTLINES`

    Returns
    -------
    Forgery
        Its mask is where the copy lies. What lies beneath may have been relit or worsened too, as
        a whole: compare it with nothing but its own surroundings.

    Raises
    ------
    seglib.forgery.NothingToForge, seglib.errors.UnknownName
    """
    rng = np.random.default_rng(seed)
    weight = _weight(target, face, part, rng)
    copy, beneath = target, target
    if rng.random() < 0.5:  # either of the two may be the one that is off
        copy = _relit(copy, rng)
    else:
        beneath = _relit(beneath, rng)
    if rng.random() < 0.8:
        copy = _worsened(copy, face.extent, rng)
    else:
        beneath = _worsened(beneath, face.extent, rng)
    return _blended(_moved(copy, face, rng), beneath, weight)


def recoded(target: np.ndarray, face: Face, codec: Codec, seed: int | Sequence[int] = 0) -> Forgery:
    """Put back the face as a code of few numbers keeps it: smooth, and a little like everybody."""
    rng = np.random.default_rng(seed)
    weight = _weight(target, face, "face", rng)
    kept = int(rng.choice(COMPONENTS))
    # Half of the time some of the lost detail comes back, as from a better network.
    detail = rng.uniform(0.2, 0.7) if rng.random() < 0.5 else 0.0
    copy, inside = codec(target, face, kept, detail)
    return _blended(_relit(copy, rng), target, weight * inside)


@dataclass(frozen=True)
class Codec:
    """Eigenfaces of some people, learned in an upright square of `SIDE` pixels."""

    learned: PCA

    @classmethod
    def of(cls, pictures: Sequence[np.ndarray], faces: Sequence[Face]) -> Codec:
        """Learn from pictures ``(H, W, 3)`` uint8, of other people than will be coded."""
        rows = [
            _square(image, _frame(face)).ravel()
            for image, face in zip(pictures, faces, strict=True)
        ]
        count = min(max(COMPONENTS), len(rows))
        return cls(PCA(count, svd_solver="randomized", random_state=0).fit(np.stack(rows)))

    def __call__(
        self, image: np.ndarray, face: Face, kept: int, detail: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The coded face in its place, ``(H, W, 3)`` grey, and where it reaches, ``(H, W)``."""
        frame = _frame(face)
        row = _square(image, frame).ravel()
        axes = self.learned.components_[:kept]
        coded = self.learned.mean_ + (row - self.learned.mean_) @ axes.T @ axes
        square = np.clip(detail * row + (1 - detail) * coded, 0, 255).astype(np.uint8)
        square = square.reshape(SIDE, SIDE)
        back, size = cv2.invertAffineTransform(frame), image.shape[1::-1]
        grey = cv2.warpAffine(
            square, back, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        inside = cv2.warpAffine(np.ones((SIDE, SIDE), np.float32), back, size) > 0.99
        return np.repeat(grey[..., None], 3, axis=2), inside


def _frame(face: Face) -> np.ndarray:
    """The similarity ``(2, 3)`` that brings eyes and mouth to their anchors."""
    points = face.points[[0, 1, 3, 4]].astype(np.float32)
    return cv2.estimateAffinePartial2D(points, ANCHORS, method=cv2.LMEDS)[0]


def _square(image: np.ndarray, frame: np.ndarray) -> np.ndarray:
    grey = image.mean(-1).astype(np.float32)
    return cv2.warpAffine(grey, frame, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)


def _blended(copy: np.ndarray, beneath: np.ndarray, weight: np.ndarray) -> Forgery:
    weight = weight[..., None]
    image = np.clip(np.round(weight * copy + (1 - weight) * beneath), 0, 255).astype(np.uint8)
    return Forgery(image, (image != beneath).any(axis=-1))


def _weight(image: np.ndarray, face: Face, part: str, rng: np.random.Generator) -> np.ndarray:
    """How much of the copy shows in each pixel, ``(H, W)`` from 0 to 1: a bent outline, soft."""
    points, extent = forgery.mesh_of(face), face.extent
    mask = np.zeros(image.shape[:2], np.uint8)
    for outline in _outlines(points, part, rng):
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 1)
    wider = rng.uniform(-0.05, 0.02) if part == "face" else rng.uniform(0.02, 0.08)
    radius = round(abs(wider) * extent)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    mask = (cv2.dilate if wider > 0 else cv2.erode)(mask, disc)
    mask = _bent(mask.astype(np.float32), 0.04 * extent, 0.06 * extent, rng)
    soft = cv2.GaussianBlur(mask, (0, 0), rng.uniform(*FEATHER) * extent)
    return (soft * mask if rng.random() < 0.5 else soft) * rng.choice(RATIOS)


def _outlines(points: np.ndarray, part: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Polygons of a part; of the face its oval, all the mesh, or what brows and lips enclose."""
    if part != "face":
        return [points[list(ring)] for ring in forgery.outlines(part)]
    whole = (points[list(mesh.FACE_OVAL)], points, points[list(INNER)])[rng.integers(3)]
    return [cv2.convexHull(whole.astype(np.float32))[:, 0]]


def _relit(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    gain, offset = rng.uniform(0.88, 1.12), rng.uniform(-15, 15)
    return np.clip((image.astype(np.float32) - 128) * gain + 128 + offset, 0, 255).astype(np.uint8)


def _worsened(image: np.ndarray, extent: float, rng: np.random.Generator) -> np.ndarray:
    """Another sharpness or other frequencies, one of five ways."""
    way = rng.integers(5)
    if way == 0:
        return rescaled(image, rng.uniform(0.35, 0.8))
    if way == 1:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.004, 0.012) * extent)
    if way == 2:
        blurred = cv2.GaussianBlur(image, (0, 0), 1.0).astype(np.float32)
        sharper = image + rng.uniform(0.4, 1.2) * (image - blurred)
        return np.clip(sharper, 0, 255).astype(np.uint8)
    if way == 3:
        return jpeg(image, rng.uniform(25, 80))
    return cv2.bilateralFilter(np.ascontiguousarray(image), 5, rng.uniform(15, 40), 3)


def _moved(image: np.ndarray, face: Face, rng: np.random.Generator) -> np.ndarray:
    centre = tuple(map(float, forgery.mesh_of(face).mean(0)))
    move = cv2.getRotationMatrix2D(centre, rng.uniform(-TURN, TURN), 1 + rng.uniform(-ZOOM, ZOOM))
    move[:, 2] += rng.uniform(-SHIFT, SHIFT, 2) * face.extent
    moved = forgery.carried(image, move, image.shape)
    if rng.random() < 0.5:
        return _bent(moved, BEND * face.extent, 0.08 * face.extent, rng)
    return moved


def _bent(image: np.ndarray, most: float, smooth: float, rng: np.random.Generator) -> np.ndarray:
    """Moved pixel by pixel along a smooth random field, by up to `most` pixels."""
    height, width = image.shape[:2]
    fields = []
    for axis in np.meshgrid(np.arange(width), np.arange(height)):
        field = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), smooth)
        fields.append((axis + most * field / np.abs(field).max()).astype(np.float32))
    return cv2.remap(image, *fields, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
