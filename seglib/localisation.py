"""Does an explanation point at what was forged?

A heat map gives every patch a number, the hotter the more suspect; of a forgery it is known which
pixels it changed. A patch without a number, -inf or NaN, is never pointed at; patches that are
equally hot are drawn by lot, and a measure is its expectation over the lots. So the order of
patches decides nothing, and a map that is flat scores as chance does. Taught in chapter 05.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seglib.backbones import Encoder
from seglib.errors import SeglibError
from seglib.indexing import label_counts
from seglib.probing import Probe
from seglib.regions import part_ids


class MapMismatch(SeglibError, ValueError):
    """Scores, heat maps and what was forged do not belong to the same pictures or patches."""


class WrongDirection(SeglibError, ValueError):
    """The probe reads other descriptors than the mean of this encoder's tokens."""


def forged_share(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Which share of each patch's pixels was forged, ``(B, gh, gw)`` float: the exact box average.

    masks is ``(B, H, W)`` bool, see `forgery.Forgery`, moved into the crop.

    Raises
    ------
    seglib.indexing.GridMismatch
        The grid does not cut a mask into whole pixels.
    """
    counts = label_counts(masks.astype(np.uint8), grid)  # a mask is a label map of two labels
    return counts[..., 1] / counts.sum(-1)


# -- heat maps ---------------------------------------------------------------------------------


def part_heat(scores: np.ndarray, parts: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Each patch takes the score of the part it belongs to, ``(B, gh, gw)`` float.

    Parameters
    ----------
    scores : (B, P) float
        Log-odds of the parts' probes; NaN where a part abstained.
    parts : sequence of P str
        Names of `regions.PARTS`. A patch of several takes their highest score.
    labels : (B, gh, gw) LaPa ids
        Of patches, see `indexing.patch_labels`.

    Returns
    -------
    (B, gh, gw) float
        -inf where a patch belongs to none of the parts, or only to such as abstained.

    Raises
    ------
    MapMismatch, seglib.errors.UnknownName
    """
    if scores.shape != (len(labels), len(parts)):
        raise MapMismatch(
            f"found scores of shape {scores.shape} for {len(labels)} label maps and {len(parts)} "
            "parts; expected a row a map and a column a part."
        )
    heat = np.full(labels.shape, -np.inf)
    for score, part in zip(scores.T, parts, strict=True):
        own = np.where(np.isin(labels, part_ids(part)), score[:, None, None], -np.inf)
        heat = np.fmax(heat, own)  # fmax passes over NaN
    return heat


def token_shares(probe: Probe, patches: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What each kept token adds to the score of their mean, ``(gh, gw)`` float64 log-odds.

    A linear score of a mean is a mean of linear scores, so the shares are exact: their sum is the
    score less the probe's ``constant``. A share says what the probe made of a token, and not what
    the token had seen: a contextual one has seen the whole crop. Taught in chapter 08.

    Parameters
    ----------
    probe : Probe
        Of a conditioning that keeps the score linear, on the mean of tokens.
    patches : (gh, gw, D) float
    kept : (gh, gw) bool
        The tokens that were pooled. The others get NaN.

    Raises
    ------
    WrongDirection
        The probe reads descriptors of another width.
    seglib.probing.NotLinear
    """
    direction, centre = probe.direction, probe.centre
    if len(direction) != patches.shape[-1]:
        raise WrongDirection(
            f"the probe reads descriptors of {len(direction)} numbers, and the tokens have "
            f"{patches.shape[-1]}; expected a probe on the mean of these tokens (pooling='mean'). "
            "Take the tokens of the encoder that it was trained with."
        )
    shares = np.full(kept.shape, np.nan)
    shares[kept] = (patches[kept] - centre) @ direction / max(kept.sum(), 1)
    return shares


def saliency(encoder: Encoder, pixels: torch.Tensor, direction: np.ndarray) -> np.ndarray:
    """How much the pixels of each patch move the logit of the mean of all patch tokens.

    The absolute gradient, summed over a patch's pixels and channels (Simonyan et al., *Deep Inside
    Convolutional Networks*, arXiv 1312.6034), by captum. It costs a forward and a backward pass,
    and the memory of both: give it a batch at a time.

    Parameters
    ----------
    encoder : seglib.backbones.Encoder
    pixels : (B, 3, H, W) float
        See `backbones.Encoder.pixels`.
    direction : (D,) float
        The probe's weight in the space of raw descriptors, see `probing.Probe.direction`.

    Returns
    -------
    (B, gh, gw) float32, in logits by units of normalised pixels

    Raises
    ------
    WrongDirection
    """
    from captum.attr import Saliency

    if direction.shape != (encoder.width,):
        raise WrongDirection(
            f"found a direction of shape {direction.shape} for tokens of width {encoder.width}; "
            f"expected ({encoder.width},). Take a probe of mean-pooled tokens of this encoder."
        )

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        patches = encoder.hidden(pixels)[-1][:, 1 + encoder.registers :]
        return patches.mean(1) @ torch.as_tensor(direction).to(patches)

    # A copy that asks for gradients: captum would set the flag on the caller's own, and warn.
    slopes = Saliency(logits).attribute(pixels.detach().clone().requires_grad_())
    summed = torch.nn.functional.avg_pool2d(
        slopes.float().sum(1), encoder.patch, divisor_override=1
    )
    return summed.cpu().numpy()


# -- measures ----------------------------------------------------------------------------------


def pointing(heat: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The chance that a random pixel of the hottest patch was forged, ``(B,)`` within [0, 1].

    The pointing game (Zhang et al., *Top-down Neural Attention by Excitation Backprop*, ECCV 2016)
    without its margin of 15 pixels. NaN where no patch has a number.

    Parameters
    ----------
    heat : (B, gh, gw) float
    share : (B, gh, gw) float, see `forged_share`

    Raises
    ------
    MapMismatch
    """
    return _hit(heat, share, np.ones(len(heat), int))[0]


def overlap(heat: np.ndarray, share: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Intersection over union of the hottest patches and the forged pixels, ``(B,)`` in [0, 1].

    Of patches drawn by lot the intersection is the expected one. Where patches are forged in part,
    even the best map stays below 1.

    Parameters
    ----------
    heat, share
        As in `pointing`.
    area : (B,) int
        How many patches to take, say as many as were forged; all that have a number where those
        are fewer. NaN where that leaves none.

    Raises
    ------
    MapMismatch
    """
    hit, taken = _hit(heat, share, area)
    return hit / (taken + share.sum((1, 2)) - hit)


def named(scores: np.ndarray, forged: np.ndarray) -> np.ndarray:
    """Whether the part with the highest score is the forged one: 1 or 0, of T tied parts 1 / T.

    Parameters
    ----------
    scores : (B, P) float
    forged : (B,) int
        The forged part's column.

    Returns
    -------
    (B,) float
        NaN where any part abstained: among fewer parts chance is no longer 1 / P.

    Raises
    ------
    MapMismatch
    """
    parts = scores.shape[1]
    if forged.shape != scores.shape[:1] or not np.isin(forged, range(parts)).all():
        raise MapMismatch(
            f"found forged parts {np.unique(forged).tolist()} of shape {forged.shape} for scores "
            f"of shape {scores.shape}; expected one a row, from 0 to {parts - 1}."
        )
    highest = scores == scores.max(1, keepdims=True)  # nowhere, if one is NaN
    with np.errstate(invalid="ignore"):  # 0 / 0 is the missing value that we want
        return highest[np.arange(len(scores)), forged] / highest.sum(1)


def _hit(heat: np.ndarray, share: np.ndarray, area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of shares of the hottest patches, expected over lots, and how many those are."""
    if heat.shape != share.shape or area.shape != heat.shape[:1]:
        raise MapMismatch(
            f"found heat maps of shape {heat.shape}, forged shares of {share.shape} and areas of "
            f"{area.shape}; expected (B, gh, gw) twice and (B,). Cut masks and label maps by the "
            "grid of the same tokens."
        )
    heat = np.where(np.isnan(heat), -np.inf, heat).reshape(len(heat), -1)
    taken = np.minimum(area, (heat > -np.inf).sum(1))
    last = np.take_along_axis(np.sort(heat, 1), heat.shape[1] - np.maximum(taken, 1)[:, None], 1)
    surely, by_lot = heat > last, heat == last
    chance = surely + by_lot * ((taken - surely.sum(1)) / by_lot.sum(1))[:, None]
    hit = (chance * share.reshape(heat.shape)).sum(1)
    return np.where(taken > 0, hit, np.nan), taken
