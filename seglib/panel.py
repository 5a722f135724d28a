"""A panel: a probe for each of several face parts, and what they say together.

The parts' log-odds are averaged and calibrated once more. Beside each probe stand others, trained
on redrawn people, for its interval, and a `novelty.Reference`, which says when a face is unlike
all that the probe was trained on. On disk a panel is a folder of safetensors and JSON. Taught in
chapter 08.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as tensors

from seglib import files, probing
from seglib.descriptors import VIEWS, Descriptors
from seglib.errors import SeglibError, unknown_name
from seglib.novelty import Reference
from seglib.probing import Probe
from seglib.recipe import Recipe

PARTS = ("mouth", "eyes", "brows", "nose", "skin")
OVERALL = "overall"
QUORUM = 0.5  # together they speak where more than this share of them does
FORMAT = 1
CARD, REFERENCES = "panel.json", "references.safetensors"
SHORTCUTS = "shortcuts"  # of a card: what side channels told of the training videos


class BadPanel(SeglibError):
    """A folder holds no panel, or its files do not belong together."""


@dataclass(frozen=True)
class Combination:
    """``slope * mean + offset`` of the parts' log-odds, calibrated; above threshold: fake.

    limit: the mean of the parts' distances that nearly all people held out stay within.
    """

    slope: float
    offset: float
    threshold: float
    limit: float = 1.0


@dataclass(frozen=True)
class Panel:
    """Probes by part, the first trained on everybody and the others on redrawn people.

    references by part; a panel without them has none. combination is None for a single part.
    card: what only the maker knows, see `seglib.stacking`.
    """

    recipe: Recipe
    probes: Mapping[str, tuple[Probe, ...]]
    references: Mapping[str, Reference]
    combination: Combination | None
    card: dict

    @property
    def views(self) -> tuple[str, ...]:
        """The parts it reads."""
        return tuple(self.probes)

    @property
    def recipes(self) -> list[Recipe]:
        """What to describe a face under: one recipe, or where parts are encoded alone one each."""
        if self.recipe.partitions:
            return [self.recipe]
        return [self.recipe.but(region=part) for part in self.views]

    @property
    def thresholds(self) -> dict[str, float]:
        """Log-odds above which each part, and all together, would call a face fake."""
        own = {part: probes[0].threshold for part, probes in self.probes.items()}
        return own | ({} if self.combination is None else {OVERALL: self.combination.threshold})

    def told(self) -> list[tuple[str, str]]:
        """The card as names and sentences."""
        kept = ("what", "training", "limits", "licence")
        lines = [(name, str(self.card[name])) for name in kept if name in self.card]
        if {"videos", "fakes", "groups", "manifest"} <= self.card.keys():
            said = "{videos} videos, {fakes} of them fake, of {groups} groups; manifest {manifest}"
            lines.append(("trained on", said.format(**self.card)))
        for part, measured in self.card.get("measured", {}).items():
            (auc, *ends), (rate, *most) = measured["auc"], measured["false_positive_rate"]
            said = (
                "AUC {:.3f} [{:.3f}, {:.3f}] on the training's kind of forgeries, of people held "
                "out; {:.0%} [{:.0%}, {:.0%}] of their bona fide faces above the threshold"
            )
            lines.append((part, said.format(auc, *ends, rate, *most)))
        lines += self._shortcuts()
        one = self.recipe
        networks = f"{one.backbone}, block {one.layer}, {one.encoding} tokens; parser {one.parser}"
        return [*lines, ("networks", networks)]

    def _shortcuts(self) -> list[tuple[str, str]]:
        asked = self.card.get(SHORTCUTS, [])
        lines = [(f"{one['channel']} alone", one["told"]) for one in asked if one["suspicious"]]
        others = ", ".join(one["channel"] for one in asked if not one["suspicious"])
        return [*lines, ("not suspicious", others)] if others else lines

    @property
    def suspicious(self) -> list[str]:
        """Side channels that told the training's fakes by themselves."""
        return suspicious(self.card)

    def described(self, several: Sequence[Descriptors]) -> dict[str, np.ndarray]:
        """Each part's descriptors ``(N, W)``, of those made under `recipes`."""
        if len(several) == 1:
            return {part: several[0].view(part) for part in self.views}
        return {part: one.view(part) for part, one in zip(self.views, several, strict=True)}

    def scores(self, views: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Calibrated log-odds ``(S, N)`` of each part and of all together, a row a probe."""
        found = {
            part: np.stack([probing.score(probe, views[part]) for probe in probes])
            for part, probes in self.probes.items()
        }
        if self.combination is not None:
            mean = together(list(found.values()))
            found[OVERALL] = self.combination.slope * mean + self.combination.offset
        return found

    def distances(self, views: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """How far each face lies from the training ones, ``(N,)``: above 1 is outside."""
        found = {part: one.distance(views[part]) for part, one in self.references.items()}
        if found and self.combination is not None:
            found[OVERALL] = together(list(found.values())) / self.combination.limit
        return found


def together(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of those parts that speak, NaN where too few do."""
    stacked = np.stack(parts)
    speak = ~np.isnan(stacked)
    mean = np.where(speak, stacked, 0).sum(0) / speak.sum(0).clip(1)
    return np.where(speak.mean(0) > QUORUM, mean, np.nan)


def suspicious(card: Mapping) -> list[str]:
    """Side channels that told the fakes of a probe's training, see `seglib.shortcuts`."""
    return [one["channel"] for one in card.get(SHORTCUTS, []) if one["suspicious"]]


def check_networks(panel: Panel, networks: Mapping) -> None:
    """Refuse networks that the probes were not trained with; the precision may differ.

    Raises
    ------
    BadPanel
    """
    theirs = panel.card.get("networks", {})
    differ = [
        f"{name} is {theirs.get(name)!r} for the probes and {ours!r} here"
        for name, ours in networks.items()
        if name != "precision" and theirs.get(name) != ours
    ]
    if differ:
        raise BadPanel(
            f"these probes read the descriptors of other networks: {'; '.join(differ)}; expected "
            "the same. Install the version of seglib that trained them, or train them again."
        )


# -- on disk ----------------------------------------------------------------------------------


def save(panel: Panel, folder: Path) -> None:
    """Write a probe file for each part, their references, and the card that holds them together."""
    for part, probes in panel.probes.items():
        own = {"view": part, "measured": panel.card.get("measured", {}).get(part)}
        kept = ("networks", "training", "redrawn", SHORTCUTS)
        card = {key: panel.card[key] for key in kept if key in panel.card} | own
        card["recipe"] = dataclasses.asdict(panel.recipe)
        probing.save(probes, folder / f"{part}.safetensors", card)
    arrays = {
        f"{name}.{part}": np.asarray(getattr(one, name), np.float32)
        for part, one in panel.references.items()
        for name in ("centre", "precision", "limit")
    }
    content = tensors.save(arrays)
    with files.replacing(folder / REFERENCES) as written:
        written.write_bytes(content)
    combination = panel.combination and dataclasses.asdict(panel.combination)
    card = panel.card | {
        "format": FORMAT,
        "recipe": dataclasses.asdict(panel.recipe),
        "views": panel.views,
        "combination": combination,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    with files.replacing(folder / CARD) as written:
        written.write_text(probing.signed(card), encoding="utf-8")


def load(path: Path) -> Panel:
    """A panel's folder, or the file of one probe, which is a panel of one part.

    Raises
    ------
    BadPanel, seglib.probing.BadProbe
    """
    if os.path.isdir(path):
        return _from_folder(path)
    probes, card = probing.load(path)
    try:
        part, recipe = card["view"], Recipe(**card["recipe"])
        if part not in VIEWS:
            raise unknown_name("view", part, VIEWS)
        # Probes of several seeds are none of these.
        probes = probes[: 1 + max(card.get("redrawn", 0), 0)]
        measured = {part: card["measured"]} if card.get("measured") else {}
        card = card | {"measured": measured}
        _check_card(card)
        return Panel(recipe, {part: probes}, {}, None, card)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _bad(path, f"the card lacks what scoring needs, {error}") from error


def _from_folder(folder: Path) -> Panel:
    try:
        card = json.loads(files.plain(folder / CARD).read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ValueError(f"its format is {card['format']!r}, not {FORMAT}")
        if probing.is_changed(card):
            raise ValueError(f"{CARD} was changed after it was written: its digest is another")
        content = files.plain(folder / REFERENCES).read_bytes()
        if card["sha256"] != hashlib.sha256(content).hexdigest():
            raise ValueError(f"{CARD} belongs to other references: their sha256 differs")
        arrays = tensors.load(content)
        loaded = {one: probing.load(folder / f"{one}.safetensors") for one in card["views"]}
        for part, (_, own) in loaded.items():
            if own.get("view") != part:
                raise ValueError(f"{part}.safetensors is a probe of {own.get('view')!r:.40}")
        probes = {part: several for part, (several, _) in loaded.items()}
        references = {
            one: Reference(
                arrays[f"centre.{one}"].astype(float),
                arrays[f"precision.{one}"].astype(float),
                float(arrays[f"limit.{one}"]),
            )
            for one in card["views"]
            if f"limit.{one}" in arrays
        }
        _check(probes, references)
        _check_card(card)
        combination = card["combination"] and Combination(**card["combination"])
        if combination is not None:
            _check_numbers("its combination", dataclasses.astuple(combination))
        return Panel(Recipe(**card["recipe"]), probes, references, combination, card)
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError,
    ) as error:  # fmt: skip
        raise _bad(folder, str(error)) from error


def _check(probes: Mapping[str, tuple[Probe, ...]], references: Mapping[str, Reference]) -> None:
    """Refuse parts that could not be put together."""
    if not probes:
        raise ValueError("it names no part")
    counts = {part: len(several) for part, several in probes.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"its parts have {counts} probes, where as many of each are expected")
    for part, one in references.items():
        width = probes[part][0].width
        if one.precision.shape != (width, width) or one.centre.shape != (width,):
            raise ValueError(f"the reference of {part} is of {one.centre.shape}, not of ({width},)")
        if not (np.isfinite(one.centre).all() and np.isfinite(one.precision).all()):
            raise ValueError(f"the reference of {part} holds a number that is not finite")
        _check_numbers(f"the limit of {part}", [one.limit])


def _check_card(card: Mapping) -> None:
    """Refuse a card from which its networks or its own sentences could not be told."""
    if not isinstance(card.get("networks", {}), dict):
        raise ValueError(f"its networks are {card['networks']!r:.40}")
    for one in card.get(SHORTCUTS, []):
        if [type(one[key]) for key in ("channel", "told", "suspicious")] != [str, str, bool]:
            raise ValueError(f"{SHORTCUTS} holds {one!r:.40}")
    for part, measured in card.get("measured", {}).items():
        for name in ("auc", "false_positive_rate"):
            _check_numbers(f"{name} of {part}", measured[name])
            if len(measured[name]) != 3:
                raise ValueError(f"{name} of {part} is {measured[name]}, not a number and two ends")


def _check_numbers(what: str, numbers: Sequence[float]) -> None:
    for one in numbers:
        if type(one) not in (int, float) or not abs(one) <= sys.float_info.max:
            raise ValueError(f"{what} holds {one!r:.40}, not a finite number")


def _bad(path: Path, found: str) -> BadPanel:
    return BadPanel(
        f"{path} holds no panel of probes ({found}); expected a folder that `seglib export` "
        "or `make probes` writes, or the .safetensors file of one probe with its card beside it. "
        "Train it again, or leave --probe out to take the demo's."
    )
