"""Face crop -> label map.

A `Parser` labels the pixels of crops in LaPa ids (see `regions`). The embedded one draws the
face mesh; FaRL's two, trained on LaPa and on CelebAMask-HQ, run through facer. Taught in
chapter 01.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

from seglib import devices, mesh, regions, weights
from seglib.errors import SeglibError, unknown_name
from seglib.faces import Crop, facer
from seglib.regions import label_id

PARSERS = ("mesh", "farl/lapa", "farl/celebm")
FARL_SIDE = 448  # pixels of FaRL's square input
FARL_BATCH = 8  # crops that FaRL sees together: facer holds their grids and logits in memory
# facer refuses samples above 1, and interpolation between white pixels rounds above 1 about
# once in 70,000.
WHITE = 1 - 1e-6

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


class Parser(Protocol):
    """The seam: what the chain asks of whoever labels the pixels."""

    digest: str  # of the weights, see `weights.digest`

    def parse(self, crops: Sequence[Crop]) -> tuple[np.ndarray, np.ndarray]:
        """Label maps ``(B, H, W)`` uint8 in LaPa ids of crops of one size, and how sure it is.

        The latter is a probability for each crop, ``(B,)`` float32; whose, each parser says.
        """

    def __call__(self, crops: Sequence[Crop]) -> np.ndarray:
        """The label maps alone."""
        return self.parse(crops)[0]


class MeshParser(Parser):
    """Fills the contours of MediaPipe's face mesh. No hair class.

    It is as sure of a crop as the mesh network is that there is a face.
    """

    digest = weights.digest()  # it draws what the detector's network saw

    def parse(self, crops: Sequence[Crop]) -> tuple[np.ndarray, np.ndarray]:
        """See `Parser.parse`."""
        sure = np.array([crop.face.sure for crop in crops], np.float32)
        return np.stack([self._draw(crop) for crop in crops]), sure

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


class FarlParser(Parser):
    """FaRL (Zheng et al., CVPR 2022) through FacePerceiver/facer, at 448 pixels.

    A crop whose face has five points is aligned by them as in the network's training: for LaPa
    with a tanh warp that squeezes what is far from the face into the border, for CelebAMask-HQ
    with the square that CelebA-HQ's portraits are cut by, about four times the distance of the
    eyes wide, beyond which a crop is background. A ready-made crop, without points, goes in as
    it is, though neither network was trained on crops other than its own. It is as sure of a crop
    as of its pixels on the mean: the probability of the class that each was given.

    Parameters
    ----------
    name : str
        ``"farl/lapa"`` or ``"farl/celebm"``. What each label set lacks is told in `regions`.
    device : str, optional
        Default: CUDA where there is one.

    Raises
    ------
    seglib.faces.FacerMissing
    seglib.weights.WeightsMissing, seglib.weights.WeightsDamaged
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        # TorchScript is a program: only the published one is run.
        self._name, self._path = name, weights.published(name)
        self.digest = weights.WEIGHTS[name].sha256[:12]
        self._device = torch.device(devices.choose(device))
        package = facer()
        self._network = weights.loaded(
            self._path,
            name,
            lambda path: package.face_parser(
                f"{name}/{FARL_SIDE}", self._device, model_path=str(path)
            ),
        )
        self._vocabulary = regions.vocabulary(self._network.label_names)

    def parse(self, crops: Sequence[Crop]) -> tuple[np.ndarray, np.ndarray]:
        """See `Parser.parse`."""
        labels = np.empty((len(crops), *crops[0].image.shape[:2]), np.uint8)
        sure = np.empty(len(crops), np.float32)
        ready = np.array([crop.face.points is None for crop in crops])
        for logits_of, which in ((self._aligned, ~ready), (self._as_they_are, ready)):
            places = np.flatnonzero(which)
            for start in range(0, len(places), FARL_BATCH):
                some = places[start : start + FARL_BATCH]
                logits = logits_of([crops[i] for i in some])
                labels[some] = self._labels(logits)
                best = logits.float().softmax(1).amax(1)
                sure[some] = best.mean((1, 2)).cpu().numpy()
        return labels, sure

    def _aligned(self, crops: Sequence[Crop]) -> torch.Tensor:
        """Logits ``(B, C, H, W)`` of crops whose faces have points."""
        # facer puts the centre of the first pixel at a half, this package at zero.
        points = np.stack([crop.face.points for crop in crops]) + 0.5
        found = {
            "points": torch.from_numpy(points).float().to(self._device),
            "image_ids": torch.arange(len(crops), device=self._device),
        }
        return self._network(self._pixels(crops), found)["seg"]["logits"]

    def _as_they_are(self, crops: Sequence[Crop]) -> torch.Tensor:
        """Logits ``(B, C, H, W)`` of ready-made crops."""
        pixels = self._pixels(crops)
        logits = self._network.forward_warped(_resized(pixels, (FARL_SIDE, FARL_SIDE)), False)
        return _resized(logits, pixels.shape[2:])

    def _pixels(self, crops: Sequence[Crop]) -> torch.Tensor:
        """``(B, 3, H, W)`` float32 from 0 to 1: of uint8, facer refuses a black picture."""
        images = torch.from_numpy(np.stack([crop.image for crop in crops])).to(self._device)
        return images.permute(0, 3, 1, 2) / 255 * WHITE

    def _labels(self, logits: torch.Tensor) -> np.ndarray:
        if logits.shape[1] != len(self._vocabulary):
            found = f"{logits.shape[1]} classes instead of {len(self._vocabulary)}"
            raise weights.damaged(self._path, self._name, found)
        labels = self._vocabulary[logits.argmax(dim=1).cpu().numpy()]
        # Beyond what the network saw, facer fills in zeros for all classes alike.
        labels[(logits == 0).all(dim=1).cpu().numpy()] = label_id("background")
        return labels


def load(name: str, device: str | None = None) -> Parser:
    """A parser by name; FaRL's run on the device."""
    if name not in PARSERS:
        raise unknown_name("parser", name, PARSERS)
    return MeshParser() if name == "mesh" else FarlParser(name, device)


def _resized(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """``(B, C, *size)``: the same maps, without aliasing; untouched where they have that size."""
    if maps.shape[2:] == tuple(size):
        return maps
    return interpolate(maps, tuple(size), mode="bilinear", antialias=True)
