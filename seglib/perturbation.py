"""What happens to pictures on their way through the world: downscaled, noisy, blurred, compressed.

Seeded, so that a forgery and the picture it was made from can be given the same treatment: what
then tells them apart is the forgery. Taught in chapter 08.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# Set before any score was computed, and left as they were.
SCALE = (0.5, 0.95)  # downscaled to, and back
NOISE = (1.0, 6.0)  # standard deviation, of 255
BLUR = (0.4, 1.0)  # standard deviation in pixels
QUALITY = (40, 98)  # of JPEG
CHANCE = {"scale": 0.6, "noise": 0.3, "blur": 0.3, "jpeg": 0.8}


def wild(image: np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
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


def rescaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Made smaller by area averages, and enlarged again to its size."""
    height, width = image.shape[:2]
    size = max(round(width * scale), 8), max(round(height * scale), 8)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    """Compressed by OpenCV's JPEG, 0 to 100, and decoded again."""
    _, file = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, round(quality)])
    return cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1].copy()
