"""Every decision of the method, named, defaulted and hashed.

A *mode* is a recipe: ``demo()`` runs on what arrives inside packages, ``paper()`` on the
weights and data sets of arXiv 2606.00098. Both go through the same functions. The hash names
every cached file and every result, so that a number can never be mistaken for another's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass

from seglib import __version__
from seglib.errors import SeglibError, UnknownName, unknown_name


class BadDecision(SeglibError, ValueError):
    """A decision has a value of the wrong kind."""


# Decisions that leave descriptors as they are; the region only where patches are partitioned.
AFTERWARDS = ("mode", "region", "conditioning", "c_grid", "folds", "inner_folds", "aggregation")
# Decisions that come after the crop: recipes that differ in nothing else share one look at it.
OF_TOKENS = ("patch_rule", "region", "encoding", "layer", "pooling")

# What may be done to a test's pictures before anything looks at them, see `perturbation`.
UNTOUCHED = "none"
KINDS = (
    "saturation", "contrast", "blocks", "noise", "blur", "pixelation", "h264", "jpeg",
    "downscaling", "screenshot", "occlusion", "jitter",
)  # fmt: skip
LEVELS = (1, 2, 3, 4, 5)
PERTURBATIONS = (UNTOUCHED, *(f"{kind}:{level}" for kind in KINDS for level in LEVELS))

# The answers that some decisions have. Another one is refused, rather than hashed and ignored.
CHOICES = {
    "face_choice": ("largest", "mask"),
    "resize": ("bicubic", "bilinear"),
    "normalisation": ("imagenet", "clip", "half"),
    "encoding": ("contextual", "isolated", "isolated-bare"),
    "pooling": ("mean", "max", "mean+std"),
    "conditioning": ("none", "l2", "layernorm", "standardise", "ln-affine"),
    "aggregation": ("mean",),
}


PATCH_RULES = ("largest", "touched", "box")  # or a share: a number in [0, 1)


@dataclass(frozen=True)
class Recipe:
    """The protocol of one run. A field is one decision; its comment says what it decides."""

    mode: str  # which of the two families of weights and data made a number
    detector: str  # who finds the face: "mesh" (BlazeFace + face mesh), "retinaface" or "whole"
    parser: str  # who labels the crop's pixels: "mesh", "farl/lapa" or "farl/celebm"
    backbone: str  # the frozen encoder: a known name, a local folder or a hub id
    frames: int = 32  # of a video, evenly spaced over the whole of it
    perturbation: str = UNTOUCHED  # done to each frame first: "jpeg:3" is level 3 of 5
    face_choice: str = "largest"  # of several faces: the largest, or the one a mask covers most
    crop_scale: float = 1.3  # side of the crop over the longer side of the face box
    crop_size: int = 448  # side of the square face crop in pixels, which the parser labels
    input_size: int = 448  # side of what the encoder sees of it, a multiple of its patch
    resize: str = "bicubic"  # from crop to input where they differ, always antialiased
    normalisation: str = "imagenet"  # mean and deviation that the encoder was trained with
    patch_rule: str | float = "largest"  # which patches belong to a part, see `indexing.keep`
    region: str = "mouth"  # the part whose tokens are kept, a name of `regions.PARTS`
    encoding: str = "contextual"  # what a kept token has seen: the whole crop, as in the paper, or
    # only the kept patches ("isolated"; "isolated-bare" also without CLS and registers)
    layer: int = -1  # the encoder's block that tokens are taken from, behind its final norm
    pooling: str = "mean"  # kept tokens -> one descriptor
    conditioning: str = "standardise"  # descriptor -> what the probe is fitted to, see `probing`
    aggregation: str = "mean"  # logits of a video's frames -> its score
    # Inverse L2 strengths tried by grouped CV, a decade apart, so that a choice at an edge is rare.
    c_grid: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    folds: int = 5  # person-disjoint folds that a score is held out of
    inner_folds: int = 3  # person-disjoint folds inside the training people, to choose C
    seed: int = 0  # forging and every random control

    def __post_init__(self) -> None:
        object.__setattr__(self, "c_grid", tuple(self.c_grid))  # JSON has lists only
        if self.mode not in MODES:
            raise unknown_name("mode", self.mode, MODES)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown_name(name, getattr(self, name), choices)

        if self.perturbation not in PERTURBATIONS:
            raise unknown_perturbation(self.perturbation)
        share = type(self.patch_rule) in (int, float) and 0 <= self.patch_rule < 1
        if self.patch_rule not in PATCH_RULES and not share:
            raise unknown_name(
                "patch_rule", self.patch_rule, (*PATCH_RULES, "a share in [0, 1), say 0.5")
            )
        if not isinstance(self.layer, int) or self.layer >= 0:
            raise BadDecision(
                f"layer is {self.layer!r}; expected -1 for the last block, -2 or less."
            )
        if self.encoding != "contextual" and self.crop_size != self.input_size:
            raise BadDecision(
                f"encoding {self.encoding!r} with a crop of {self.crop_size} and an input of "
                f"{self.input_size} pixels; expected the same, since resizing would carry pixels "
                "over the border of what is kept. Set crop_size to input_size."
            )

        least = {"frames": 1, "crop_size": 1, "input_size": 1, "folds": 2, "inner_folds": 2}
        for name, low in least.items():
            if not isinstance(getattr(self, name), int) or getattr(self, name) < low:
                expected = f"{low}, {low + 1}, {low + 2} or more"
                raise BadDecision(f"{name} is {getattr(self, name)!r}; expected {expected}.")
        if not 0 < self.crop_scale < math.inf:
            raise BadDecision(f"crop_scale is {self.crop_scale!r}; expected more than 0, say 1.3.")
        if not self.c_grid or not all(0 < C < math.inf for C in self.c_grid):
            raise BadDecision(f"c_grid is {self.c_grid!r}; expected some above 0, say 0.1, 1, 10.")

    def __str__(self) -> str:
        return f"mode {self.mode} · recipe {self.key} · seglib {__version__}"

    @property
    def key(self) -> str:
        """Twelve hex digits that change when any decision changes."""
        return _digest(dataclasses.asdict(self))

    @property
    def descriptor_key(self) -> str:
        """The same for the decisions that descriptors depend on: what comes after is free."""
        decisions, free = dataclasses.asdict(self), self.afterwards
        return _digest({name: decisions[name] for name in decisions if name not in free})

    @property
    def afterwards(self) -> set[str]:
        """Names of the decisions that leave its descriptors as they are."""
        return set(AFTERWARDS) if self.partitions else set(AFTERWARDS) - {"region"}

    @property
    def partitions(self) -> bool:
        """Whether each patch belongs to one label, whatever the region: then all parts are kept.

        Otherwise a token depends on which part it was kept for, and only the region's are.
        """
        return self.patch_rule == "largest" and self.encoding == "contextual"

    @property
    def look(self) -> Recipe:
        """The same with all that comes after the crop as by default.

        Recipes of one look share the networks and what they say of a crop.
        """
        free = {*OF_TOKENS, *AFTERWARDS} - {"mode"}
        own = dataclasses.fields(self)
        return self.but(**{one.name: one.default for one in own if one.name in free})

    def but(self, **changes) -> Recipe:
        """The same recipe with some decisions changed: one axis of an ablation."""
        names = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise unknown_name("recipe field", name, names)
        return dataclasses.replace(self, **changes)


def unknown_perturbation(name: object) -> UnknownName:
    """Build, not raise, the error for what is none of the `PERTURBATIONS`."""
    known = f"each of these kinds at a level of {LEVELS[0]} to {LEVELS[-1]}, say jpeg:3"
    return unknown_name("perturbation", name, (UNTOUCHED, *KINDS, known))


def _digest(decisions: dict) -> str:
    # Younger than the first published keys, which stand for untouched pictures and stay valid.
    if decisions["perturbation"] == UNTOUCHED:
        decisions = {name: decisions[name] for name in decisions if name != "perturbation"}
    text = json.dumps(decisions, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def demo() -> Recipe:
    """The embedded default: real weights and real faces, on a CPU, with no hub."""
    # A tight crop of 20 x 20 patches: the smallest grid on which the parser leaves at least 95 %
    # of the demo's faces a patch for every part (chapter 02 counts them; no score was looked at).
    return Recipe(
        mode="demo",
        detector="mesh",
        parser="mesh",
        backbone="dinov2-s",
        crop_scale=1.0,
        crop_size=280,
        input_size=280,
    )


def paper() -> Recipe:
    """The configuration of arXiv 2606.00098, as far as its abstract and our decisions fix it."""
    return Recipe(mode="paper", detector="retinaface", parser="farl/lapa", backbone="dinov3-l")


def panel() -> Recipe:
    """The demo's recipe, but for tokens of an earlier block, as they are, and one strong penalty.

    Those of the probes that come with the package. They were chosen among a dozen by the AUC on
    real face swaps that are no part of this project; chapter 06 tells what each is worth.
    """
    return demo().but(layer=-4, conditioning="none", c_grid=(1e-2,))


MODES = {"demo": demo, "paper": paper}
STANDING = {"demo": (demo, panel), "paper": (paper,)}  # what a mode's records may be made under
