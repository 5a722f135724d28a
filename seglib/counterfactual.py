"""What does a score do when pixels are replaced?

If a verdict was read from one part of a face, replacing everything else should leave it as it is,
and replacing the part should take it away. What stands in for the pixels matters: zeros are like
nothing that the network has seen, and blame whatever they replace. *Zero-Ablation Overstates
Register Content Dependence in DINO Vision Transformers* (arXiv 2604.14433) shows that for tokens:
scores that collapse under zeros survive the mean, noise of the same mean and variance, and the
content of other pictures. We replace pixels by five kinds of what might have been there. Each
leaves a seam; how much that alone moves a score, bona fide pictures tell, treated alike. Taught in
chapter 05.
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np

from seglib.errors import SeglibError, unknown_name

SUBSTITUTES = ("mean", "blur", "noise", "shuffled", "other")
CHANGES = tuple(product(("outside", "inside"), SUBSTITUTES))  # what is replaced, and by what
# Standard deviation of the blur, of the picture's longer side. Of a wave as long as a mouth is
# wide, a third of the side, it leaves a sixth, and of one half as long a thousandth.
BLUR = 0.1


class NoOtherFace(SeglibError, ValueError):
    """Pixels of another face were asked for, and none was given."""


class WrongSize(SeglibError, ValueError):
    """The picture, what to replace in it, and the other face do not fit onto each other."""


def substituted(
    image: np.ndarray,
    where: np.ndarray,
    how: str,
    rng: np.random.Generator,
    other: np.ndarray | None = None,
) -> np.ndarray:
    """The picture with the pixels `where` replaced; all others stay, bit for bit.

    What is put there never depends on a pixel that stays, so that nothing is carried over the
    border. A grey picture stays grey, so that no tint gives anything away; `other` must then be
    grey too.

    Parameters
    ----------
    image : (H, W, 3) uint8
    where : (H, W) bool
        To replace all but a part, give ``~part``. Where there is nothing to replace, the picture
        comes back as it was.
    how : of `SUBSTITUTES`
        ``"mean"``: the mean colour of what is replaced. ``"blur"``: a Gaussian blur so wide that
        light and shade stay, and no detail. ``"noise"``: Gaussian, with each channel's mean and
        deviation, and one draw a pixel for all channels. ``"shuffled"``: the same pixels in
        random order. ``"other"``: another face's pixels at the same places; this is what the
        paper calls shuffled, since it exchanges tokens between pictures.
    rng : numpy.random.Generator
        For noise and shuffling.
    other : (H, W, 3) uint8, optional
        The crop of another face.

    Raises
    ------
    NoOtherFace, WrongSize, seglib.errors.UnknownName
    """
    if how not in SUBSTITUTES:
        raise unknown_name("substitute", how, SUBSTITUTES)
    if how == "other" and other is None:
        raise NoOtherFace(
            "the substitute 'other' was asked for without another face; expected its crop, of "
            f"shape {image.shape}. Give other=, say the crop of the next person."
        )
    if where.shape != image.shape[:2] or where.dtype != bool:
        raise WrongSize(
            f"found {where.dtype} of shape {where.shape} as what to replace in a picture of shape "
            f"{image.shape}; expected bool of shape {image.shape[:2]}. Take the mask of this crop."
        )
    if other is not None and other.shape != image.shape:
        raise WrongSize(
            f"found another face of shape {other.shape} for a picture of shape {image.shape}; "
            "expected the same. Cut both crops in one size."
        )
    changed = image.copy()
    if not where.any():
        return changed
    own = image[where]
    match how:
        case "mean":
            stand_in = own.mean(0)
        case "blur":
            stand_in = _blurred(image, where)
        case "noise":
            stand_in = own.mean(0) + own.std(0) * rng.standard_normal((len(own), 1))
        case "shuffled":
            stand_in = rng.permutation(own)
        case "other":
            stand_in = other[where]
    changed[where] = np.round(stand_in).clip(0, 255)
    return changed


def _blurred(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The pixels `where`, ``(N, 3)``, each the weighted mean of its neighbours among them.

    A normalised convolution: all other pixels have no weight (Knutsson & Westin, *Normalized and
    Differential Convolution*, CVPR 1993).
    """
    sigma = BLUR * max(where.shape)

    def blurred(plane: np.ndarray) -> np.ndarray:
        plane = np.where(where, plane, 0).astype(np.float32)
        return cv2.GaussianBlur(plane, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)[where]

    # One channel at a time: channels that are equal must come out equal to the last bit.
    planes = [blurred(image[..., channel]) for channel in range(3)]
    return np.stack(planes, -1) / blurred(np.ones_like(where))[:, None]
