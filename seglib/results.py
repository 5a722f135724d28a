"""Numbers that can be traced: each with its interval, its n, its origin, and what it was made from.

A *record* is what one experiment leaves behind, two files under ``results/<mode>/``: a table of
scores, a row an item (``NAME.csv``), and the results computed from it (``NAME.json``). They are
computed from the table *as written*, so that whoever has the table gets the same digits. Every
row, every result and the record as a whole carry a check sum: it shows that somebody changed
something, not who. A result's key is ``NAME.VIEW.METRIC``. Taught in chapter 03.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from seglib import __version__, files, scoretable
from seglib import recipe as recipes
from seglib.errors import unknown_name
from seglib.evaluation import Scores
from seglib.files import digest
from seglib.items import OneClass
from seglib.metrics import Interval
from seglib.recipe import Recipe
from seglib.scoretable import BadRecord

_LEAD = {"": "value", "_low": "low", "_high": "high"}
_NOTHING = dict.fromkeys(_LEAD.values(), 0.0)  # a view is not ahead of itself
HERE = Path(__file__).parent
SAME_WEIGHTS = {"dinov3-l": "timm/vit_large_patch16_dinov3.lvd1689m"}
ISOLATED = "isolated "  # before a view's name: only its tokens entered the encoder
DIGITS = 6  # of a result; counts of pairs make an AUC, so all of them are the same everywhere
CHECKOUT = (HERE.parent / "pyproject.toml").is_file()  # else installed, with copies inside
FOLDER = HERE.parent / "results" if CHECKOUT else HERE / "published" / "results"


@dataclass(frozen=True)
class Result:
    """One number as it may be quoted.

    low and high are None where it has no interval; method says how that was made. n items in
    `groups` groups were measured, `coverage` of all there were. recipe is the key of the decisions,
    code the version of seglib, data the SHA-256 of the table of scores (empty without one), made
    a date, seconds what training and scoring took. incomplete says what of the data was not there.
    """

    key: str
    value: float
    low: float | None
    high: float | None
    method: str
    n: int
    groups: int
    coverage: float
    mode: str
    recipe: str
    code: str
    data: str
    device: str
    seconds: float
    made: str
    record: str
    title: str
    incomplete: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return "none"
        if self.low is None:
            return f"{self.value:.3f}".rstrip("0").rstrip(".")
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def stale(self) -> bool:
        """Whether it was made by other decisions than its mode's of today."""
        return stale(self)


@dataclass(frozen=True)
class Record:
    """What one experiment left: its provenance, and a dict of numbers for each of its results.

    against is the view whose lead over the others is told, ordinal as in `Scores`. thresholds has
    for each view a list a seed of a number a probe. path is where it was read from or written to.
    """

    name: str
    title: str
    chapter: str
    mode: str
    recipe: str
    decisions: dict
    code: str
    device: str
    seconds: float
    made: str
    data: str
    against: str
    ordinal: bool
    thresholds: dict
    incomplete: str
    results: dict[str, dict]
    path: Path = Path()

    def table(self) -> pd.DataFrame:
        """One row a view, as `evaluation.Scores.table` has it; for figures and sentences."""
        rows = {}
        views = [key.removesuffix(".auc") for key in self.results if key.endswith(".auc")]
        for view in (view for view in views if "-over-" not in view and "@" not in view):
            own = self.results[f"{view}.auc"]
            lead = self.results.get(f"{slug(self.against)}-over-{view}.auc", _NOTHING)
            rows[view] = {"auc": own["value"], "low": own["low"], "high": own["high"]}
            rows[view] |= {f"lead{end}": lead[name] for end, name in _LEAD.items()}
            rows[view] |= {"coverage": own["coverage"], "items": own["n"], "groups": own["groups"]}
        table = pd.DataFrame.from_dict(rows, orient="index").astype(float).rename_axis("view")
        table.attrs["part"] = slug(self.against)
        return table

    def listed(self) -> pd.DataFrame:
        """Every number, one row each: value, low, high, n, groups, coverage, method."""
        rows = pd.DataFrame.from_dict(self.results, orient="index").rename_axis("result")
        columns = ["value", "low", "high", "n", "groups", "coverage", "method"]
        return rows.reindex(columns=columns)

    def quoted(self) -> dict[str, Result]:
        """Its results by their full keys."""
        own = {field.name for field in dataclasses.fields(Result)}
        common = {name: value for name, value in vars(self).items() if name in own}
        return {
            key: Result(key=key, record=self.name, **common, **numbers)
            for key, numbers in ((f"{self.name}.{short}", n) for short, n in self.results.items())
        }


def stale(origin: Result | Record) -> bool:
    """Whether a result or a record was made by other decisions than its mode's of today.

    The same weights under another name are no other decision.
    """
    today = [decisions() for decisions in recipes.STANDING[origin.mode]]
    alike = [one.but(backbone=SAME_WEIGHTS.get(one.backbone, one.backbone)) for one in today]
    return origin.recipe not in [one.key for one in (*today, *alike)]


def standing(mode: str) -> str:
    """The keys of the recipes that a mode's records may be made under today, in words."""
    return " or ".join(decisions().key for decisions in recipes.STANDING[mode])


# -- writing ----------------------------------------------------------------------------------


def run_folder() -> Path:
    """Where this run keeps its own numbers: ``$SEGLIB_RESULTS``, or ``my_results`` right here.

    Never in ``results``, whatever the working folder: those are the published ones.
    """
    return Path(os.environ.get("SEGLIB_RESULTS", "my_results"))


def save(
    name: str,
    found: Scores | Mapping[str, Interval | float],
    recipe: Recipe,
    *,
    title: str = "",
    chapter: str = "",
    against: str = "",
    incomplete: str = "",
    folder: Path | None = None,
) -> Record:
    """Write a record of this run, and return it.

    Parameters
    ----------
    name : str
        Of the record, say ``"orl-mouth-poisson"``: the first part of its keys.
    found : Scores or mapping
        Scores, from which everything of `compute` is computed; or numbers that come from no
        table, by the rest of their keys.
    title, chapter : str
        For people; and the number of the chapter that makes it.
    against : str
        The view whose lead over the others is told (default: the first).
    incomplete : str
        What of the data was not there.
    folder : path-like, optional
        Default: `run_folder`, and in it a folder of the recipe's mode.
    """
    from seglib import devices  # torch, which reading a record does not need

    path = Path(folder or run_folder()) / recipe.mode / f"{name}.json"
    numbers, data, thresholds, seconds, ordinal = found, "", {}, 0.0, False
    if isinstance(found, Scores):
        table = path.with_suffix(".csv")
        scoretable.write(found, table)
        data, seconds, ordinal = _sha256(table), found.seconds, found.ordinal
        against, title = against or next(iter(found.views)), title or found.title
        thresholds = {view: np.round(t, 4).tolist() for view, t in found.thresholds.items()}
        numbers = compute(scoretable.read(table, thresholds, ordinal), against)
    record = Record(
        name=name,
        title=title or name,
        chapter=chapter,
        mode=recipe.mode,
        recipe=recipe.key,
        decisions=json.loads(json.dumps(dataclasses.asdict(recipe))),
        code=__version__,
        device=devices.choose(),
        seconds=round(seconds, 1),
        made=f"{datetime.now(UTC):%Y-%m-%d}",
        data=data,
        against=against,
        ordinal=ordinal,
        thresholds=thresholds,
        incomplete=incomplete,
        results={key: _numbers(number) for key, number in numbers.items()},
        path=path,
    )
    _write(record)
    return record


def compute(scores: Scores, against: str) -> dict[str, Interval]:
    """Every metric of every view, and the lead in AUC of `against` over the others.

    The keys are ``VIEW.METRIC`` and ``VIEW-over-RIVAL.auc``, blanks written as hyphens; and where
    several methods of forging are there, ``VIEW@METHOD.auc`` for the view `against`. Where a view
    is there twice, also as ``"isolated VIEW"``, the lead of the one over the other is told too:
    what the rest of the face was worth to it. A view that scored nobody of one class has no result.
    """
    found = {}
    if len(set(scores.methods[scores.labels == 1])) > 1:
        several = scores.by_method(against)
        found = {f"{slug(f'{against}@{method}')}.auc": value for method, value in several.items()}
    for view in scores.views:
        try:
            measured = scores.measures(view)
            leads = {} if view == against else {against: scores.lead(against, view)}
        except OneClass:
            continue
        twin = view.removeprefix(ISOLATED)
        if twin in scores.views.keys() - {view, against}:
            with suppress(OneClass):
                leads[twin] = scores.lead(twin, view)
        measured = {name: one for name, one in measured.items() if not np.isnan(one.value)}
        found |= {f"{slug(view)}.{metric}": value for metric, value in measured.items()}
        found |= {f"{slug(f'{one}-over-{view}')}.auc": lead for one, lead in leads.items()}
    return found


def slug(name: str) -> str:
    """A name as it stands in a key: ``"random mouth"`` is ``"random-mouth"``."""
    return name.replace(", ", "-").replace(" ", "-")


def _numbers(found: Interval | float) -> dict:
    """A result as it stands in a record, rounded."""
    if not isinstance(found, Interval):
        found = Interval(float(found), np.nan, np.nan, 0, 0, 1.0, "none")
    value, low, high = (
        None if np.isnan(number) else round(float(number), DIGITS) + 0.0  # no minus zero
        for number in (found.value, found.low, found.high)
    )
    return {
        "value": value, "low": low, "high": high, "method": found.method, "n": int(found.items),
        "groups": int(found.groups), "coverage": round(float(found.coverage), DIGITS),
    }  # fmt: skip


def _write(record: Record) -> None:
    payload = {name: value for name, value in vars(record).items() if name != "path"}
    payload["results"] = {
        key: numbers | {"check": scoretable.check(key, *numbers.values())}
        for key, numbers in record.results.items()
    }
    payload["digest"] = digest(payload)
    with files.replacing(record.path) as part:
        part.write_text(json.dumps(payload, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- reading ----------------------------------------------------------------------------------

NUMBER = (int, float)
TEXTS = ("name", "title", "chapter", "mode", "recipe", "code", "device", "made", "data", "against",
         "incomplete")  # fmt: skip
RECORD = dict.fromkeys(TEXTS, (str,)) | {
    "decisions": (dict,), "seconds": NUMBER, "ordinal": (bool,), "thresholds": (dict,),
    "results": (dict,),
}  # fmt: skip
RESULT = dict.fromkeys(("value", "low", "high"), (*NUMBER, type(None))) | {
    "method": (str,), "n": (int,), "groups": (int,), "coverage": NUMBER,
}  # fmt: skip


def published(mode: str | None = None, folder: Path | None = None) -> dict[str, Result]:
    """Every result of a folder by its key; of one mode, or of all.

    Raises
    ------
    BadRecord
        A record is damaged or was changed after it was written.
    """
    found: dict[str, Result] = {}
    for record in records(folder):
        if mode in (None, record.mode):
            own = record.quoted()
            if twice := found.keys() & own.keys():
                raise BadRecord(
                    f"{record.path}: the key {min(twice)} is another record's too; expected each "
                    "once. Rename the record or move it away."
                )
            found |= own
    return found


def records(folder: Path | None = None) -> list[Record]:
    """The records of all modes under a folder (default: the published ones), checked.

    Raises
    ------
    BadRecord
    """
    folder = FOLDER if folder is None else Path(folder)
    return [load(path) for mode in recipes.MODES for path in sorted((folder / mode).glob("*.json"))]


def load(path: Path) -> Record:
    """One record, as it was written.

    Raises
    ------
    BadRecord
        Naming the key that was changed, where one was.
    """
    names = [field.name for field in dataclasses.fields(Record) if field.name != "path"]
    try:
        payload = json.loads(files.plain(path).read_text(encoding="utf-8"))
        signed = payload.pop("digest")
        results = {
            key: ({name: n for name, n in numbers.items() if name != "check"}, numbers["check"])
            for key, numbers in payload["results"].items()
        }
    except (
        OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError,
    ) as error:  # fmt: skip
        raise BadRecord(f"{path} is no record ({error}); expected what results.save writes. "
                        "Restore it, or run `make results`.") from error  # fmt: skip
    for key, (numbers, check) in results.items():
        if scoretable.check(key, *numbers.values()) != check:
            raise scoretable.changed(path, f"the result {key}")
    if digest(payload) != signed or sorted(payload) != sorted(names):
        raise scoretable.changed(path, "something beside the results")
    _check_kinds(path, "the record", payload, RECORD)
    if payload["mode"] not in recipes.MODES:
        raise BadRecord(f"{path}: {unknown_name('mode', payload['mode'], recipes.MODES)}")
    for key, (numbers, _) in results.items():
        _check_kinds(path, f"the result {key}", numbers, RESULT)
    return Record(**payload | {"results": {key: n for key, (n, _) in results.items()}}, path=path)


def _check_kinds(path: Path, where: str, found: Mapping, expected: Mapping) -> None:
    """Whether fields are there, and hold what a record's do: whoever signs can write anything."""
    if found.keys() != expected.keys():
        raise BadRecord(f"{path}: {where} has the fields {sorted(found)}, expected "
                        f"{sorted(expected)}. Restore it, or run `make results`.")  # fmt: skip
    for name, kinds in expected.items():
        if type(found[name]) not in kinds or not _is_plain(found[name]):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise BadRecord(f"{path}: {name} of {where} is {found[name]!a:.40}, expected {names}. "
                            "Restore it, or run `make results`.")  # fmt: skip


def _is_plain(value: object) -> bool:
    """Whether a text is UTF-8, and a whole number one that a float can be as large as."""
    if isinstance(value, str):
        return files.readable(value) == value
    return not isinstance(value, int) or abs(value) <= sys.float_info.max


def recomputed(record: Record) -> dict[str, dict]:
    """A record's numbers, computed anew from its table of scores; empty where it has none.

    Raises
    ------
    BadRecord
        The table is not the one that the record was computed from; the changed row is named.
    """
    if not record.data:
        return {}
    table = record.path.with_suffix(".csv")
    scores = scoretable.read(table, record.thresholds, record.ordinal)
    if _sha256(table) != record.data:
        raise scoretable.changed(table, "which rows there are, or their order,")
    return {key: _numbers(found) for key, found in compute(scores, record.against).items()}


# -- comparing --------------------------------------------------------------------------------


def inside(here: float | None, published: float, low: float | None, high: float | None) -> bool:
    """Whether a number lies in a published interval; where there is none, whether it is equal."""
    # A percentile interval may end a hair short of its estimate.
    return here == published or (None not in (here, low, high) and low <= here <= high)


def compare(ours: Mapping[str, Result], theirs: Mapping[str, Result]) -> pd.DataFrame:
    """Each of our results beside the published one of the same key.

    Returns
    -------
    DataFrame with the index ``key`` and the columns here, published, low, high, inside
        inside: our value lies in their interval; where they have none, equals theirs. Results
        that are not published are left out.
    """
    rows = {}
    for key in (key for key in ours if key in theirs):
        here, there = ours[key].value, theirs[key]
        numbers = (here, there.value, there.low, there.high)
        rows[key] = (*numbers, inside(*numbers))
    columns = ["here", "published", "low", "high", "inside"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("key")
