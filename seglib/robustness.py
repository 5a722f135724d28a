"""What perturbed pictures make of a probe, and of the parser: AUC and coverage by kind and level.

The probe learns from pictures as they are and is tested on perturbed ones of people whom it has
not met; a forgery gets the same treatment as the picture it was made from. What is lost may be
the probe's, whose trace is gone, or the parser's, that finds no face or no part: the one is told
by the AUC of those that have a score, the other by the coverage. Taught in chapter 07.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from seglib import audit, demo, evaluation, extraction, media, results, scoretable
from seglib import recipe as recipes
from seglib.descriptors import Descriptors
from seglib.evaluation import Scores
from seglib.extraction import Extractor
from seglib.perturbation import KINDS
from seglib.probing import Probe
from seglib.recipe import LEVELS, UNTOUCHED, Recipe
from seglib.store import Store
from seglib.training import SEEDS

# The collection with the larger faces: DeeperForensics' parameters are in pixels.
FORGED = ("csu", "mouth", "feathered")
PICTURES = 2  # of each person are perturbed; all are learned from
PARTS = audit.FORGED
LOST = ["no_face", "unreadable", "no_part"]
NO_FACE = ("NoFace:", "FaceTooSmall:")  # how a ledger's reasons begin


def level_name(view: str, level: int) -> str:
    """How a view is called at a level: ``"mouth"``, ``"mouth, level 3"``."""
    return f"{view}, level {level}" if level else view


def measured(
    kind: str,
    recipe: Recipe,
    seeds: Sequence[int] = SEEDS,
    levels: Sequence[int] = LEVELS,
    parts: Sequence[str] = PARTS,
) -> Scores:
    """Scores of a kind's levels and of the same pictures untouched, as views.

    Views are the parts, pooled from the whole face's tokens and encoded alone, and all patches.
    Published as ``robustness-KIND``, see `grid`.
    """
    whole = demo.sample(*FORGED, recipe)
    alone = [demo.sample(*FORGED, one).descriptors for one in _alone(recipe, parts)]
    views = _views(whole.descriptors, alone, parts)
    several = [_perturbed(recipe.but(perturbation=f"{kind}:{n}"), parts) for n in levels]
    case = audit.Case(
        f"{whole.name}: {kind}",
        whole.labels,
        whole.groups,
        whole.items,
        np.where(whole.labels == 1, whole.part, ""),
        views,
    )
    tested = np.flatnonzero(np.tile(_few(recipe), 2))
    changed = {view: np.concatenate([one[view] for one in several]) for view in views}
    found = case.extended(tested, changed).scores(whole.part, list(views), recipe, seeds)
    again = np.arange(len(whole.labels), len(found.labels)).reshape(len(levels), -1)
    named = {
        level_name(view, level): (view, rows)
        for level, rows in zip((0, *levels), (tested, *again), strict=True)
        for view in views
    }
    return replace(
        found,
        labels=whole.labels[tested],
        groups=whole.groups[tested],
        items=whole.items[tested],
        probes=found.probes[:, tested],
        views={name: found.views[view][:, rows] for name, (view, rows) in named.items()},
        thresholds={name: found.thresholds[view] for name, (view, _) in named.items()},
        title=case.name,
    )


def _alone(recipe: Recipe, parts: Sequence[str]) -> list[Recipe]:
    return [recipe.but(encoding="isolated", region=part) for part in parts]


def _few(recipe: Recipe) -> np.ndarray:
    """Which of the collection's pictures are perturbed, ``(N,)`` bool."""
    people = demo.people(FORGED[0], recipe.seed)
    return (people.groupby("person").cumcount() < PICTURES).to_numpy()


def _views(
    whole: Descriptors, alone: Sequence[Descriptors], parts: Sequence[str]
) -> dict[str, np.ndarray]:
    found = {part: whole.view(part) for part in (*parts, "all")}
    isolated = {part: one.view(part) for part, one in zip(parts, alone, strict=True)}
    return found | {audit.view_name(part, "isolated"): one for part, one in isolated.items()}


def _perturbed(recipe: Recipe, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Each view of the pictures, bona fide and then forged, as the recipe perturbs them."""
    asked = [recipe, *_alone(recipe, parts)]
    first = f"{FORGED[0]}-{PICTURES}-each"
    names = f"{first}-real", f"{first}-{FORGED[1]}-{FORGED[2]}"
    whole, *alone = (
        Descriptors.joined(
            demo.kept(name, one, partial(_described, name, place), asked, (_few, _pictures))
            for place, name in enumerate(names)
        )
        for one in asked
    )
    return _views(whole, alone, parts)


def _described(name: str, place: int, several: Sequence[Recipe]) -> list[Descriptors]:
    """Descriptors of the bona fide pictures (place 0) or of the forged ones (1)."""
    first = several[0]
    pictures = _pictures(first.look.but(perturbation=UNTOUCHED))[place]
    label = f"{name}, {first.perturbation}"
    return demo.networks(first).several(pictures, several, len(pictures), label)


@cache  # every kind and level asks for them
def _pictures(recipe: Recipe) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Those that are perturbed, in pairs: as they were, and forged."""
    few = np.flatnonzero(_few(recipe))
    paths = demo.people(FORGED[0], recipe.seed).path
    forged = list(demo.forge(*FORGED, demo.networks(recipe).detector, recipe.seed))
    return [media.read_image(paths[row]) for row in few], [forged[row].image for row in few]


# By the name of its record: a part of what `publish` keeps, which chapter 07 measures itself.
EXPERIMENTS = {"robustness-here": partial(measured, "jpeg", levels=(3,), parts=("mouth",))}


def publish() -> None:
    """Measure every kind and keep the records, as `make robustness` does.

    Describing the pictures takes long; interrupted, it goes on where it was.
    """
    recipe = recipes.demo()
    for kind in tqdm(KINDS, "kinds", unit="kind"):
        scores = measured(kind, recipe)
        results.save(f"robustness-{kind}", scores, recipe, chapter="07", folder=results.FOLDER)


def grid(view: str, end: str = "value", levels: Sequence[int] = LEVELS) -> pd.DataFrame:
    """A view's published AUCs by kind and level, or another number of these results.

    Parameters
    ----------
    view : str
        Say ``"mouth"`` or ``"isolated mouth"``.
    end : str
        ``"value"``, ``"low"`` or ``"high"``, NaN where nobody got a score; or ``"coverage"``: the
        share of pictures that got one.
    levels : sequence of int
        0 is untouched.

    Returns
    -------
    DataFrame with the index ``kind`` and a column a level

    Raises
    ------
    seglib.scoretable.BadRecord
    """
    columns = {f"level {level}" if level else "untouched": level for level in levels}
    rows = {
        kind: {name: _kept(kind, level_name(view, level), end) for name, level in columns.items()}
        for kind in KINDS
    }
    return pd.DataFrame.from_dict(rows, orient="index").astype(float).rename_axis("kind")


def _kept(kind: str, view: str, end: str) -> float:
    path = results.FOLDER / "demo" / f"robustness-{kind}.json"
    if end == "coverage":  # of a view without an AUC too
        return float(1 - np.isnan(_scores(path).views[view]).any(0).mean())
    return _record(path).results.get(f"{results.slug(view)}.auc", {}).get(end, np.nan)


_record = cache(results.load)


@cache
def _scores(path: Path) -> Scores:
    record = _record(path)
    return scoretable.read(path.with_suffix(".csv"), record.thresholds, record.ordinal)


# -- videos of a manifest -----------------------------------------------------------------------


def chosen(asked: Sequence[str]) -> list[str]:
    """Decisions of a recipe from kinds (``"jpeg"``) and kinds at a level (``"jpeg:3"``).

    Raises
    ------
    seglib.errors.UnknownName
    """
    found = {}
    for one in asked or KINDS:
        if one not in (*recipes.PERTURBATIONS[1:], *KINDS):
            raise recipes.unknown_perturbation(one)
        found |= dict.fromkeys([one] if ":" in one else [f"{one}:{n}" for n in LEVELS])
    return list(found)


def of_videos(
    table: pd.DataFrame,
    extractor: Extractor,
    root: str | Path,
    probes: Sequence[Probe],
    view: str,
    decisions: Sequence[str],
) -> pd.DataFrame:
    """AUC and coverage of probes on a manifest's videos, untouched and under each perturbation.

    Each has a store of its own under `root`, so that an interrupted run goes on where it was.

    Parameters
    ----------
    table, extractor, root
        As in `extraction.extract`.
    probes, view
        As in `evaluation.detect`.
    decisions : sequence of str
        See `chosen`.

    Returns
    -------
    DataFrame with the index ``perturbation``, "none" first
        auc, low, high; change, change_low, change_high: from untouched, on videos that have a
        score in both; items, groups, and coverage of videos; and shares of all frames: no_face;
        unreadable, or without a mask; and no_part, with a face but no token of the probe's view.
    """
    detectors, lost = {}, {}
    bar = tqdm((UNTOUCHED, *decisions), "perturbations", unit="perturbation")
    for one in bar:
        bar.set_postfix_str(one)
        chain = extractor.choosing(perturbation=one)
        extraction.extract(table, chain, root)
        store = Store(root, chain.recipe, chain.networks)
        detectors[one] = evaluation.detect(probes, store, view, table.video_uid)
        reason = store.ledger(table.video_uid).reason
        silent = np.isnan(detectors[one].frames[1]).any(0)
        faceless = reason.str.startswith(NO_FACE)
        shares = faceless, (reason != "") & ~faceless, silent & (reason == "")
        lost[one] = [share.mean() for share in shares]
    scores, drawn = evaluation.together(table, detectors)
    found = scores.table(UNTOUCHED)
    change = -found[["lead", "lead_high", "lead_low"]]
    found[["change", "change_low", "change_high"]] = change.to_numpy() + 0.0  # no minus zero
    found[LOST] = [lost[name] for name in found.index]
    columns = ["auc", "low", "high", "change", "change_low", "change_high", "items", "groups"]
    found = found[[*columns, "coverage", *LOST]].rename_axis("perturbation")
    found.attrs["drawn"] = drawn
    return found


def worded(table: pd.DataFrame) -> pd.DataFrame:
    """What `of_videos` found, for people: numbers with their intervals, shares in per cent."""
    interval = "{:.3f} [{:.3f}, {:.3f}]"
    change = interval.replace(":", ":+")
    words = {
        "AUC": [interval.format(*row) for row in table[["auc", "low", "high"]].to_numpy()],
        "change": [
            change.format(*row) for row in table[["change", "change_low", "change_high"]].to_numpy()
        ],
    }
    shares = table[["coverage", *LOST]].map("{:.0%}".format)
    return (
        pd.DataFrame(words, index=table.index).join(shares).replace(r".*nan.*", "none", regex=True)
    )
