"""The probe: condition a descriptor, then one linear score, then its calibration.

Five conditionings, as many as the companion paper (arXiv 2603.26387) compares. ``none``; ``l2``:
each row to the norm sqrt(D), so that C means as much as for the others; ``layernorm``: each row
to mean 0 and variance 1 (Ba et al., arXiv 1607.06450); ``standardise``: each feature to mean 0
and variance 1 over the training rows; ``ln-affine``: layernorm, then an affine map of each feature
learned from the training rows, that is, standardise. The paper means the affine map of the
backbone's own output norm; our tokens are taken behind it, so that this one is our reading.

A probe is a few arrays, so that scoring waits for no other library; `seglib.training` makes one.
On disk probes are safetensors and a JSON card beside them: loading executes nothing. Taught in
chapter 03.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as tensors

from seglib import __version__, files
from seglib.errors import SeglibError, unknown_name

EPSILON = 1e-6  # under the root of LayerNorm, as in DINOv2
FORMAT = 1  # raised when the files change their form
ARRAYS = ("weight", "bias", "C", "slope", "offset", "threshold")
SCALING = ("mean", "scale")  # only where the conditioning standardises
MATRICES = ("weight", *SCALING)  # a row a seed; the others hold a number a seed
NOTES = {
    "what": "Linear probes, one a seed, on frozen descriptors of face parts. A score is the "
    "log-odds of fake at even odds of both classes; a video's is the mean over its frames.",
    "limits": "Calibrated on the kinds of forgery and on the cameras it was trained with. On "
    "others its log-odds may be far too sure and its ranking may be at chance or inverted. It "
    "says nothing of who made a picture or why.",
    "licence": "The code is MIT. What was learned derives from the encoder and from the training "
    "data that are named here: their licences bind whoever passes these files on.",
    "load": "probes, card = seglib.probing.load(path)",
}


class NotLinear(SeglibError, ValueError):
    """A direction was asked of a probe whose score is no linear function of the descriptor."""


class BadProbe(SeglibError):
    """The files hold no probe, or one for other descriptors."""


# -- conditioning -----------------------------------------------------------------------------


def _as_is(rows: np.ndarray) -> np.ndarray:
    return rows


def _l2(rows: np.ndarray) -> np.ndarray:
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows / np.where(norms == 0, 1, norms) * np.sqrt(rows.shape[1])


def _layernorm(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(1, keepdims=True)
    return centred / np.sqrt(rows.var(1, keepdims=True) + EPSILON)


# What each conditioning does to a row by itself, before anything that is learned.
ROWWISE = {
    "none": _as_is,
    "l2": _l2,
    "layernorm": _layernorm,
    "standardise": _as_is,
    "ln-affine": _layernorm,
}
STANDARDISED = ("standardise", "ln-affine")  # then each feature, by mean and scale of the training
AFFINE = ("none", "standardise")  # those that look at each feature by itself


# -- the probe --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """A linear score and how to read it.

    conditioning: a name of `ROWWISE`; C: inverse strength of the L2 penalty it was trained under;
    weight ``(D,)`` and bias: of the conditioned row; mean and scale ``(D,)``: of each feature over
    the training rows, 0 and 1 where the conditioning does not standardise. ``slope * logit +
    offset`` are calibrated log-odds at even odds of both classes. threshold: the log-odds above
    which to call an item fake.
    """

    conditioning: str
    C: float
    weight: np.ndarray
    bias: float
    mean: np.ndarray
    scale: np.ndarray
    slope: float
    offset: float
    threshold: float

    @property
    def width(self) -> int:
        """D, the length of a descriptor."""
        return len(self.weight)

    @property
    def direction(self) -> np.ndarray:
        """Where in the space of raw descriptors the score climbs, and how fast, ``(D,)`` float64.

        The score of x is ``x @ direction`` and a constant: by this and nothing else two
        descriptors differ for the probe. Taught in chapter 05.

        Raises
        ------
        NotLinear
            The conditioning divides a row by what is in it, so that no one direction is right for
            all descriptors.
        """
        self._check_affine()
        return self.slope * (self.weight / self.scale)

    @property
    def centre(self) -> np.ndarray:
        """The descriptor that says nothing, ``(D,)`` float64: conditioning makes it 0.

        The score of x is ``(x - centre) @ direction + constant``. Raises as `direction` does.
        """
        self._check_affine()
        return self.mean

    @property
    def constant(self) -> float:
        """Calibrated log-odds of the `centre`."""
        return self.slope * self.bias + self.offset

    def logits(self, descriptors: np.ndarray) -> np.ndarray:
        """Of the classifier, not yet calibrated, ``(N,)`` float64."""
        rows = ROWWISE[self.conditioning](descriptors.astype(float))
        return (rows - self.mean) / self.scale @ self.weight + self.bias

    def _check_affine(self) -> None:
        if self.conditioning not in AFFINE:
            raise NotLinear(
                f"found a probe conditioned by {self.conditioning!r}, whose score is not linear "
                f"in the descriptor; expected {' or '.join(AFFINE)}. Train one with such a "
                "`conditioning` in the recipe."
            )


def score(probe: Probe, descriptors: np.ndarray) -> np.ndarray:
    """Calibrated log-odds ``(N,)``, higher is more fake; NaN for a row without a descriptor.

    They are an affine map of the logits: their mean over a video's frames is the calibrated mean
    logit, exactly.
    """
    seen = ~np.isnan(descriptors).any(1)
    scores = np.full(len(descriptors), np.nan)
    if seen.any():
        scores[seen] = probe.slope * probe.logits(descriptors[seen]) + probe.offset
    return scores


# -- on disk ----------------------------------------------------------------------------------


def save(probes: Sequence[Probe], path: Path, card: dict) -> None:
    """Write the probes of several seeds and, beside them, the card of what was trained how.

    Parameters
    ----------
    probes : sequence of Probe
        Of one conditioning and one width, as `fit_seeds` gives them.
    path : Path
        Of the safetensors file; the card has the same name and the suffix ``.json``.
    card : dict
        What only the caller knows: view, recipe, networks, training data, metrics. What the
        probes say of themselves is added.
    """
    content = tensors.save(_stacked(probes))
    own = {
        "format": FORMAT,
        "made_by": f"seglib {__version__}",
        "sha256": hashlib.sha256(content).hexdigest(),
        **NOTES,
        "conditioning": probes[0].conditioning,
        "width": probes[0].width,
        "C": [probe.C for probe in probes],
        "threshold": [probe.threshold for probe in probes],
        "calibration": [{"slope": probe.slope, "offset": probe.offset} for probe in probes],
    }
    with files.replacing(path) as part:
        part.write_bytes(content)
        with files.replacing(path.with_suffix(".json")) as written:
            written.write_text(signed(card | own), encoding="utf-8")


def signed(card: dict) -> str:
    """A card as it is written: a threshold or a recipe in it decides as much as a weight does."""
    plain = json.loads(json.dumps(card))
    return json.dumps(plain | {"digest": files.digest(plain)}, indent=1) + "\n"


def is_changed(card: dict) -> bool:
    """Whether a card was changed after it was written, or never signed."""
    return card.get("digest") != files.digest(card)


def load(path: Path) -> tuple[tuple[Probe, ...], dict]:
    """The probes and their card, as `save` wrote them; scores are the same to the last bit.

    Raises
    ------
    BadProbe
        A file is absent, cut or something else, or the two do not belong together.
    """
    try:
        card = json.loads(files.plain(path.with_suffix(".json")).read_text(encoding="utf-8"))
        content = files.plain(path).read_bytes()
        arrays = tensors.load(content)
        if not isinstance(card, dict):
            raise TypeError(f"the card holds a {type(card).__name__}")
    except (OSError, ValueError, TypeError, KeyError, RecursionError, SafetensorError) as error:
        raise _bad(path, str(error)) from error
    if card.get("format") != FORMAT:
        raise _bad(path, f"the card says format {card.get('format')!r}, not {FORMAT}")
    if card.get("sha256") != hashlib.sha256(content).hexdigest():
        raise _bad(path, "the card belongs to another file: its sha256 differs")
    conditioning = card.get("conditioning")
    if conditioning not in list(ROWWISE):
        raise _bad(path, str(unknown_name("conditioning", conditioning, ROWWISE)))
    _check(path, arrays, conditioning)
    if is_changed(card):
        raise _bad(path, "the card was changed after it was written: its digest is another")
    return tuple(_rebuilt(conditioning, arrays, seed) for seed in range(len(arrays["C"]))), card


def _names(conditioning: str) -> tuple[str, ...]:
    """The arrays that hold a probe."""
    return (*ARRAYS, *SCALING) if conditioning in STANDARDISED else ARRAYS


def _stacked(probes: Sequence[Probe]) -> dict[str, np.ndarray]:
    """All numbers of several probes, a row each."""
    names = _names(probes[0].conditioning)
    return {name: np.array([getattr(one, name) for one in probes], float) for name in names}


def _rebuilt(conditioning: str, arrays: dict[str, np.ndarray], seed: int) -> Probe:
    """The way back of `_stacked`, for one row."""
    one = {name: rows[seed] for name, rows in arrays.items()}
    unscaled = {"mean": np.zeros_like(one["weight"]), "scale": np.ones_like(one["weight"])}
    numbers = {name: float(one[name]) for name in ARRAYS if name not in MATRICES}
    return Probe(conditioning, **(unscaled | one | numbers))


def _check(path: Path, arrays: dict[str, np.ndarray], conditioning: str) -> None:
    """Refuse arrays that no probe can be rebuilt from."""
    expected = set(_names(conditioning))
    if set(arrays) != expected:
        raise _bad(path, f"arrays {sorted(arrays)} where {conditioning} has {sorted(expected)}")
    shape = arrays["weight"].shape
    if len(shape) != 2 or 0 in shape:
        raise _bad(path, f"weight is {shape} where (seeds, width) is expected")
    for name, array in arrays.items():
        if array.shape != (shape if name in MATRICES else shape[:1]) or array.dtype != float:
            raise _bad(path, f"{name} is {array.dtype} {array.shape} beside a weight {shape}")
        if not np.isfinite(array).all():
            raise _bad(path, f"{name} holds a number that is not finite")
        if name in ("C", "scale", "slope") and (array <= 0).any():
            raise _bad(path, f"{name} holds a number that is not above 0")


def _bad(path: Path, found: str) -> BadProbe:
    return BadProbe(
        f"{path} and its card hold no probe ({found}); expected what `seglib train` writes. "
        "Train it again."
    )
