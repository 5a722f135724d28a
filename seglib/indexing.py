"""The idea: label map x patch grid -> patch labels -> keep -> pool.

A parser labels pixels, an encoder speaks in patches. Each patch takes the label that covers
most of it; the tokens of one part are kept and averaged; everything else is thrown away
*before* pooling (arXiv 2606.00098). Taught in chapter 02.
"""

from __future__ import annotations

import numpy as np
import torch

from seglib.errors import SeglibError, unknown_name
from seglib.regions import LABELS, part_ids

RULES = ("largest", "touched")  # or a share: a number in [0, 1)


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
    return np.stack([(patches == i).sum(axis=(2, 4)) for i in range(len(LABELS))], axis=-1)


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
    rule : "largest", "touched" or float
        The patch's own label is of the part; any pixel is; more than this share of it is.
    """
    ids = list(part_ids(part))
    if rule == "largest":
        return np.isin(patch_labels(label_maps, grid), ids)
    if rule != "touched" and (isinstance(rule, str) or not 0 <= rule < 1):
        raise unknown_name("patch rule", rule, (*RULES, "a share in [0, 1)"))
    counts = label_counts(label_maps, grid)
    share = counts[..., ids].sum(-1) / counts.sum(-1)
    return share > (0 if rule == "touched" else rule)


def pool(patches: torch.Tensor, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the kept tokens, and how many they were.

    Parameters
    ----------
    patches : (B, gh, gw, D)
    kept : (B, gh, gw) bool

    Returns
    -------
    descriptors : (B, D) float32
        NaN where no token was kept: a missing value, neither an error nor a zero.
    counts : (B,) int64
    """
    sums, counts = label_sums(patches, np.where(kept, 1, 0), labels=2)
    return mean_of(sums[:, 1:], counts[:, 1:])


def label_sums(
    patches: torch.Tensor, labels_of_patches: np.ndarray, labels: int = len(LABELS)
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of tokens and number of tokens of each label: all that any union of parts needs.

    One matrix product a batch: a one-hot of the labels against the tokens.

    Parameters
    ----------
    patches : (B, gh, gw, D)
    labels_of_patches : (B, gh, gw) integers below `labels`

    Returns
    -------
    sums : (B, labels, D) float32
    counts : (B, labels) int64
    """
    if tuple(patches.shape[:3]) != labels_of_patches.shape:
        raise GridMismatch(
            f"tokens of shape {tuple(patches.shape)} and patch labels of shape "
            f"{labels_of_patches.shape}; expected the same batch and grid. Cut the label map by "
            "the grid of these tokens."
        )
    flat = torch.from_numpy(np.asarray(labels_of_patches, dtype=np.int64)).flatten(1)
    one_hot = torch.nn.functional.one_hot(flat, labels)
    sums = one_hot.float().transpose(1, 2) @ patches.float().flatten(1, 2)
    return sums.numpy(), one_hot.sum(1).numpy()


def part_mean(sums: np.ndarray, counts: np.ndarray, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Descriptor and token count of one part from stored sums, see `pool`."""
    ids = list(part_ids(part))
    return mean_of(sums[:, ids], counts[:, ids])


def mean_of(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(B, K, D)`` sums and ``(B, K)`` counts -> mean over all K, NaN where there is none."""
    total = counts.sum(1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is the missing value that we want
        return (sums.sum(1) / total[:, None]).astype(np.float32), total


def shuffled(labels_of_patches: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same labels at random patches: as many tokens a label, from anywhere in the crop.

    The control for *where*: what a part's tokens know beyond what any equally many know.
    """
    flat = labels_of_patches.reshape(len(labels_of_patches), -1)
    return rng.permuted(flat, axis=1).reshape(labels_of_patches.shape)
