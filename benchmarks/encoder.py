"""The encoder's forward pass, against the ceiling that matrix products set on the same device.

Operations are counted, so that seconds can be set against those which as many operations take in
one large matrix product of the same precision, whichever the machine is. DINOv3 and FaRL's image
encoder have random weights: speed does not depend on them, and none need be downloaded. *One by
one* are the same crops in batches of one; *compiled* is torch.compile, where there is a compiler
for it. On a GPU all is in bfloat16 where it computes in it, with the peak of its memory.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.measuring import Row, options, ratio, report, turns
from seglib import backbones, devices, faces
from seglib.backbones import Encoder, Preprocessing
from seglib.faces import Crop

CASES = {  # what, pixels a side, crops a batch on a CPU and on a GPU
    "demo": ("DINOv2 ViT-S/14", 280, 8, 256),
    "paper": ("DINOv3 ViT-L/16", 448, 2, 32),
    "parser": ("FaRL's ViT-B/16, without its head", 448, 2, 32),
}
MOUTH = 0.05  # of the patches, about what a mouth has
# torch's counter knows attention on a GPU only.
COUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: (
        sdpa_flop_count(*shapes[:3])
    )
}
CEILING = "its operations in a matrix product"
MATRIX = {"cpu": 2048, "cuda": 8192}  # side of the ceiling's product
EXAMPLES = """\
  python -m benchmarks.encoder
  python -m benchmarks.encoder --only demo --rounds 3
  python -m benchmarks.encoder --json FILE   # on a machine with a GPU
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--only", choices=CASES, help="one of the encoders (default: all)")
    parser.add_argument("--rounds", type=int, default=13, help="timings of each (default: 13)")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else list(CASES)
    rows = [row for name in names for row in measure(name, arguments.rounds)]
    report(rows, arguments.json, precision=str(devices.dtype(devices.choose())))


def build(name: str, device: str | None = None) -> Encoder:
    """One of the encoders; DINOv3 and FaRL's with random weights."""
    if name == "demo":
        return backbones.load("dinov2-s", device)
    devices.let_torchvision_import()
    from transformers import CLIPVisionConfig, CLIPVisionModel, DINOv3ViTConfig, DINOv3ViTModel

    if name == "paper":
        shape = DINOv3ViTConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24,
                                num_attention_heads=16, num_register_tokens=4)  # fmt: skip
        return Encoder(DINOv3ViTModel(shape), device)
    shape = CLIPVisionConfig(patch_size=16, image_size=448)
    return Encoder(CLIPVisionModel(shape), device, Preprocessing(normalisation="clip"))


def measure(name: str, rounds: int) -> list[Row]:
    """Operations and milliseconds a crop of one encoder."""
    encoder = build(name)
    what, side, *sizes = CASES[name]
    gpu = encoder.device.startswith("cuda")
    crops = noise(side, sizes[gpu])
    pixels = encoder.pixels(crops)
    kept = np.zeros((len(crops), *encoder.grid(crops)), bool)
    kept[:, : round(MOUTH * kept[0].size / kept.shape[2])] = True
    counter = FlopCounterMode(display=False, custom_mapping=COUNTED)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode(), counter:
        encoder.hidden(pixels)
    operations = counter.get_total_flops()
    # Now, before there is a second encoder.
    memory = torch.cuda.max_memory_allocated() / 1e6 if gpu else None
    product, of_product = ceiling(encoder)
    calls = {
        CEILING: product,
        "contextual": partial(done, encoder.hidden, pixels),
        "one by one": lambda: [done(encoder.hidden, one[None]) for one in pixels],
    }
    if encoder._kind.blocks:
        calls["isolated"] = partial(done, encoder.isolated, crops, kept)
    if compiled := compiling(name, pixels):
        calls["compiled"] = compiled
    seconds = turns(calls, rounds, what)
    seconds[CEILING] = [one * operations / of_product for one in seconds[CEILING]]
    rows = [Row(f"operations-{name}", f"{what} at {side}", operations / len(crops) / 1e9,
                "GFLOP a crop")]  # fmt: skip
    for way in [one for one in seconds if one != CEILING]:
        floors = [one for one in (CEILING, "contextual") if one != way]
        floors = floors[1:] if way == "isolated" else floors  # it has other operations
        rows.append(
            Row(
                f"{way.replace(' ', '-')}-{name}",
                f"{what} at {side}, {way}",
                1e3 * statistics.median(seconds[way]) / len(crops),
                "ms a crop",
                {floor: ratio(seconds[way], seconds[floor]) for floor in floors},
            )
        )
    if gpu:
        rows.append(Row(f"memory-{name}", f"{what} at {side}, {len(crops)} crops", memory, "MB"))
    return rows


def compiling(name: str, pixels: torch.Tensor) -> Callable | None:
    """The compiled encoder's pass; None, and why, where it cannot be compiled."""
    encoder = build(name)
    encoder.model.compile()
    try:
        done(encoder.hidden, pixels)
    except RuntimeError as error:  # no compiler, or Python's headers are missing
        print(f"{name} is not compiled: {error}", file=sys.stderr)
        return None
    return partial(done, encoder.hidden, pixels)


@torch.inference_mode()
def done(call, *given) -> None:
    """A call, the device waited for."""
    call(*given)
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ceiling(encoder: Encoder) -> tuple:
    """A large matrix product in the encoder's precision, and its operations."""
    side = MATRIX[encoder.device.partition(":")[0]]
    pair = torch.randn(2, side, side, device=encoder.device).to(encoder.model.dtype)
    return partial(done, torch.mm, *pair), 2 * side**3


def noise(side: int, count: int) -> list[Crop]:
    """Crops of noise: speed does not depend on what is seen."""
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    whole = faces.load("whole")
    return [faces.crop(image, faces.largest(image, whole), side, 1.0) for image in images]


if __name__ == "__main__":
    main()
