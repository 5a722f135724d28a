"""Short H.264 videos of the demo's faces: the path of real data sets, without their data.

A clip is one portrait under a slowly moving camera, bona fide or forged before it was filmed. It
tries out manifests, extraction and tables; as evidence about deepfakes it is worth nothing.
Taught in chapter 06.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from seglib import demo, faces, forgery, media, video

SCALE = 3  # an ORL portrait of 92 x 112 pixels becomes a clip of 276 x 336
TURN, SHIFT = 3.0, 4.0  # how far the camera sways: degrees, and pixels of the clip


def write(
    path: Path,
    person: int,
    detector: faces.Detector,
    part: str | None = None,
    blend: str = "poisson",
    frames: int = 12,
    lender: int | None = None,
) -> None:
    """Write a clip of one of ORL's forty people, 0 to 39.

    Parameters
    ----------
    part : str, optional
        Forge this part with `blend`; None leaves the face as it is.
    lender : int, optional
        Who lends the part. Default: the next person.
    """
    portraits = demo.people("orl").drop_duplicates("person").path.tolist()
    pair = person, person + 1 if lender is None else lender
    target, other = (media.read_image(portraits[n % len(portraits)]) for n in pair)
    if part is not None:
        face, lent = (faces.largest(image, detector) for image in (target, other))
        target = forgery.part_swap(target, face, other, lent, part, blend, seed=person).image
    path.parent.mkdir(parents=True, exist_ok=True)
    video.write(path, filmed(target, frames, person))


def filmed(image: np.ndarray, frames: int, seed: int = 0) -> Iterator[np.ndarray]:
    """One picture ``(H, W, 3)`` under a swaying camera, enlarged by `SCALE`."""
    height, width = (SCALE * side for side in image.shape[:2])
    large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, 3)
    for number in range(frames):
        turn, *shift = np.sin(phase + number / 8) * [TURN, SHIFT, SHIFT]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.0)
        matrix[:, 2] += shift
        yield cv2.warpAffine(large, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
