"""Find the faces of a picture, choose one, cut out an upright crop.

Who finds them is a `Detector`: the embedded mesh, RetinaFace through facer, or nobody, where
a data set brings ready-made crops. The crop keeps its affine map, so that landmarks and masks
can follow the face both ways. Taught in chapter 01.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Protocol

import cv2
import numpy as np

from seglib import alignment, assets, weights
from seglib.errors import SeglibError, unknown_name
from seglib.mesh import LEFT_EYE, RIGHT_EYE, FaceMesh

MIN_FACE = 24  # pixels; below it a part is smaller than the blur of the picture
RULES = ("largest", "mask")  # by which one of several faces is chosen
# Pixels of the longer side that RetinaFace looks at: twice its largest anchor, so that a face
# that fills the picture is still found, and the time that a large picture takes is bounded.
RETINA_SIDE = 1024
RETINA_THRESHOLD = 0.8  # facer's own
NOSE_TIP, RIGHT_CORNER, LEFT_CORNER = 1, 61, 291  # mesh points


class NoFace(SeglibError):
    """No detector saw a face. The item is recorded with this reason; it never gets a score."""


class NotBytes(SeglibError, ValueError):
    """The picture is no ``(H, W, 3)`` array of bytes."""


class FaceTooSmall(SeglibError):
    """The face has too few pixels for its parts to be told apart."""


class NoFaceUnderMask(SeglibError):
    """Faces were found, but none where the mask says that the picture was manipulated."""


class WrongMaskSize(SeglibError, ValueError):
    """The mask and the picture differ in size."""


class FacerMissing(SeglibError):
    """The optional package facer cannot be imported."""


@dataclass(frozen=True)
class Face:
    """One face, in pixels of the array it was found in.

    box is ``(x0, y0, x1, y1)``. points are RetinaFace's five, ``(5, 2)``: the person's right
    eye (left in the picture), left eye, nose tip, right and left corner of the mouth; None if
    nobody looked for them, as in a ready-made crop. mesh is ``(468, 2)``, or None if the
    detector has no mesh; sure is the probability of a face that the mesh network gave.
    """

    box: np.ndarray
    points: np.ndarray | None
    score: float
    mesh: np.ndarray | None = None
    sure: float = float("nan")

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
            points=None if self.points is None else alignment.transform(matrix, self.points),
            mesh=None if self.mesh is None else alignment.transform(matrix, self.mesh),
        )


@dataclass(frozen=True)
class Crop:
    """An upright square around one face: ``(S, S, 3)`` uint8, its map, the face in its pixels."""

    image: np.ndarray
    matrix: np.ndarray
    face: Face


def facer() -> ModuleType:
    """FacePerceiver/facer, an optional package, imported when it is first needed.

    Raises
    ------
    FacerMissing
    """
    from seglib import devices

    devices.let_torchvision_import()
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of timm's
            import facer
    except ImportError as error:
        raise FacerMissing(
            f"the package facer cannot be imported ({error}); expected pyfacer 0.0.5 or later, "
            "which the detector 'retinaface' and the parsers 'farl/lapa' and 'farl/celebm' run "
            "on. Run: pip install 'seglib[farl]'"
        ) from error
    return facer


class Detector(Protocol):
    """The seam: what the chain asks of whoever finds the faces."""

    digest: str  # of the weights, see `weights.digest`

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Faces of a ``(H, W, 3)`` uint8 picture, largest first."""

    def batch(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The same for several pictures of one size."""
        return [self(image) for image in images]


def check_bytes(image: np.ndarray) -> None:
    """Refuse what is no ``(H, W, 3)`` uint8 picture: a network would find nothing in it, silently.

    Raises
    ------
    NotBytes
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise NotBytes(
            f"found a picture of {image.dtype} and shape {image.shape}; expected uint8, (H, W, 3). "
            "scikit-image's functions need preserve_range=True, then .astype(np.uint8)."
        )


class MeshDetector(Detector):
    """BlazeFace and the face mesh, see `mesh`; faces without a mesh are dropped."""

    def __init__(self) -> None:
        self.digest = weights.digest(*sorted(assets.fetch("face-mesh").rglob("*.tflite")))
        self._networks = FaceMesh()

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Faces of a ``(H, W, 3)`` uint8 picture, largest first."""
        check_bytes(image)
        found = []
        for detection in self._networks.detect(image):
            seen = self._networks.landmarks(image, detection)
            if seen is not None:
                found.append(_face_of(*seen, detection.score))
        return _largest_first(found)


class RetinaFaceDetector(Detector):
    """RetinaFace (Deng et al., CVPR 2020) with MobileNet 0.25, through FacePerceiver/facer.

    A picture whose longer side exceeds `RETINA_SIDE` is looked at in that size.

    Parameters
    ----------
    device : str, optional
        Default: CUDA where there is one.

    Raises
    ------
    FacerMissing, seglib.weights.WeightsMissing, seglib.weights.WeightsDamaged
    """

    def __init__(self, device: str | None = None) -> None:
        from seglib import devices

        path = weights.path("retinaface")
        self.digest = weights.digest(path)
        self._device = devices.choose(device)
        self._network = _retinaface(path, self._device)

    def __call__(self, image: np.ndarray) -> list[Face]:
        """Faces of a ``(H, W, 3)`` uint8 picture, largest first."""
        return self.batch([image])[0]

    def batch(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """The same for several pictures of one size, looked at together."""
        import torch

        for image in images:
            check_bytes(image)
        views = np.stack([_shrunk(image, RETINA_SIDE) for image in images])
        zoom = np.divide(images[0].shape[1::-1], views.shape[2:0:-1])
        with torch.inference_mode():
            seen = self._network(torch.from_numpy(views).permute(0, 3, 1, 2).to(self._device))
        columns = [seen[key].cpu().double().numpy() for key in ("rects", "points", "scores")]
        found: list[list[Face]] = [[] for _ in images]
        for place, box, points, score in zip(seen["image_ids"].tolist(), *columns, strict=True):
            # facer puts the centre of the first pixel at a half, this package at zero.
            box = (box.reshape(2, 2) * zoom - 0.5).ravel()
            found[place].append(Face(box, points * zoom - 0.5, float(score)))
        return [_largest_first(faces) for faces in found]


class WholePicture(Detector):
    """For ready-made crops: takes it on trust that the picture is one, and looks for nothing."""

    digest = weights.digest()

    def __call__(self, image: np.ndarray) -> list[Face]:
        """One face without points or score, whose box is the whole ``(H, W, 3)`` picture."""
        height, width = image.shape[:2]
        return [Face(np.array([0, 0, width, height]) - 0.5, None, float("nan"))]


DETECTORS = {"mesh": MeshDetector, "retinaface": RetinaFaceDetector, "whole": WholePicture}


def load(name: str, device: str | None = None) -> Detector:
    """A detector by name; only ``"retinaface"`` has a use for a device."""
    if name not in DETECTORS:
        raise unknown_name("detector", name, DETECTORS)
    return DETECTORS[name](device) if name == "retinaface" else DETECTORS[name]()


def choose(
    found: Sequence[Face],
    image_size: tuple[int, int],
    rule: str = "largest",
    mask: np.ndarray | None = None,
) -> Face:
    """One of the faces that a detector found in a picture.

    Parameters
    ----------
    found : sequence of Face
        Largest first.
    image_size : (width, height)
        Of the picture, in pixels.
    rule : str
        ``"largest"``, or ``"mask"``: the face whose box holds the most pixels of the mask. The
        fakes of DeepFakeDetection also show faces that nobody touched.
    mask : (H, W) bool array, optional
        The manipulated pixels. Bona fide pictures have none: there the largest face is taken.

    Raises
    ------
    NoFace, FaceTooSmall, NoFaceUnderMask, WrongMaskSize
        With the size of what was looked at.
    """
    if rule not in RULES:
        raise unknown_name("face choice", rule, RULES)
    width, height = image_size
    if not found:
        raise NoFace(
            f"no face found in a picture of {width} x {height} pixels; expected a face seen from "
            f"the front or half from the side, at least {MIN_FACE} pixels and a thirtieth of the "
            "picture tall. Crop the picture around the face, or leave it out."
        )
    face = found[0] if rule == "largest" or mask is None else _most_covered(found, mask, image_size)
    if face.extent < MIN_FACE:
        raise FaceTooSmall(
            f"the face chosen is {face.extent:.0f} pixels tall in a picture of {width} x {height}; "
            f"expected at least {MIN_FACE}. Use the picture at its full size."
        )
    return face


def largest(image: np.ndarray, detector: Detector) -> Face:
    """The largest face of a ``(H, W, 3)`` uint8 picture; raises like `choose`."""
    return choose(detector(image), image.shape[1::-1])


def crop(image: np.ndarray, face: Face, size: int, scale: float) -> Crop:
    """An upright square crop of ``size`` pixels, `scale` times the face's longer side.

    Upright by the line between the eyes; what lies beyond the border repeats the edge. A face
    without points is a ready-made crop, which stays as it is: not turned, and of scale 1.
    """
    angle = 0.0
    if face.points is None:
        scale = 1.0
    else:
        right, left = face.points[:2]
        angle = float(np.arctan2(*(left - right)[::-1]))
    centre = (face.box[:2] + face.box[2:]) / 2
    matrix = alignment.upright_square(centre, scale * face.extent, angle, size)
    return Crop(alignment.warp(image, matrix, size), matrix, face.moved(matrix))


def _face_of(mesh: np.ndarray, sure: float, score: float) -> Face:
    eyes = [mesh[list(RIGHT_EYE)].mean(0), mesh[list(LEFT_EYE)].mean(0)]
    points = np.stack([*eyes, *mesh[[NOSE_TIP, RIGHT_CORNER, LEFT_CORNER]]])
    return Face(np.concatenate([mesh.min(0), mesh.max(0)]), points, score, mesh, sure)


def _largest_first(found: Sequence[Face]) -> list[Face]:
    return sorted(found, key=lambda face: -face.extent)


def _most_covered(found: Sequence[Face], mask: np.ndarray, image_size: tuple[int, int]) -> Face:
    width, height = image_size
    if mask.shape != (height, width):
        raise WrongMaskSize(
            f"the mask has the shape {mask.shape}; expected {(height, width)}, that of the "
            "picture. Give the mask of the same frame, at the video's full size."
        )
    covered = [_covered(mask, face.box) for face in found]
    if not any(covered):
        raise NoFaceUnderMask(
            f"none of {len(found)} faces in a picture of {width} x {height} pixels lies under "
            f"the mask, which marks {np.count_nonzero(mask)} pixels; expected one that does. "
            "Leave the picture out, or choose the largest face."
        )
    return found[int(np.argmax(covered))]


def _covered(mask: np.ndarray, box: np.ndarray) -> int:
    """How many pixels of the mask have their centre in a box."""
    x0, y0 = np.ceil(box[:2]).astype(int).clip(0)
    x1, y1 = np.floor(box[2:]).astype(int).clip(-1) + 1
    return int(np.count_nonzero(mask[y0:y1, x0:x1]))


def _shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """The picture, or where its longer side exceeds `side`, its area averages in that size."""
    height, width = image.shape[:2]
    longer = max(height, width)
    if longer <= side:
        return image
    size = [max(round(length * side / longer), 1) for length in (width, height)]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _retinaface(path: Path, device: str):
    """facer's detector with the weights of a file, all of them."""
    import torch

    package = facer()

    def load(path: Path):
        # Before facer, which in older versions of torch would unpickle whatever stands there.
        stored = torch.load(path, map_location="cpu", weights_only=True)
        detector = package.face_detector(
            "retinaface/mobilenet", device, model_path=str(path), threshold=RETINA_THRESHOLD
        )
        names = {name.removeprefix("module.") for name in stored.get("state_dict", stored)}
        return detector, set(detector.net.state_dict()) - names

    benchmark = torch.backends.cudnn.benchmark
    try:
        detector, absent = weights.loaded(path, "RetinaFace", load)
    finally:
        torch.backends.cudnn.benchmark = benchmark  # facer sets it for the whole process
    if absent:  # facer leaves at random what a file lacks
        found = f"{len(absent)} of its tensors are missing, say {min(absent)}"
        raise weights.damaged(path, "RetinaFace", found)
    return detector
