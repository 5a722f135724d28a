"""The idea: label map x patch grid -> patch labels -> keep -> pool.

A parser labels pixels, an encoder speaks in patches. Each patch takes the label that covers
most of it; the tokens of one part are kept and averaged; everything else is thrown away
*before* pooling (arXiv 2606.00098). Taught in chapter 02.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from seglib.errors import SeglibError, unknown_name
from seglib.recipe import CHOICES, PATCH_RULES
from seglib.regions import LABELS, part_ids


class GridMismatch(SeglibError, ValueError):
    """Label map, grid and tokens do not fit onto each other."""


def label_counts(label_maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """How many pixels of each label every patch has: the exact box sum.

    Parameters
    ----------
    label_maps : (B, H, W) uint8, LaPa ids
    grid : (gh, gw)
        H must be a multiple of gh, W of gw.

    Returns
    -------
    (B, gh, gw, 11) int64

    Raises
    ------
    GridMismatch
        With the sizes that were met.
    """
    (batch, height, width), (rows, columns) = label_maps.shape, grid
    if height % rows or width % columns:
        raise GridMismatch(
            f"a label map of {width} x {height} pixels cannot be cut into a grid of {columns} x "
            f"{rows} patches; expected whole pixels in each. Parse and encode the same crop."
        )
    if label_maps.max(initial=0) >= len(LABELS):
        raise GridMismatch(
            f"label {label_maps.max()} found in a label map; expected LaPa ids 0 to "
            f"{len(LABELS) - 1}. Map the parser's own labels by name, see seglib.regions."
        )
    patches = label_maps.reshape(batch, rows, height // rows, columns, width // columns)
    # A number for each pair of patch and label, so that one count of numbers counts all pairs.
    first = np.arange(batch * rows * columns).reshape(batch, rows, 1, columns, 1) * len(LABELS)
    counts = np.bincount((first + patches).ravel(), minlength=first.size * len(LABELS))
    return counts.reshape(batch, rows, columns, len(LABELS))


def patch_labels(label_maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The label with the largest share of each patch, ``(B, gh, gw)`` uint8; ties to the lower.

    The labels of all patches partition the grid, so sums over labels add up exactly.
    """
    return label_counts(label_maps, grid).argmax(axis=-1).astype(np.uint8)


def keep(
    label_maps: np.ndarray, grid: tuple[int, int], part: str, rule: str | float = "largest"
) -> np.ndarray:
    """Which patches belong to a part, bool ``(B, gh, gw)``.

    Parameters
    ----------
    label_maps : (B, H, W) uint8, LaPa ids
    part : str
        A name of `regions.PARTS`.
    rule : "largest", "touched", "box" or float
        The patch's own label is of the part; any pixel is; it lies in the bounding box of those
        whose own label is, the control for how finely the parser cuts; or more than this share
        of its pixels is.
    """
    ids = list(part_ids(part))
    if rule in ("largest", "box"):
        own = np.isin(patch_labels(label_maps, grid), ids)
        return own if rule == "largest" else _box(own)
    if rule != "touched" and (isinstance(rule, str) or not 0 <= rule < 1):
        raise unknown_name("patch rule", rule, (*PATCH_RULES, "a share in [0, 1)"))
    counts = label_counts(label_maps, grid)
    share = counts[..., ids].sum(-1) / counts.sum(-1)
    return share > (0 if rule == "touched" else rule)


def _box(kept: np.ndarray) -> np.ndarray:
    """The smallest upright box around the kept patches of each grid; none where none is."""
    rows, columns = kept.any(2), kept.any(1)

    def between(hit: np.ndarray) -> np.ndarray:
        after = np.logical_or.accumulate(hit, axis=1)
        return after & np.logical_or.accumulate(hit[:, ::-1], axis=1)[:, ::-1]

    return between(rows)[:, :, None] & between(columns)[:, None, :]


def by_label(labels_of_patches: np.ndarray) -> np.ndarray:
    """Patch labels ``(B, gh, gw)`` -> which patches have each label, bool ``(B, 11, gh, gw)``."""
    return labels_of_patches[:, None] == np.arange(len(LABELS)).reshape(-1, 1, 1)


def pool(
    patches: torch.Tensor, kept: np.ndarray, pooling: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """The kept tokens as one descriptor, and how many they were.

    Parameters
    ----------
    patches : (B, gh, gw, D)
    kept : (B, gh, gw) bool
    pooling : "mean", "max" or "mean+std"

    Returns
    -------
    descriptors : (B, D) float32, of ``"mean+std"`` (B, 2 D)
        NaN where no token was kept: a missing value, neither an error nor a zero.
    counts : (B,) int64
    """
    return combined(*partial_pools(patches, kept[:, None], pooling), pooling)


def partial_pools(
    patches: torch.Tensor, members: np.ndarray, pooling: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """What any union of disjoint sets of patches can be pooled from, for K sets of each crop.

    For the mean that is the sum of tokens; for the maximum it is itself; for mean and deviation
    the sums of tokens and of their squares. All sets of a batch are summed in one call, which reads
    each token once: what multiplying by the sets as ones and zeros would give, without the zeros.

    Parameters
    ----------
    patches : (B, gh, gw, D)
        On any device, where they are summed; for the maximum they come to the CPU. Tokens that
        belong to no set are not looked at, and may be NaN.
    members : (B, K, gh, gw) bool

    Returns
    -------
    pools : (B, K, D) float32, of ``"mean+std"`` (B, K, 2 D)
    counts : (B, K) int64
    """
    if pooling not in CHOICES["pooling"]:
        raise unknown_name("pooling", pooling, CHOICES["pooling"])
    if tuple(patches.shape[:3]) != (len(members), *members.shape[2:]):
        raise GridMismatch(
            f"tokens of shape {tuple(patches.shape)} and sets of patches of shape "
            f"{members.shape}; expected the same batch and grid. Cut the label map by the grid of "
            "these tokens."
        )
    patches = patches.float()
    if pooling == "mean+std":
        patches = torch.cat([patches, patches**2], -1)
    tokens, apart = _rows(patches)
    (batch, sets), places = members.shape[:2], math.prod(members.shape[2:])
    inside = np.flatnonzero(members)  # set by set: each begins where those before it end
    owner = inside // places
    counts = np.bincount(owner, minlength=batch * sets)
    which = inside - owner * places + owner // sets * apart
    starts = counts.cumsum() - counts
    if pooling == "max":
        pools = np.full((counts.size, tokens.shape[1]), np.nan, np.float32)
        if len(which):
            some = counts > 0
            pools[some] = np.maximum.reduceat(tokens.cpu().numpy()[which], starts[some])
    else:
        bags = [torch.from_numpy(one).to(tokens.device) for one in (which, starts)]
        pools = functional.embedding_bag(bags[0], tokens, bags[1], mode="sum").cpu().numpy()
    return pools.reshape(batch, sets, tokens.shape[1]), counts.reshape(batch, sets)


def _rows(patches: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Tokens as rows ``(R, D)``, and how many rows lie from one crop's first to the next one's.

    What an encoder gives is a view: between the patches of two crops stand CLS and registers.
    Leaving them there saves a copy of all tokens, which would take longer than summing them.
    """
    batch, *grid, width = patches.shape
    apart, rest = divmod(patches.stride(0), width)
    if rest or not patches[:1].is_contiguous():
        return patches.flatten(0, 2), math.prod(grid)
    rows = max(batch - 1, 0) * apart + math.prod(grid) * min(batch, 1)
    return patches.as_strided((rows, width), (width, 1)), apart


def combined(
    pools: np.ndarray, counts: np.ndarray, pooling: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """``(B, K, W)`` partial pools of disjoint sets -> one descriptor over all K, see `pool`."""
    total = counts.sum(1)
    if pooling == "max":
        highest = np.where(counts[..., None] > 0, pools, -np.inf).max(1).astype(np.float32)
        highest[total == 0] = np.nan
        return highest, total
    with np.errstate(invalid="ignore"):  # 0 / 0 is the missing value that we want
        means = pools.sum(1) / total[:, None]
    if pooling == "mean+std":
        mean, square = np.split(means, 2, axis=1)
        means = np.concatenate([mean, np.sqrt((square - mean**2).clip(0))], axis=1)
    return means.astype(np.float32), total


def shuffled(members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same sets of patches at random places: as many tokens each, from anywhere in the crop.

    members ``(B, K, gh, gw)``. The control for *where*: what a part's tokens know beyond what any
    equally many know.
    """
    batch, sets, *grid = members.shape
    places = rng.permuted(np.tile(np.arange(np.prod(grid)), (batch, 1)), axis=1)
    flat = np.take_along_axis(members.reshape(batch, sets, -1), places[:, None], axis=2)
    return flat.reshape(members.shape)
