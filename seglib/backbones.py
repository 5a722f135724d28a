"""Face crops -> CLS, registers and a patch grid, from a frozen vision transformer.

A `Backbone` turns a batch of crops into `Tokens`. `Encoder` wraps the models of `transformers`
whose sequence is ``[CLS, registers..., patches row by row]``: DINOv2, DINOv3, ViT and the image
half of CLIP, which FaRL is. How many special tokens there are is read from the model's config,
never typed. What the encoder sees of a crop is decided here, by `Preprocessing`, and not by a
processor that comes with a model. Taught in chapter 02; isolated encoding in chapter 05.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from seglib import assets, conversion, devices, files, weights
from seglib.errors import SeglibError, unknown_name
from seglib.faces import Crop
from seglib.recipe import CHOICES

EMBEDDED = {"dinov2-s": "dinov2-s"}  # backbone name -> asset that holds it
RANDOM = "dinov2-s-random"  # the embedded one's shape, its weights drawn anew: a control
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


@dataclass(frozen=True)
class Kind:
    """How a family of models is taken apart; names are dotted paths from the model.

    told: what its forward must be told to take an input of any size. norm: its final norm.
    blocks: its transformer blocks, rotary: its rotary positions, where `Encoder.isolated` has
    been tried with it.
    """

    norm: str = "layernorm"
    told: Mapping[str, bool] = field(default_factory=dict)
    blocks: str = ""
    rotary: str = ""


RESIZED = {"interpolate_pos_encoding": True}
# model_type of `transformers` -> how it is built.
# Each was read: one CLS token first, registers, then every patch in its place.
KINDS = {
    "clip_vision_model": Kind("post_layernorm", RESIZED),
    "dinov2": Kind(blocks="encoder.layer"),
    "dinov2_with_registers": Kind(blocks="encoder.layer"),
    "dinov3_vit": Kind("norm", blocks="model.layer", rotary="rope_embeddings"),
    "vit": Kind(told=RESIZED),
    "vit_msn": Kind(told=RESIZED),
}
PADDING = 0.2  # share of a batch's tokens that isolated encoding may waste on equal lengths
# Tensors that no token goes through. A file may lack them.
UNREAD = ("pooler.", "embeddings.mask_token")


class BackboneUnavailable(SeglibError):
    """The weights are neither in the given folder nor in the local hub cache."""


class UnsupportedModel(SeglibError):
    """The model's sequence is not ``[CLS, registers..., patches row by row]``."""


class WrongCropSize(SeglibError, ValueError):
    """The encoder's input is no multiple of its patch, or would distort the crop."""


class NoSuchLayer(SeglibError, ValueError):
    """The model has fewer transformer blocks than the recipe counts back."""


class WrongNormalisation(SeglibError, ValueError):
    """Pixels would be normalised otherwise than in the model's training."""


@dataclass(frozen=True)
class Tokens:
    """What the encoder says of B crops, after its final layer norm; float32 on its device.

    cls ``(B, D)``, registers ``(B, R, D)``, patches ``(B, gh, gw, D)`` row-major. NaN is what did
    not enter the encoder, see `Encoder.isolated`.
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

    def isolated(self, crops: Sequence[Crop], kept: np.ndarray) -> Tokens:
        """Encode only the kept patches of each crop, bool ``(B, gh, gw)``."""


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
        pixels = devices.sent(images, device).permute(0, 3, 1, 2).float()  # channels last
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
            ).clamp_(0, 255)  # the bicubic kernel overshoots at edges
        mean, std = torch.tensor(NORMALISATIONS[self.normalisation], device=device)
        # In place: a new array for each step takes longer than the arithmetic.
        return pixels.div_(255).sub_(mean.view(3, 1, 1)).div_(std.view(3, 1, 1))


AS_CROPPED = Preprocessing()


class Encoder:
    """A frozen transformer of `transformers`.

    Called, it is contextual: every token sees the whole crop. `isolated` shows it only the
    patches that are kept.

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
        self._kind = KINDS[model.config.model_type]
        self._norm = model.get_submodule(self._kind.norm)

    def __call__(self, crops: Sequence[Crop], layer: int = -1) -> Tokens:
        """Encode a batch of crops of one size; see `layers`."""
        return self.layers(crops, [layer])[layer]

    @torch.inference_mode()
    def layers(self, crops: Sequence[Crop], layers: Collection[int]) -> dict[int, Tokens]:
        """The tokens behind some of the blocks, -1 the last, each through the final norm.

        Raises
        ------
        WrongCropSize
            Patches do not tile the input.
        NoSuchLayer
        """
        pixels = self.pixels(crops)
        grid = self.grid(crops)
        return {
            layer: self._tokens(hidden, grid)
            for layer, hidden in self.hidden(pixels, layers).items()
        }

    def hidden(
        self, pixels: torch.Tensor, layers: Collection[int] = (-1,)
    ) -> dict[int, torch.Tensor]:
        """The same for what `pixels` gives, ``(B, 1 + R + gh gw, D)`` each; it has a gradient."""
        for layer in layers:
            self._check_layer(layer)
        inner = any(layer != -1 for layer in layers)
        out = self.model(pixel_values=pixels, output_hidden_states=inner, **self._kind.told)
        # CLIP's last_hidden_state stands before its final norm, which it gives to CLS alone.
        last = out.last_hidden_state
        last = self._norm(last) if self._kind.norm == "post_layernorm" else last
        return {
            layer: last if layer == -1 else self._norm(out.hidden_states[layer]) for layer in layers
        }

    @torch.inference_mode()
    def isolated(
        self, crops: Sequence[Crop], kept: np.ndarray, specials: bool = True, layer: int = -1
    ) -> Tokens:
        """Encode only the kept patches of each crop, with their own positions.

        No other pixel can move them: for one crop not by a single bit. Counts may differ from
        crop to crop; crops of like counts go through the blocks together, the shorter ones padded
        and the padding masked.

        Parameters
        ----------
        crops : B of one size, which is that of the encoder's input
        kept : (B, gh, gw) bool
        specials : bool
            Whether CLS and registers enter too. They carry no pixel.
        layer : int
            See `layers`.

        Returns
        -------
        Tokens
            NaN where nothing entered.

        Raises
        ------
        UnsupportedModel
            Its family has not been tried: DINOv2 and DINOv3 have.
        WrongCropSize
            Resizing would carry pixels over the border of what is kept.
        """
        self._check_isolated(crops)
        self._check_layer(layer)
        pixels = self.pixels(crops)
        embedded = self.model.embeddings(pixels)  # each patch by itself, its position added
        rotary = ()
        if self._kind.rotary:
            rotary = self.model.get_submodule(self._kind.rotary)(pixels)
        first, entering = 1 + self.registers, torch.from_numpy(kept).flatten(1).to(self.device)
        found = torch.full_like(embedded, torch.nan)
        for rows in _alike(entering.sum(1).tolist(), first if specials else 0):
            before = embedded[rows, :first] if specials else embedded[rows, :0]
            real, places = _front(entering[rows])
            patches = embedded[rows, first:].gather(1, _wide(places, self.width))
            turned = tuple(one[places][:, None] for one in rotary)
            seen = self._through(torch.cat([before, patches], 1), real, turned, layer)
            found[rows, : before.shape[1]] = seen[:, : before.shape[1]]
            row, column = real.nonzero(as_tuple=True)
            whose = torch.tensor(rows, device=self.device)[row]
            found[whose, first + places[row, column]] = seen[:, before.shape[1] :][row, column]
        return self._tokens(found, self.grid(crops))

    def _through(
        self, hidden: torch.Tensor, real: torch.Tensor, rotary: tuple, layer: int
    ) -> torch.Tensor:
        """Tokens ``(B, n, D)`` through the blocks; of the last ones only the real are looked at."""
        blocks = self.model.get_submodule(self._kind.blocks)
        told = {"position_embeddings": rotary} if rotary else {}
        mask = _mask(real, hidden)
        for block in blocks[: len(blocks) + layer + 1]:
            hidden = block(hidden, attention_mask=mask, **told)
        return self._norm(hidden)

    def pixels(self, crops: Sequence[Crop]) -> torch.Tensor:
        """What the encoder sees of a batch of crops of one size, ``(B, 3, H, W)``.

        Raises
        ------
        WrongCropSize
        """
        images = np.stack([crop.image for crop in crops])
        pixels = self.preprocessing(images, self.device).to(self.model.dtype)
        self._check_tiling(*pixels.shape[-2:])
        return pixels

    def grid(self, crops: Sequence[Crop]) -> tuple[int, int]:
        """``(gh, gw)``: into how many rows and columns of patches crops of this size are cut."""
        height, width = crops[0].image.shape[:2]
        side = self.preprocessing.input_size
        return (side or height) // self.patch, (side or width) // self.patch

    def _tokens(self, hidden: torch.Tensor, grid: tuple[int, int]) -> Tokens:
        parts = [1, self.registers, grid[0] * grid[1]]
        cls, registers, patches = hidden.float().split(parts, dim=1)
        return Tokens(cls[:, 0], registers, patches.unflatten(1, grid))

    def _check_isolated(self, crops: Sequence[Crop]) -> None:
        if not self._kind.blocks:
            able = ", ".join(name for name, kind in KINDS.items() if kind.blocks)
            raise UnsupportedModel(
                f"isolated encoding of a model of type {self.model.config.model_type}; expected "
                f"one of {able}. Set encoding='contextual', or take another backbone."
            )
        (height, width), side = crops[0].image.shape[:2], self.preprocessing.input_size
        if side not in (None, height):
            raise WrongCropSize(
                f"isolated encoding of a crop of {width} x {height} pixels for an input of {side}; "
                "expected the same size, since resizing would carry pixels over the border of "
                "what is kept. Set crop_size to input_size."
            )

    def _check_layer(self, layer: int) -> None:
        blocks = self.model.config.num_hidden_layers
        if not -blocks <= layer < 0:
            raise NoSuchLayer(
                f"layer {layer} of an encoder of {blocks} blocks; expected -1 for the last to "
                f"{-blocks} for the first. Set layer in the recipe."
            )

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
        ``"dinov2-s"`` (embedded), ``"dinov2-s-random"`` (its shape, weights drawn anew: what
        the architecture is worth without its training), ``"dinov3-s" | "-s+" | "-b" | "-l" |
        "-h+" | "-7b"`` (gated on the hub), ``"farl-b"``; a folder that `transformers` saved or
        that holds DINOv3 in timm's layout; or any hub id of such a model, ``"owner/name"`` or
        ``"owner/name@revision"``.
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
    if name == RANDOM:
        _check_normalisation(name, NORMALISATIONS["imagenet"], preprocessing)
        return Encoder(_drawn(assets.fetch(EMBEDDED["dinov2-s"])), device, preprocessing)
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
        raise unknown_name("backbone", name, [*EMBEDDED, RANDOM, FARL, *HUB])
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

    # Else it would unpickle an older checkpoint, and offer to run code that lies in the folder.
    tensors_only = {"use_safetensors": True, "trust_remote_code": False}
    return _checked(folder, AutoModel, folder, local_files_only=True, **tensors_only)


def _drawn(folder: Path) -> torch.nn.Module:
    """The shape of a model, its weights as its training began: always the same ones."""
    devices.let_torchvision_import()
    from transformers import AutoConfig, AutoModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModel.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))


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


def _alike(counts: Sequence[int], specials: int) -> Iterator[list[int]]:
    """Rows that travel together: at most `PADDING` of their tokens are padding, none is empty."""
    lengths = {row: count + specials for row, count in enumerate(counts)}
    waiting = sorted((row for row in lengths if lengths[row]), key=lengths.get, reverse=True)
    while waiting:
        longest, rows, total = lengths[waiting[0]], [], 0
        for row in waiting:
            total += lengths[row]
            if total < (1 - PADDING) * longest * (len(rows) + 1):
                break
            rows.append(row)
        yield rows
        waiting = waiting[len(rows) :]


def _front(entering: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the entering patches are, bool ``(B, P)``, moved to the front of each row.

    Returns
    -------
    real : (B, n) bool
        False where a row has fewer than the n of the longest.
    places : (B, n) int
        Which patch stands there.
    """
    places = torch.sort(entering.int(), descending=True, stable=True).indices
    places = places[:, : int(entering.sum(1).max())]
    return entering.gather(1, places), places


def _wide(places: torch.Tensor, width: int) -> torch.Tensor:
    """Indices ``(B, n)`` as ``(B, n, D)``, for gathering whole tokens."""
    return places[..., None].expand(-1, -1, width)


def _mask(real: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor | None:
    """What keeps attention from padding, to be added to it; none where nothing is padded."""
    if real.all():
        return None
    mask = torch.zeros(len(hidden), 1, 1, hidden.shape[1], dtype=hidden.dtype, device=hidden.device)
    mask[:, 0, 0, -real.shape[1] :].masked_fill_(~real, torch.finfo(hidden.dtype).min)
    return mask


def _checked(source: Path, family: type, *given, **options) -> torch.nn.Module:
    """A model from ``family.from_pretrained``, each of whose weights was in the file."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would flash by in a fraction of a second
    try:
        model, report = family.from_pretrained(*given, output_loading_info=True, **options)
    except MemoryError:
        raise
    except Exception as error:  # by what a config says, transformers and torch raise a dozen types
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
        said, names = config["pretrained_cfg"], ("mean", "std")
    elif (folder / "preprocessor_config.json").is_file():
        said, names = _json(folder, "preprocessor_config.json"), ("image_mean", "image_std")
    else:
        return None
    try:
        stated = [said.get(one) for one in names]
        if not all(stated):
            return None
        return tuple(np.broadcast_to(np.array(one, float), 3).tolist() for one in stated)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _damaged(folder, f"{' and '.join(names)}: {error}") from error


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
        found = json.loads(files.plain(folder / name).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError(f"it holds a {type(found).__name__}")
        return found
    except (OSError, ValueError, TypeError, RecursionError) as error:
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
