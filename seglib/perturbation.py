"""What happens to pictures on their way through the world: compressed, scaled, covered, cropped.

Twelve kinds in five levels each. Seven are those of DeeperForensics-1.0 (Jiang et al., CVPR 2020)
with the parameters of its repository (``perturbation/add_distortion_to_video.py`` and
``distortions.py``), but rounded and clipped where that cuts off and wraps around; five are ours,
fixed before any score was computed. All are seeded, so that a forgery and the picture it was made
from can be given the same treatment: what then tells them apart is the forgery. Taught in
chapter 07; `wild`, which draws several at random, in chapter 08.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from seglib import files, video
from seglib.errors import SeglibError
from seglib.faces import Face, check_bytes
from seglib.recipe import PERTURBATIONS, UNTOUCHED, unknown_perturbation

Seed = int | Sequence[int]

# Of `wild`; set before any score was computed, and left as they were.
SCALE = (0.5, 0.95)  # downscaled to, and back
NOISE = (1.0, 6.0)  # standard deviation, of 255
BLUR = (0.4, 1.0)  # standard deviation in pixels
QUALITY = (40, 98)  # of JPEG
CHANCE = {"scale": 0.6, "noise": 0.3, "blur": 0.3, "jpeg": 0.8}

BLOCK, MOST_BLOCKS = 8, 80  # side in pixels, and how many the highest level has, on pictures of
BLOCKS_ON = 256  # pixels on the shorter side
STUDIO_LUMA, STUDIO_CHROMA = 219, 224  # steps of 8-bit luma and chroma in video (ITU-R BT.601)
JITTER = "jitter"
SHARED = 90  # JPEG quality of a screenshot that is passed on


def wild(image: np.ndarray, seed: Seed) -> np.ndarray:
    """A picture ``(H, W, 3)`` uint8 after some of what happens, in the order in which it does."""
    rng = np.random.default_rng(seed)
    happens = {name: rng.random() < chance for name, chance in CHANCE.items()}
    scale, noise, blur, quality = (rng.uniform(*ends) for ends in (SCALE, NOISE, BLUR, QUALITY))
    if happens["scale"]:
        image = rescaled(image, scale)
    if happens["noise"]:  # the same in all channels: a grey picture stays grey
        grain = rng.normal(0, noise, image.shape[:2])[..., None]
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if happens["blur"]:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    return jpeg(image, quality) if happens["jpeg"] else image


# -- the kinds of DeeperForensics-1.0 -----------------------------------------------------------


def saturated(image: np.ndarray, factor: float) -> np.ndarray:
    """Colours drawn towards grey of the same luma; 0 leaves none."""
    return _bytes(_luma(image) + factor * (image - _luma(image)))


def darkened(image: np.ndarray, factor: float) -> np.ndarray:
    """All values times a factor, which DeeperForensics calls a change of contrast."""
    return _bytes(image * np.float32(factor))


def blocked(image: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """So many grey blocks of 8 x 8 pixels anywhere, more on larger pictures.

    DeeperForensics counts them by whole multiples of 256 pixels of the shorter side, so that a
    smaller picture would get none.
    """
    changed, size = image.copy(), np.array(image.shape[:2])
    # As many as the highest level needs are drawn: a lower one has the first of the same blocks.
    drawn, kept = (round(n * size.min() / BLOCKS_ON) for n in (MOST_BLOCKS, count))
    corners = (rng.random((drawn, 2)) * np.maximum(size - BLOCK, 1)).astype(int)[:kept]
    covered = corners[..., None] + np.arange(BLOCK)
    rows, columns = np.minimum(covered, size[:, None] - 1).transpose(1, 0, 2)
    changed[rows[:, :, None], columns[:, None, :]] = 128
    return changed


def noisy(image: np.ndarray, variance: float, rng: np.random.Generator) -> np.ndarray:
    """White noise on luma and chroma; the variance is that of a signal from 0 to 1."""
    spread = (
        np.sqrt(variance)
        * 255
        * np.array([255 / STUDIO_LUMA, 255 / STUDIO_CHROMA, 255 / STUDIO_CHROMA])
    )
    luma = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2YCrCb)
    grain = rng.standard_normal(image.shape, np.float32) * spread.astype(np.float32)
    return _bytes(cv2.cvtColor(luma + grain, cv2.COLOR_YCrCb2RGB))


def blurred(image: np.ndarray, size: int) -> np.ndarray:
    """A Gaussian kernel so many pixels wide, three standard deviations to each side."""
    return cv2.GaussianBlur(image, (size, size), size / 6)


def pixelated(image: np.ndarray, times: int) -> np.ndarray:
    """Bilinearly made so many times smaller and larger again: DeeperForensics' "JPEG"."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(width // times, 1), max(height // times, 1)))
    return cv2.resize(small, (width, height))


def h264(image: np.ndarray, crf: int) -> np.ndarray:
    """A picture as the only frame of an H.264 video; a whole video is `reencoded`."""
    height, width = image.shape[:2]
    with tempfile.TemporaryDirectory(prefix="seglib-") as folder:
        path = Path(folder) / "frame.mp4"
        video.write(path, [even(image)], crf=crf)
        ((_, decoded),) = video.read(path, [0])
    return decoded[:height, :width].copy()


def even(image: np.ndarray) -> np.ndarray:
    """With its last row or column twice where a side is odd: H.264's colours want even sides."""
    height, width = image.shape[:2]
    return cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)


# -- ours ---------------------------------------------------------------------------------------


def jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    """Compressed by OpenCV's JPEG, 0 to 100, and decoded again."""
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1].copy()


def rescaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Made smaller by area averages, and enlarged again to its size."""
    height, width = image.shape[:2]
    size = max(round(width * scale), 8), max(round(height * scale), 8)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def captured(image: np.ndarray, scale: float) -> np.ndarray:
    """As a screenshot of it in a smaller window, passed on as a JPEG and enlarged again.

    Screens scale fast, by bilinear interpolation without averaging, and windows do not lie on the
    picture's pixels: what remains is aliased and half a pixel off.
    """
    height, width = image.shape[:2]
    size = max(round(width * scale), 8), max(round(height * scale), 8)
    window = np.float32([[1 / scale, 0, 0.5 / scale], [0, 1 / scale, 0.5 / scale]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpAffine(image, window, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(jpeg(shown, SHARED), (width, height), interpolation=cv2.INTER_LINEAR)


def occluded(
    image: np.ndarray, share: float, rng: np.random.Generator, box: np.ndarray
) -> np.ndarray:
    """A flat square over a share of the face's box, with its centre somewhere in that box.

    It has the picture's mean colour. box is ``(x0, y0, x1, y1)``.
    """
    corner, size = box[:2], box[2:] - box[:2]
    centre, half = corner + rng.random(2) * size, np.sqrt(share * size.prod()) / 2
    (left, top), (right, bottom) = (
        np.clip(np.round(centre + side).astype(int), 0, image.shape[1::-1])
        for side in (-half, half)
    )
    changed = image.copy()
    changed[top:bottom, left:right] = np.round(image.mean((0, 1)))
    return changed


def jittered(box: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The box of a face moved and scaled, each by up to a share of its longer side."""
    size, *shift = rng.uniform(-share, share, 3)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    centre = centre + np.multiply(shift, 2 * half.max())
    return np.concatenate([centre - (1 + size) * half, centre + (1 + size) * half])


# -- all of them --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind: its function, what that is given at levels 1 to 5, and what this number means.

    drawn: it also takes a random generator; on_face: and the box of the face.
    """

    change: Callable[..., np.ndarray]
    levels: tuple[float, ...]
    meaning: str
    drawn: bool = False
    on_face: bool = False


KINDS: Mapping[str, Kind] = {
    "saturation": Kind(saturated, (0.4, 0.3, 0.2, 0.1, 0.0), "share of colour kept"),
    "contrast": Kind(darkened, (0.85, 0.725, 0.6, 0.475, 0.35), "factor"),
    "blocks": Kind(blocked, (16, 32, 48, 64, MOST_BLOCKS), "blocks", drawn=True),
    "noise": Kind(noisy, (0.001, 0.002, 0.005, 0.01, 0.05), "variance", drawn=True),
    "blur": Kind(blurred, (7, 9, 13, 17, 21), "pixels of the kernel"),
    "pixelation": Kind(pixelated, (2, 3, 4, 5, 6), "times smaller"),
    "h264": Kind(h264, (30, 32, 35, 38, 40), "CRF"),
    "jpeg": Kind(jpeg, (90, 70, 50, 30, 10), "quality"),
    "downscaling": Kind(rescaled, (0.75, 0.5, 0.375, 0.25, 0.1875), "scale"),
    "screenshot": Kind(captured, (0.9, 0.75, 0.6, 0.5, 0.4), "scale"),
    "occlusion": Kind(
        occluded, (0.05, 0.1, 0.15, 0.2, 0.25), "share of the face", drawn=True, on_face=True
    ),
    # Of the box, not of the picture: as if the detector had been a little off.
    JITTER: Kind(jittered, (0.05, 0.1, 0.15, 0.2, 0.25), "share of the face", drawn=True),
}
DEEPERFORENSICS = tuple(KINDS)[:7]


@dataclass(frozen=True)
class Perturbation:
    """One kind at one level; level 0 leaves everything as it is."""

    kind: str
    level: int

    @classmethod
    def of(cls, decision: str) -> Perturbation:
        """As a recipe names it: ``"jpeg:3"``, or ``"none"``.

        Raises
        ------
        seglib.errors.UnknownName
        """
        if decision not in PERTURBATIONS:
            raise unknown_perturbation(decision)
        kind, _, level = decision.partition(":")
        return cls(kind, int(level or 0))

    def __post_init__(self) -> None:
        if str(self) not in PERTURBATIONS:
            raise unknown_perturbation(str(self))

    def __str__(self) -> str:
        return f"{self.kind}:{self.level}" if self.level else UNTOUCHED

    @property
    def _parameter(self) -> float:
        return KINDS[self.kind].levels[self.level - 1]

    def picture(self, image: np.ndarray, seed: Seed, box: np.ndarray | None = None) -> np.ndarray:
        """A picture ``(H, W, 3)`` uint8 after it; the same seed draws the same at every level.

        Parameters
        ----------
        box : (4,) array, optional
            Of the face, for a kind that is `on_face`; without a face nothing is changed.

        Raises
        ------
        seglib.faces.NotBytes
        """
        if self.level == 0 or self.kind == JITTER or (self.on_face and box is None):
            return image
        check_bytes(image)
        kind = KINDS[self.kind]
        more = [np.random.default_rng(seed)] * kind.drawn + [np.asarray(box, float)] * kind.on_face
        return kind.change(image, self._parameter, *more)

    def face(self, found: Face, seed: Seed) -> Face:
        """The face as a detector that is a little off would have it."""
        if self.level == 0 or self.kind != JITTER:
            return found
        box = jittered(found.box, self._parameter, np.random.default_rng(seed))
        return replace(found, box=box)

    @property
    def on_face(self) -> bool:
        """Whether the place of the face has to be known before."""
        return self.level > 0 and KINDS[self.kind].on_face

    def reencodes(self, path: Path) -> bool:
        """Whether it is done to a whole file, by `reencoded`, before any frame is taken from it."""
        return self.level > 0 and self.kind == "h264" and video.is_file(path)

    @contextmanager
    def reencoded(self, path: Path) -> Iterator[Path]:
        """The video in another compression, in a private folder that is removed afterwards.

        All frames are encoded: those that a recipe samples lie too far apart to predict each
        other. Odd sides become `even`.

        Raises
        ------
        seglib.errors.SeglibError
            What `video.length` and `video.read` say; also where a single frame is damaged.
        seglib.files.CannotWrite
            There is no room for it.
        """
        with tempfile.TemporaryDirectory(prefix="seglib-") as folder:
            copy, frames = Path(folder) / "reencoded.mp4", range(video.length(path))
            sound = map(even, _sound(video.read(path, frames)))
            try:
                video.write(copy, sound, crf=int(self._parameter))
            except OSError as error:
                raise files.cannot_write(copy, error) from error
            yield copy


def _sound(frames: Iterator[tuple[int, np.ndarray | SeglibError]]) -> Iterator[np.ndarray]:
    for _, frame in frames:
        if isinstance(frame, SeglibError):
            raise frame
        yield frame


def _luma(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2GRAY)[..., None]


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
