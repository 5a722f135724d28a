"""What differs from machine to machine: the device, its precision, and torchvision's library."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from seglib.errors import SeglibError

BATCH = 8  # crops, on a CPU
BATCH_AT_MOST = 32  # on a GPU: a video has hardly more frames, and a large encoder is busy
TRIED = 2  # crops of a trial


class NoDevice(SeglibError, ValueError):
    """The device is of an unknown kind, or not on this machine."""


def choose(device: str | None = None) -> str:
    """The device that was asked for; CUDA where there is one, else the CPU.

    Raises
    ------
    NoDevice
    """
    known = ["cpu", "cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if not torch.cuda.is_available():
        known = ["cpu"]
    if device is not None and device not in known:
        raise NoDevice(
            f"the device {device!r} is not here; expected {' or '.join(known)}. Leave it out to "
            "take the fastest, or install a torch that knows your GPU."
        )
    return device or ("cuda" if "cuda" in known else "cpu")


def dtype(device: str) -> torch.dtype:
    """bfloat16 on a CUDA device that computes in it; float32 elsewhere.

    On a CPU bfloat16 is ten times slower or worse, and older GPUs (Colab's T4) only emulate it.
    """
    native = device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def batch(device: str, trial: Callable[[int], object]) -> int:
    """How many crops should travel through the networks together.

    On a CPU more than a few are no faster. A GPU gets as many as half of its free memory bears,
    by what a trial with the encoder takes: a large one on a small card would else run out of it.

    Parameters
    ----------
    trial : callable
        Encodes so many crops.
    """
    if not device.startswith("cuda"):
        return BATCH
    trial(1)  # what is set up once should not count
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    trial(TRIED)
    a_crop = (torch.cuda.max_memory_allocated(device) - before) / TRIED
    return fitting(torch.cuda.mem_get_info(device)[0] / 2, a_crop)


def fitting(room: float, a_crop: float) -> int:
    """The largest power of two of crops of so many bytes that fit, from 1 to `BATCH_AT_MOST`."""
    many = max(int(room / max(a_crop, 1)), 1)
    return min(2 ** (many.bit_length() - 1), BATCH_AT_MOST)


def sent(array: np.ndarray, device: str) -> torch.Tensor:
    """An array as a tensor on the device.

    A GPU copies it while the program goes on, for which its pages must not move. On a CPU the
    tensor is the array.
    """
    tensor = torch.from_numpy(array)
    if not device.startswith("cuda"):
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


@cache
def let_torchvision_import() -> torch.library.Library | None:
    """Give torchvision its operator schemas where its native library does not load.

    The index's torchvision is built for CUDA. Beside a CPU build of torch its library does not
    load, its import fails with "operator torchvision::nms does not exist", and with it the
    import of half of transformers. Where the library loads this does nothing. The schemas live
    as long as the object returned, which the cache holds.
    """
    from importlib.util import find_spec

    spec = find_spec("torchvision")
    if spec is None:
        return None
    try:
        for binary in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(binary)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None
