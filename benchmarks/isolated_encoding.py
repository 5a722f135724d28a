"""What it costs to encode only the patches of one part, against encoding the whole crop.

Faces are the demo's, and so are their label maps: the counts are ragged as they are in life. A
batch is timed both ways, one after the other in one process; the median over such pairs is the
figure. Seconds are the processor's, of one thread: others on the machine take none of them, and no
thread waits for another. Padding is the share of the tokens sent through the blocks that stand for
no patch. The weights of DINOv3 are random: speed does not depend on them, and none need be
downloaded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from seglib import __version__, assets, backbones, devices, faces, indexing, media, parsing
from seglib.backbones import Encoder
from seglib.faces import Crop

DEVICE = "cpu"
ENCODINGS = {"isolated": True, "isolated-bare": False}  # whether CLS and registers enter
PARTS = ("mouth", "eyes", "brows", "nose")
# encoder, pixels of the square crop, crops a batch, parts, pairs of timings
CASES = {
    "DINOv2 ViT-S/14 at 224": ("dinov2-s", 224, 8, PARTS, 5),
    "DINOv2 ViT-S/14 at 280": ("dinov2-s", 280, 8, PARTS, 5),
    "DINOv3 ViT-L/16 at 448": ("dinov3-l", 448, 2, ("mouth",), 1),
}
EXAMPLES = """\
examples:
  python benchmarks/isolated_encoding.py
  python benchmarks/isolated_encoding.py --pairs 1 --only "DINOv2 ViT-S/14 at 224"
  python benchmarks/isolated_encoding.py --json benchmarks/isolated_encoding.json
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=CASES, help="one of the cases (default: all)")
    parser.add_argument("--pairs", type=int, help="pairs of timings (default: 5; of ViT-L one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {
        "seglib": __version__,
        "torch": torch.__version__,
        "device": DEVICE,
        "threads": torch.get_num_threads(),
        "cases": {},
    }
    for case in [arguments.only] if arguments.only else CASES:
        name, side, batch, parts, pairs = CASES[case]
        found["cases"][case] = measure(
            case, build(name), portraits(side, batch), parts, arguments.pairs or pairs
        )
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def build(name: str) -> Encoder:
    """The embedded encoder, or one of DINOv3 ViT-L's shape."""
    if name in backbones.EMBEDDED:
        return backbones.load(name, DEVICE)
    devices.let_torchvision_import()
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_register_tokens=4,
    )
    return Encoder(DINOv3ViTModel(config), DEVICE)


def portraits(side: int, count: int) -> list[Crop]:
    """Crops of so many of the demo's people."""
    detector = faces.load("mesh")
    images = [media.read_image(picture.path) for picture in assets.pictures("orl")[::10][:count]]
    return [faces.crop(image, faces.largest(image, detector), side, 1.0) for image in images]


def measure(
    case: str, encoder: Encoder, crops: list[Crop], parts: Sequence[str], pairs: int
) -> dict:
    """Contextual over isolated, as a ratio of seconds, and the padding, for each part."""
    maps, grid = parsing.load("mesh")(crops), encoder.grid(crops)
    kept = {part: indexing.keep(maps, grid, part) for part in parts}
    whole, ratios = [], {(part, name): [] for part in parts for name in ENCODINGS}
    rounds = tqdm(range(-1, pairs), case, unit="round")  # the first one warms up
    for number in rounds:
        for part in parts:
            contextual = seconds(partial(encoder, crops))
            whole += [contextual] * (number >= 0)
            for name, specials in ENCODINGS.items():
                alone = seconds(partial(encoder.isolated, crops, kept[part], specials))
                ratios[part, name] += [contextual / alone] * (number >= 0)
    return {
        "crops": len(crops),
        "patches": int(np.prod(grid)),
        "seconds a crop, contextual, median": statistics.median(whole) / len(crops),
        "parts": {
            part: {
                "patches, mean": float(kept[part].sum() / len(crops)),
                **{
                    name: {
                        "times faster, median": statistics.median(ratios[part, name]),
                        "times faster, each": ratios[part, name],
                        "padding": padding(encoder, crops, kept[part], specials),
                    }
                    for name, specials in ENCODINGS.items()
                },
            }
            for part in parts
        },
    }


def seconds(encode: Callable) -> float:
    """How long the processor is busy with one call."""
    start = time.process_time()
    encode()
    return time.process_time() - start


def padding(encoder: Encoder, crops: list[Crop], kept: np.ndarray, specials: bool) -> float:
    """The share of padding among the tokens that isolated encoding sends through the blocks."""
    went, first = [], encoder.model.get_submodule(encoder._kind.blocks)[0]
    hook = first.register_forward_pre_hook(lambda _, given: went.append(given[0].shape[:2].numel()))
    encoder.isolated(crops, kept, specials)
    hook.remove()
    needed = kept.sum() + len(kept) * (1 + encoder.registers) * specials
    return 1 - needed.item() / sum(went)


if __name__ == "__main__":
    main()
