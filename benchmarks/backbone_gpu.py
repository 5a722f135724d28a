"""Frames a second of DINOv3 against the ceiling that matrix products set, in one run.

The weights are random: speed does not depend on them, and none need be downloaded. The ceiling
is the rate of one large matrix product of the same precision on the same device, so that a
ratio says how well the encoder uses the machine, whichever it is.

Examples:
    python benchmarks/backbone_gpu.py --json backbone_gpu.json
    python benchmarks/backbone_gpu.py --device cpu --model dinov3-s --batch 2 --seconds 1
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from seglib import __version__, devices

SIDE = 448  # pixels: the paper recipe's input
MODELS = {  # name -> width, layers, heads (timm/models/eva.py)
    "dinov3-s": (384, 12, 6),
    "dinov3-b": (768, 12, 12),
    "dinov3-l": (1024, 24, 16),
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def build(name: str) -> torch.nn.Module:
    """The encoder with random weights, on the CPU, in float32."""
    devices.let_torchvision_import()
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    width, layers, heads = MODELS[name]
    config = DINOv3ViTConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_register_tokens=4,
    )
    return DINOv3ViTModel(config).eval().requires_grad_(False)


def seconds(call, at_least: float) -> float:
    """Median seconds of a call, the device waited for, after it has warmed up."""
    call()
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=at_least).median


def ceiling(device: str, dtype: torch.dtype, side: int, at_least: float) -> float:
    """Operations a second of one ``side x side`` matrix product."""
    pair = torch.randn(2, side, side, device=device).to(dtype)
    return 2 * side**3 / seconds(partial(torch.mm, *pair), at_least)


@torch.inference_mode()
def measure(model: torch.nn.Module, options: argparse.Namespace) -> list[dict]:
    """One row for each precision, without and with ``torch.compile``."""
    rows = []
    for name, dtype in PRECISIONS.items():
        model.to(options.device, dtype)
        pixels = torch.randn(options.batch, 3, SIDE, SIDE, device=options.device, dtype=dtype)
        with FlopCounterMode(display=False) as counter:
            model(pixels)
        most = ceiling(options.device, dtype, options.matrix, options.seconds)
        for compiled in (False, True):
            forward = torch.compile(model) if compiled else model
            took = seconds(partial(forward, pixels), options.seconds)
            row = {
                "precision": name,
                "compiled": compiled,
                "frames_per_second": options.batch / took,
                "ceiling_teraflops": most / 1e12,
                "of_ceiling": counter.get_total_flops() / took / most,
            }
            rows.append(row)
            print(row, flush=True)
    return rows


def main() -> int:
    """Measure, print, write; 1 without a GPU unless the CPU is asked for."""
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shown)
    parser.add_argument("--device", default="cuda", help="cuda (default), or cpu to try it")
    parser.add_argument("--model", default="dinov3-l", choices=MODELS, help="default: dinov3-l")
    parser.add_argument("--batch", type=int, default=32, help="frames a batch (default 32)")
    parser.add_argument("--seconds", type=float, default=5, help="at least, of each timing")
    parser.add_argument("--matrix", type=int, help="side of the product (8192; on a CPU 2048)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the numbers")
    options = parser.parse_args()
    gpu = options.device.startswith("cuda")
    if gpu and not torch.cuda.is_available():
        print("no GPU: torch sees no CUDA device. Give --device cpu to try it.", file=sys.stderr)
        return 1
    options.matrix = options.matrix or (8192 if gpu else 2048)
    about = {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "versions": {"torch": torch.__version__, "seglib": __version__},
        "input_size": SIDE,
        **{name: getattr(options, name) for name in ("model", "batch", "matrix")},
    }
    print(about, flush=True)
    rows = measure(build(options.model), options)
    if options.json:
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
