"""What it costs to encode only the patches of one part, against encoding the whole crop.

Faces are the demo's, and so are their label maps: the counts are ragged as they are in life. A
batch is timed both ways, one after the other in one process; the median over such pairs is the
figure. Seconds are the processor's, of one thread: others on the machine take none of them, and no
thread waits for another. Counts that are padded to each other send more tokens through the blocks
than are needed: how many times as many stands beside. The weights of DINOv3 are random: speed does
not depend on them, and none need be downloaded.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.encoder import build
from benchmarks.measuring import Row, options, report
from seglib import assets, faces, indexing, media, parsing
from seglib.backbones import Encoder
from seglib.faces import Crop

ENCODINGS = {"isolated": True, "isolated-bare": False}  # whether CLS and registers enter
PARTS = ("mouth", "eyes", "brows", "nose")
# encoder, pixels of the square crop, crops a batch, parts, pairs of timings
CASES = {
    "DINOv2 ViT-S/14 at 280": ("demo", 280, 8, PARTS, 5),
    "DINOv3 ViT-L/16 at 448": ("paper", 448, 2, ("mouth",), 1),
}
EXAMPLES = """\
  python -m benchmarks.isolated_encoding
  python -m benchmarks.isolated_encoding --pairs 1 --only "DINOv2 ViT-S/14 at 280"
  python -m benchmarks.isolated_encoding --json benchmarks/isolated_encoding.json
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--only", choices=CASES, help="one of the cases (default: all)")
    parser.add_argument("--pairs", type=int, help="pairs of timings (default: 5; of ViT-L one)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for case in [arguments.only] if arguments.only else CASES:
        name, side, batch, parts, pairs = CASES[case]
        crops = portraits(side, batch)
        rows += measure(case, build(name, "cpu"), crops, parts, arguments.pairs or pairs)
    report(rows, arguments.json)


def portraits(side: int, count: int) -> list[Crop]:
    """Crops of so many of the demo's people."""
    detector = faces.load("mesh")
    images = [media.read_image(picture.path) for picture in assets.pictures("orl")[::10][:count]]
    return [faces.crop(image, faces.largest(image, detector), side, 1.0) for image in images]


def measure(
    case: str, encoder: Encoder, crops: list[Crop], parts: Sequence[str], pairs: int
) -> list[Row]:
    """Seconds of each part under each encoding, in units of the contextual; the tokens sent."""
    maps, grid = parsing.load("mesh")(crops), encoder.grid(crops)
    kept = {part: indexing.keep(maps, grid, part) for part in parts}
    took, ratios = {}, {}
    for number in tqdm(range(-1, pairs), case, unit="round"):  # the first one warms up
        for part in parts:
            contextual = seconds(partial(encoder, crops))
            for name, specials in ENCODINGS.items():
                alone = seconds(partial(encoder.isolated, crops, kept[part], specials))
                if number >= 0:
                    took.setdefault((part, name), []).append(alone)
                    ratios.setdefault((part, name), []).append(alone / contextual)
    rows, key = [], case.lower().replace(" ", "-").replace("/", "-")
    for (part, name), each in took.items():
        share = kept[part].sum() / kept[part].size
        floors = {
            "contextual": statistics.median(ratios[part, name]),
            "the share of patches": statistics.median(ratios[part, name]) / share,
            "tokens needed": sent(encoder, crops, kept[part], ENCODINGS[name]),
        }
        value = 1e3 * statistics.median(each) / len(crops)
        rows.append(Row(f"{key}-{part}-{name}", f"{case}, {part}, {name}", value, "ms a crop",
                        floors))  # fmt: skip
    return rows


def seconds(encode: Callable) -> float:
    """How long the processor is busy with one call."""
    start = time.process_time()
    encode()
    return time.process_time() - start


def sent(encoder: Encoder, crops: list[Crop], kept: np.ndarray, specials: bool) -> float:
    """How many times as many tokens isolated encoding sends through the blocks as it needs to."""
    went, first = [], encoder.model.get_submodule(encoder._kind.blocks)[0]
    hook = first.register_forward_pre_hook(lambda _, given: went.append(given[0].shape[:2].numel()))
    encoder.isolated(crops, kept, specials)
    hook.remove()
    needed = kept.sum() + len(kept) * (1 + encoder.registers) * specials
    return sum(went) / needed.item()


if __name__ == "__main__":
    main()
