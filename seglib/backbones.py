"""Face crops -> CLS, registers and a patch grid, from a frozen vision transformer.

A backbone is any callable ``list[Crop] -> Tokens``. `Encoder` wraps every model of
`transformers` whose sequence is ``[CLS, registers..., patches row by row]``, which is DINOv2
and DINOv3; how many special tokens there are is read from the model's config, never typed.
Taught in chapter 02.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
        return tuple(self.patches.shape[1:3])


Backbone = Callable[[Sequence[Crop]], Tokens]


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
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self.device.startswith("cuda") else torch.float32
        self.model = model.eval().requires_grad_(False).to(self.device, dtype)
        self.patch = int(model.config.patch_size)
        self.registers = int(getattr(model.config, "num_register_tokens", 0))

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crop]) -> Tokens:
        pixels = self._pixels(np.stack([crop.image for crop in crops]))
        hidden = self.model(pixel_values=pixels).last_hidden_state.float().cpu()
        cls, registers, patches = hidden.split(
            [1, self.registers, hidden.shape[1] - 1 - self.registers], dim=1
        )
        rows, columns = (side // self.patch for side in pixels.shape[-2:])
        return Tokens(cls[:, 0], registers, patches.unflatten(1, (rows, columns)))

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        """``(B, H, W, 3)`` uint8 -> normalised ``(B, 3, H, W)`` on the model's device."""
        height, width = images.shape[1:3]
        if height % self.patch or width % self.patch:
            raise WrongCropSize(
                f"the crop is {width} x {height} pixels, which patches of {self.patch} do not "
                f"tile; expected a multiple of {self.patch}. Set input_size in the recipe to "
                f"{round(width / self.patch) * self.patch}."
            )
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(v, device=self.device).view(3, 1, 1) for v in (MEAN, STD))
        return ((pixels / 255 - mean) / std).to(self.model.dtype)


def load(name: str, device: str | None = None) -> Encoder:
    """An encoder by name, local folder or hub id.

    Parameters
    ----------
    name : str
        ``"dinov2-s"`` (embedded), ``"dinov3-s" | "-b" | "-l"`` (gated on the hub), the path
        of a folder that `transformers` saved, or any hub id with a slash in it.

    Raises
    ------
    UnknownName
        With the nearest known name.
    BackboneUnavailable
        With what is missing and what to run.
    """
    if name in EMBEDDED:
        return Encoder(_pretrained(assets.fetch(EMBEDDED[name])), device)
    if Path(name).is_dir():
        return Encoder(_pretrained(Path(name)), device)
    if name not in HUB and "/" not in name:
        raise unknown_name("backbone", name, [*EMBEDDED, *HUB])
    return Encoder(_pretrained(HUB.get(name, name)), device)


def _pretrained(source: Path | str) -> torch.nn.Module:
    _let_torchvision_import()
    from transformers import AutoModel

    try:
        # Local files only: without a network a hub id would take 23 s to fail.
        return AutoModel.from_pretrained(source, local_files_only=True)
    except OSError as error:
        raise BackboneUnavailable(
            f"no weights for {str(source)!r} on this machine; expected a folder with config.json "
            "and model.safetensors, or a model in the local hub cache. Accept its licence at "
            f"https://huggingface.co/{source} and run: hf download {source}"
        ) from error


def _let_torchvision_import() -> None:
    """Give torchvision its operator schemas where its native library does not load.

    The index's torchvision is built for CUDA. Beside a CPU build of torch its library does not
    load, its import fails with "operator torchvision::nms does not exist", and with it the
    import of half of transformers. Where the library loads this does nothing.
    """
    if hasattr(_let_torchvision_import, "library"):
        return
    from importlib.util import find_spec

    spec = find_spec("torchvision")
    if spec is None:
        return
    try:
        for binary in Path(spec.origin).parent.glob("_C*.so"):
            torch.ops.load_library(binary)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _let_torchvision_import.library = library  # the schemas live as long as this object
