"""Face crops -> CLS, registers and a patch grid, from a frozen vision transformer.

A `Backbone` turns a batch of crops into `Tokens`. `Encoder` wraps every model of
`transformers` whose sequence is ``[CLS, registers..., patches row by row]``, which is DINOv2
and DINOv3; how many special tokens there are is read from the model's config, never typed.
Taught in chapter 02.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from seglib import assets
from seglib.errors import SeglibError, unknown_name
from seglib.faces import Crop

EMBEDDED = {"dinov2-s": "dinov2-s"}  # backbone name -> asset that holds it
HUB = {
    "dinov3-s": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "dinov3-b": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "dinov3-l": "facebook/dinov3-vitl16-pretrain-lvd1689m",
}
# ImageNet's mean and deviation, which both DINOv2 and DINOv3 were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BackboneUnavailable(SeglibError):
    """The weights are neither in the given folder nor in the local hub cache."""


class UnsupportedModel(SeglibError):
    """The model's sequence is not ``[CLS, registers..., patches row by row]``."""


class WrongCropSize(SeglibError, ValueError):
    """The crop's side is no multiple of the backbone's patch."""


@dataclass(frozen=True)
class Tokens:
    """What the encoder says of B crops, after its final layer norm; float32 on the CPU.

    cls ``(B, D)``, registers ``(B, R, D)``, patches ``(B, gh, gw, D)`` row-major.
    """

    cls: torch.Tensor
    registers: torch.Tensor
    patches: torch.Tensor

    @property
    def grid(self) -> tuple[int, int]:
        """``(gh, gw)``: rows and columns of patches."""
        return tuple(self.patches.shape[1:3])


class Backbone(Protocol):
    """The seam: what the chain asks of an encoder. patch is in pixels, width is D."""

    patch: int
    width: int

    def __call__(self, crops: Sequence[Crop]) -> Tokens:
        """Encode a batch of crops of one size."""


class Encoder:
    """A frozen transformer of `transformers`, contextual: every token sees the whole crop.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With ``config.patch_size`` and, where it has any, ``config.num_register_tokens``.
    device : str, optional
        Default: CUDA where there is one. float32 on the CPU, where bfloat16 is many times
        slower, bfloat16 on CUDA.
    """

    def __init__(self, model: torch.nn.Module, device: str | None = None) -> None:
        if not isinstance(getattr(model.config, "patch_size", None), int):
            raise _unsupported(model, "its config names no patch_size")
        self.patch = model.config.patch_size
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
        self.model = model.eval().requires_grad_(False).to(self.device, dtype)
        self.width = int(model.config.hidden_size)
        self.registers = int(getattr(model.config, "num_register_tokens", 0))

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crop]) -> Tokens:
        """Encode a batch of crops of one size."""
        pixels = self._pixels(np.stack([crop.image for crop in crops]))
        hidden = self.model(pixel_values=pixels).last_hidden_state.float().cpu()
        rows, columns = (side // self.patch for side in pixels.shape[-2:])
        parts = [1, self.registers, rows * columns]
        if hidden.shape[1] != sum(parts):
            raise _unsupported(
                self.model,
                f"{hidden.shape[1]} tokens for a grid of {rows} x {columns} patches, expected "
                f"{sum(parts)}",
            )
        cls, registers, patches = hidden.split(parts, dim=1)
        return Tokens(cls[:, 0], registers, patches.unflatten(1, (rows, columns)))

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        """``(B, H, W, 3)`` uint8 -> normalised ``(B, 3, H, W)`` on the model's device."""
        height, width = images.shape[1:3]
        if height % self.patch or width % self.patch:
            raise WrongCropSize(
                f"the crop is {width} x {height} pixels, which patches of {self.patch} do not "
                f"tile; expected a multiple of {self.patch}. Set input_size in the recipe to "
                f"{max(round(width / self.patch), 1) * self.patch}."
            )
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (MEAN, STD))
        return ((pixels / 255 - mean) / std).to(self.model.dtype)


def load(name: str | os.PathLike, device: str | None = None) -> Encoder:
    """An encoder by name, local folder or hub id.

    Parameters
    ----------
    name : str or path-like
        ``"dinov2-s"`` (embedded), ``"dinov3-s" | "-b" | "-l"`` (gated on the hub), the path
        of a folder that `transformers` saved, or any hub id with a slash in it.

    Raises
    ------
    UnknownName
        With the nearest known name.
    BackboneUnavailable
        With what is missing and what to run.
    UnsupportedModel
        Not a plain vision transformer.
    """
    name = os.fspath(name)
    if name in EMBEDDED:
        return Encoder(_pretrained(assets.fetch(EMBEDDED[name])), device)
    if Path(name).is_dir():
        return Encoder(_pretrained(Path(name)), device)
    if name not in HUB and "/" not in name:
        raise unknown_name("backbone", name, [*EMBEDDED, *HUB])
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise BackboneUnavailable(
            f"there is no folder {name}; expected one with config.json and model.safetensors, as "
            f"save_pretrained writes it. The working folder is {Path.cwd()}."
        )
    return Encoder(_pretrained(HUB.get(name, name)), device)


def _pretrained(source: Path | str) -> torch.nn.Module:
    _let_torchvision_import()
    from safetensors import SafetensorError
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would flash by in a fraction of a second

    try:
        # Local files only: without a network a hub id would take 23 s to fail.
        model, report = AutoModel.from_pretrained(
            source, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if isinstance(source, Path):
            raise _damaged(source, str(error).partition("\n")[0]) from error
        raise BackboneUnavailable(
            f"no weights for {source!r} on this machine; expected a folder with config.json and "
            "model.safetensors, or a model in the local hub cache. Accept its licence at "
            f"https://huggingface.co/{source} and run: hf download {source}"
        ) from error
    # transformers fills what a file lacks with random numbers. A pooler is never read here.
    absent = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
    if absent:
        raise _damaged(source, f"{len(absent)} of its tensors are missing, say {min(absent)}")
    return model


def _damaged(source: Path | str, found: str) -> BackboneUnavailable:
    return BackboneUnavailable(
        f"{source} holds no whole model: {found}; expected config.json and a model.safetensors "
        "that fits it. Save it again with save_pretrained, or download it again."
    )


def _unsupported(model: torch.nn.Module, found: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{type(model).__name__} is no plain vision transformer: {found}. Use a model like DINOv2 "
        "or DINOv3, whose tokens are one CLS, registers and one for each patch."
    )


@cache
def _let_torchvision_import() -> torch.library.Library | None:
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
