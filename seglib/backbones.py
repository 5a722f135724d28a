"""Face crops -> CLS, registers and a patch grid, from a frozen vision transformer.

A `Backbone` turns a batch of crops into `Tokens`. `Encoder` wraps the models of `transformers`
whose sequence is ``[CLS, registers..., patches row by row]``: DINOv2, DINOv3, ViT and the image
half of CLIP, which FaRL is. How many special tokens there are is read from the model's config,
never typed. What the encoder sees of a crop is decided here, by `Preprocessing`, and not by a
processor that comes with a model. Taught in chapter 02.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from seglib import assets, conversion, devices, weights
from seglib.errors import SeglibError, unknown_name
from seglib.faces import Crop
from seglib.recipe import CHOICES

EMBEDDED = {"dinov2-s": "dinov2-s"}  # backbone name -> asset that holds it
FARL = "farl-b"  # FaRL ViT-B/16 as a feature extractor: the paper's ablation
HUB = [known.name for known in weights.WEIGHTS.values() if isinstance(known, weights.Model)]
# Mean and deviation of red, green and blue in [0, 1].
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # DINOv2 and DINOv3
    "clip": (  # OpenAI's CLIP, and FaRL (farl/network/transformers.py, FaRLVisualFeatures)
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    ),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # Google's ViT
}
POSITIONS_RESIZED = {"interpolate_pos_encoding": True}
# model_type of `transformers` -> what its forward must be told to take an input of any size.
# Each was read: one CLS token first, registers, then every patch in its place.
KINDS = {
    "clip_vision_model": POSITIONS_RESIZED,
    "dinov2": {},
    "dinov2_with_registers": {},
    "dinov3_vit": {},
    "vit": POSITIONS_RESIZED,
    "vit_msn": POSITIONS_RESIZED,
}
# Tensors that no token goes through. A file may lack them.
UNREAD = ("pooler.", "embeddings.mask_token")


class BackboneUnavailable(SeglibError):
    """The weights are neither in the given folder nor in the local hub cache."""


class UnsupportedModel(SeglibError):
    """The model's sequence is not ``[CLS, registers..., patches row by row]``."""


class WrongCropSize(SeglibError, ValueError):
    """The encoder's input is no multiple of its patch, or would distort the crop."""


class WrongNormalisation(SeglibError, ValueError):
    """Pixels would be normalised otherwise than in the model's training."""


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


@dataclass(frozen=True)
class Preprocessing:
    """Crop -> what the encoder sees: resized, antialiased, then normalised.

    The fields are decisions of the recipe, see `recipe.Recipe`. input_size is the side in
    pixels of a square input; None takes the crop in its own size.
    """

    input_size: int | None = None
    resize: str = "bicubic"
    normalisation: str = "imagenet"

    def __post_init__(self) -> None:
        if self.resize not in CHOICES["resize"]:
            raise unknown_name("resize", self.resize, CHOICES["resize"])
        if self.normalisation not in NORMALISATIONS:
            raise unknown_name("normalisation", self.normalisation, NORMALISATIONS)

    def __call__(self, images: np.ndarray, device: str = "cpu") -> torch.Tensor:
        """``(B, H, W, 3)`` uint8 -> ``(B, 3, H', W')`` float32 on the device.

        Raises
        ------
        WrongCropSize
            A crop to be resized is not square.
        """
        pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float()
        height, width = pixels.shape[-2:]
        if self.input_size and {height, width} != {self.input_size}:
            if height != width:
                raise WrongCropSize(
                    f"the crop is {width} x {height} pixels, which an input of {self.input_size} x "
                    f"{self.input_size} would distort; expected a square crop. Cut it with "
                    "faces.crop, or leave input_size out."
                )
            pixels = functional.interpolate(
                pixels, (self.input_size, self.input_size), mode=self.resize, antialias=True
            ).clamp(0, 255)  # the bicubic kernel overshoots at edges
        mean, std = torch.tensor(NORMALISATIONS[self.normalisation], device=device)
        return (pixels / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


AS_CROPPED = Preprocessing()


class Encoder:
    """A frozen transformer of `transformers`, contextual: every token sees the whole crop.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Of one of `KINDS`, or a CLIP, whose image half is taken.
    device : str, optional
        Default: CUDA where there is one. The precision follows from it, see `devices.dtype`.
    preprocessing : Preprocessing, optional
        Default: the crop in its own size, ImageNet's mean and deviation.

    Attributes
    ----------
    digest : str
        Twelve hex digits of the weights, whatever the device, the precision and the layout of
        the files they came from. A store is keyed by it.

    Raises
    ------
    UnsupportedModel
        Not of `KINDS`, or with oblong patches.
    WrongCropSize
        ``preprocessing.input_size`` is no multiple of the model's patch.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        device: str | None = None,
        preprocessing: Preprocessing = AS_CROPPED,
    ) -> None:
        if model.config.model_type == "clip":
            model = model.vision_model
        if model.config.model_type not in KINDS:
            raise _unsupported(model, f"it is of type {model.config.model_type}")
        if not isinstance(model.config.patch_size, int):
            raise _unsupported(model, f"its patch_size is {model.config.patch_size}")
        self.patch = model.config.patch_size
        self.width = int(model.config.hidden_size)
        self.registers = int(getattr(model.config, "num_register_tokens", 0))
        self.preprocessing = preprocessing
        if preprocessing.input_size is not None:
            self._check_tiling(preprocessing.input_size, preprocessing.input_size)
        self.digest = _digest(model)
        self.device = devices.choose(device)
        # Parameters only: rotary frequencies are a buffer, and lose their positions in bfloat16.
        for weight in model.parameters():
            weight.data = weight.data.to(self.device, devices.dtype(self.device))
        self.model = model.eval().requires_grad_(False).to(self.device)
        # CLIP's last_hidden_state stands before its final norm, which it gives to CLS alone.
        self.final_norm = getattr(model, "post_layernorm", torch.nn.Identity())

    @torch.inference_mode()
    def __call__(self, crops: Sequence[Crop]) -> Tokens:
        """Encode a batch of crops of one size.

        Raises
        ------
        WrongCropSize
            Patches do not tile the input.
        """
        images = np.stack([crop.image for crop in crops])
        pixels = self.preprocessing(images, self.device).to(self.model.dtype)
        self._check_tiling(*pixels.shape[-2:])
        told = KINDS[self.model.config.model_type]
        hidden = self.final_norm(self.model(pixel_values=pixels, **told).last_hidden_state)
        rows, columns = (side // self.patch for side in pixels.shape[-2:])
        parts = [1, self.registers, rows * columns]
        cls, registers, patches = hidden.float().cpu().split(parts, dim=1)
        return Tokens(cls[:, 0], registers, patches.unflatten(1, (rows, columns)))

    def _check_tiling(self, height: int, width: int) -> None:
        if height % self.patch or width % self.patch or not height:
            raise WrongCropSize(
                f"the encoder's input is {width} x {height} pixels, which patches of {self.patch} "
                f"do not tile; expected a multiple of {self.patch}. Set input_size in the recipe "
                f"to {max(round(width / self.patch), 1) * self.patch}."
            )


def load(
    name: str | os.PathLike,
    device: str | None = None,
    preprocessing: Preprocessing = AS_CROPPED,
) -> Encoder:
    """An encoder by name, local folder or hub id. It never asks the network for weights.

    Parameters
    ----------
    name : str or path-like
        ``"dinov2-s"`` (embedded), ``"dinov3-s" | "-s+" | "-b" | "-l" | "-h+" | "-7b"`` (gated on
        the hub), ``"farl-b"``; a folder that `transformers` saved or that holds DINOv3 in timm's
        layout; or any hub id of such a model, ``"owner/name"`` or ``"owner/name@revision"``.
    device, preprocessing
        See `Encoder`.

    Raises
    ------
    UnknownName
        With the nearest known name.
    BackboneUnavailable, seglib.weights.WeightsMissing
        With what is missing and what to run.
    WrongNormalisation
        The model was trained with another mean and deviation than `preprocessing` names.
    UnsupportedModel, WrongCropSize
        See `Encoder`.
    """
    name = os.fspath(name)
    if name == FARL:
        _check_normalisation(name, NORMALISATIONS["clip"], preprocessing)
        return Encoder(_farl(weights.path(name)), device, preprocessing)
    folder = _folder(name)
    config = _json(folder, "config.json")
    _check_normalisation(name, _trained_with(name, folder, config), preprocessing)
    model = _from_timm(folder, config) if "architecture" in config else _from_transformers(folder)
    return Encoder(model, device, preprocessing)


def _folder(name: str) -> Path:
    """The folder of an embedded asset, the one that was named, or a snapshot of the hub."""
    if name in EMBEDDED:
        return assets.fetch(EMBEDDED[name])
    if Path(name).is_dir():
        return Path(name)
    repository, _, revision = name.partition("@")
    if name.startswith(("/", ".", "~")) or repository.count("/") > 1:
        raise BackboneUnavailable(
            f"there is no folder {name}; expected one with config.json and model.safetensors, as "
            f"save_pretrained writes it. The working folder is {Path.cwd()}."
        )
    if name in HUB:
        repository, revision = weights.hub(name)
    elif "/" not in name:
        raise unknown_name("backbone", name, [*EMBEDDED, FARL, *HUB])
    return _snapshot(repository, revision)


def _snapshot(repository: str, revision: str) -> Path:
    """The folder of the local hub cache in which a revision lies; by default the main branch."""
    from huggingface_hub import hf_hub_download

    try:
        # Local files only: without a network a hub id would take 23 s to fail.
        config = hf_hub_download(
            repository, "config.json", revision=revision or None, local_files_only=True
        )
    except (OSError, ValueError) as error:
        pinned = f" --revision {revision}" if revision else ""
        raise BackboneUnavailable(
            f"no weights for {repository!r} on this machine; expected a folder with config.json "
            "and model.safetensors, or a model in the local hub cache. Accept its licence at "
            f"https://huggingface.co/{repository} and run: hf download {repository}{pinned}"
        ) from error
    return Path(config).parent


def _from_transformers(folder: Path) -> torch.nn.Module:
    devices.let_torchvision_import()
    from transformers import AutoModel

    return _checked(folder, AutoModel, folder, local_files_only=True)


def _from_timm(folder: Path, config: Mapping) -> torch.nn.Module:
    devices.let_torchvision_import()
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    tensors = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(file)
        options, state = conversion.dinov3_from_timm(tensors, config)
    except (SafetensorError, conversion.UnknownLayout) as error:
        raise _damaged(folder, error) from error
    options = DINOv3ViTConfig(**options)
    return _checked(folder, DINOv3ViTModel, None, config=options, state_dict=state)


def _farl(file: Path) -> torch.nn.Module:
    devices.let_torchvision_import()
    from transformers import CLIPVisionConfig, CLIPVisionModel

    def load(file: Path) -> tuple[dict, dict]:
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
        return conversion.clip_from_openai(checkpoint["state_dict"])

    options, state = weights.loaded(file, FARL, load)
    options = CLIPVisionConfig(**options)
    return _checked(file, CLIPVisionModel, None, config=options, state_dict=state)


def _checked(source: Path, family: type, *given, **options) -> torch.nn.Module:
    """A model from ``family.from_pretrained``, each of whose weights was in the file."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would flash by in a fraction of a second
    try:
        model, report = family.from_pretrained(*given, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(source, error) from error
    # transformers fills what a file lacks with random numbers.
    absent = [name for name in report["missing_keys"] if not name.startswith(UNREAD)]
    if absent:
        raise _damaged(source, f"{len(absent)} of its tensors are missing, say {min(absent)}")
    # A classifier beside the backbone is left out; of a conversion nothing may be left over.
    if "state_dict" in options and report["unexpected_keys"]:
        left = report["unexpected_keys"]
        raise _damaged(source, f"{len(left)} of its tensors have no place, say {min(left)}")
    return model


def _trained_with(name: str, folder: Path, config: Mapping) -> tuple | None:
    """The mean and deviation of a model's training, or None where nothing says."""
    if name in EMBEDDED or name in HUB:
        return NORMALISATIONS["imagenet"]
    if "pretrained_cfg" in config:  # timm
        stated = config["pretrained_cfg"].get("mean"), config["pretrained_cfg"].get("std")
    elif (folder / "preprocessor_config.json").is_file():
        processor = _json(folder, "preprocessor_config.json")
        stated = processor.get("image_mean"), processor.get("image_std")
    else:
        return None
    return stated if all(stated) else None


def _check_normalisation(name: str, trained: tuple | None, preprocessing: Preprocessing) -> None:
    ours = NORMALISATIONS[preprocessing.normalisation]
    if trained is None or np.allclose(trained, ours, atol=1e-4):
        return
    same = [n for n, values in NORMALISATIONS.items() if np.allclose(trained, values, atol=1e-4)]
    advice = f"Set normalisation={same[0]!r} in the recipe." if same else "Take another backbone."
    raise WrongNormalisation(
        f"normalisation {preprocessing.normalisation!r} for {name}; expected {same or 'another'}, "
        f"since it was trained with mean {list(trained[0])} and deviation {list(trained[1])}. "
        + advice
    )


def _json(folder: Path, name: str) -> dict:
    try:
        return json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(folder, f"{name}: {error}") from error


def _digest(model: torch.nn.Module) -> str:
    """Twelve hex digits of SHA-256 over the name and the bytes of every tensor that is read.

    A tensor of zeros counts as absent: timm leaves out biases that came to be zero in training.
    """
    content = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        if not name.startswith(UNREAD) and weight.any():
            content.update(name.encode())
            content.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return content.hexdigest()[:12]


def _damaged(source: Path, found: object) -> BackboneUnavailable:
    whole = (
        "config.json and a model.safetensors that fits it"
        if source.is_dir()
        else "a checkpoint with a state_dict in the layout of OpenAI's CLIP"
    )
    first = str(found).partition("\n")[0]
    return BackboneUnavailable(
        f"{source} holds no whole model: {first}; expected {whole}. Download or save it again."
    )


def _unsupported(model: torch.nn.Module, found: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"{type(model).__name__} is no plain vision transformer: {found}; expected tokens that are "
        f"one CLS, registers and one for each square patch. Use a model of type clip or "
        f"{', '.join(KINDS)}."
    )
