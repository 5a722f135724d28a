"""Patch labels and pooling, against reading the same memory once and against plain loops.

The label maps are the demo's, the tokens are random: how long a sum takes does not depend on what
is summed. Two sizes: batches of the demo and of the paper's recipe.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.isolated_encoding import portraits
from benchmarks.measuring import Row, against, options, report, turns
from seglib import indexing, parsing
from seglib.regions import LABELS

SIZES = {  # crops, pixels a side, patches a side, width of a token
    "demo": (8, 280, 20, 384),
    "paper": (32, 448, 28, 1024),
}
EXAMPLES = "  python -m benchmarks.indexing\n  python -m benchmarks.indexing --rounds 5\n"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--rounds", type=int, default=50, help="timings of each (default: 50)")
    arguments = parser.parse_args()
    rows = [row for name in SIZES for row in measure(name, arguments.rounds)]
    report(rows, arguments.json)


def measure(name: str, rounds: int) -> list[Row]:
    """Counting a batch's pixels by patch and label, and summing its tokens by label."""
    crops, side, patches, width = SIZES[name]
    maps, grid = parsing.load("mesh")(portraits(side, crops)), (patches, patches)
    members = indexing.by_label(indexing.patch_labels(maps, grid))
    # As an encoder gives them: behind CLS and four registers of each crop.
    tokens = torch.randn(crops, 5 + patches**2, width)[:, 5:].unflatten(1, grid)
    assert np.array_equal(indexing.label_counts(maps, grid), counts_in_a_loop(maps, patches))
    np.testing.assert_allclose(
        indexing.partial_pools(tokens, members)[0], sums_in_a_loop(tokens, members), atol=1e-3
    )
    labels = turns(
        {
            "ours": lambda: indexing.patch_labels(maps, grid),
            "a memory read of the maps": lambda: torch.from_numpy(maps.view(np.int64)).sum(),
            "a plain loop": lambda: counts_in_a_loop(maps, patches),
        },
        rounds,
        f"{name}: patch labels",
    )
    hot = torch.from_numpy(members).flatten(2)
    pools = turns(
        {
            "ours": lambda: indexing.partial_pools(tokens, members),
            "a memory read of the tokens": lambda: tokens.sum(),
            "one-hot product": lambda: hot.float() @ tokens.flatten(1, 2),
            "a plain loop": lambda: sums_in_a_loop(tokens, members),
        },
        rounds,
        f"{name}: pooling",
    )
    size = f"{crops} crops of {side} px"
    return [
        against(f"labels-{name}", f"patch labels, {size}", labels, crops, "ms a crop"),
        against(f"pooling-{name}", f"pooling, {size}, width {width}", pools, crops, "ms a crop"),
    ]


def counts_in_a_loop(maps: np.ndarray, patches: int) -> np.ndarray:
    """Pixels of each label, patch by patch."""
    side = maps.shape[1] // patches
    found = np.zeros((len(maps), patches, patches, len(LABELS)), int)
    for crop, row, column in np.ndindex(found.shape[:3]):
        patch = maps[crop, row * side : (row + 1) * side, column * side : (column + 1) * side]
        found[crop, row, column] = np.bincount(patch.ravel(), minlength=len(LABELS))
    return found


def sums_in_a_loop(tokens: torch.Tensor, members: np.ndarray) -> np.ndarray:
    """Sums of tokens, crop by crop and label by label."""
    return np.stack(
        [
            np.stack([one[kept].sum(0) for kept in sets])
            for one, sets in zip(tokens.numpy(), members, strict=True)
        ]
    )


if __name__ == "__main__":
    main()
