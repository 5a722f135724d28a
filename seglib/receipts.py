"""Replication receipts: what came out on somebody else's machine, beside what is published.

The last cell of a chapter compares the numbers that the chapter has just made with the published
intervals and leaves a small JSON file. Put under ``results/replications/`` the receipts show how
far a number moves from machine to machine, failures included. A receipt is signed by its own
hash: that shows that it was edited later, not who wrote it. Taught in every chapter's last cell.
"""

from __future__ import annotations

import dataclasses
import html
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from seglib import __version__, files, results
from seglib.errors import SeglibError, unknown_name
from seglib.recipe import Recipe
from seglib.results import Record

REPLICATIONS = "replications"  # the folder of receipts, beside those of the modes
LIBRARIES = (
    "torch", "numpy", "scipy", "scikit-learn", "transformers", "opencv-python", "ai-edge-litert",
)  # fmt: skip
ABSENT = "not installed"
SPREAD = ["receipts", "min", "median", "max", "published", "low", "high", "inside"]


class NothingSaved(SeglibError):
    """A chapter saved no record in this run, so that there is nothing to compare."""


class BadReceipt(SeglibError):
    """A receipt was edited after it was written, or is none."""


@dataclass(frozen=True)
class Row:
    """One number of a run, the published one and its interval, see `results.compare`."""

    key: str
    here: float | None
    published: float | None
    low: float | None
    high: float | None
    inside: bool

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.here)} here, published {self.expected}"

    @property
    def expected(self) -> str:
        """The published number with its interval, or with the remark that it has none."""
        if self.low is None or self.high is None or self.low >= self.high:
            return f"{_shown(self.published)}, no interval: must be equal"
        return f"{_shown(self.published)} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Receipt:
    """What one run of one chapter gave.

    published has for each record that the run was compared with the `publication` it had;
    versions those of Python and `LIBRARIES`; platform the system, the machine, the number of
    processors and the device, and nothing that names a person. seconds is what training and
    scoring took. missing has a reason for each published number that this run did not make.
    path is where it was read from, or written to.
    """

    chapter: str
    mode: str
    recipe: str
    code: str
    published: dict
    versions: dict
    platform: dict
    date: str
    seconds: float
    rows: tuple[Row, ...]
    missing: dict
    path: Path = Path()

    def __str__(self) -> str:
        """How many numbers lie inside their published intervals, in a sentence."""
        head = f"Chapter {self.chapter}, mode {self.mode}, recipe {self.recipe}"
        if not self.published:
            return f"{head}: nothing is published to compare with."
        sentence = f"{head}: {self.inside} of {len(self.rows)} inside their published intervals"
        if self.missing:
            sentence += f"; published but not made in this run: {len(self.missing)}"
        return f"{sentence}."

    @property
    def inside(self) -> int:
        """How many of the rows lie inside their published intervals."""
        return sum(row.inside for row in self.rows)

    @property
    def payload(self) -> dict:
        """The receipt as JSON has it, its digest included."""
        found = {name: value for name, value in vars(self).items() if name != "path"}
        found["rows"] = [dataclasses.asdict(row) for row in self.rows]
        return found | {"digest": results.digest(found)}

    @property
    def name(self) -> str:
        """Of its file, which no other receipt has: ``"04-1a2b3c4d.json"``."""
        return f"{self.chapter}-{self.payload['digest'][:8]}.json"

    def table(self) -> pd.DataFrame:
        """A row a number, failures first: what, here, published, inside."""
        rows = [(key, "-", reason, "missing") for key, reason in self.missing.items()]
        rows += [
            (row.key, _shown(row.here), row.expected, "yes" if row.inside else "no")
            for row in sorted(self.rows, key=lambda row: row.inside)
        ]
        return pd.DataFrame(rows, columns=["what", "here", "published", "inside"])

    def _repr_html_(self) -> str:
        table = self.table().to_html(index=False, border=0) if self.published else ""
        kept = f" Receipt: {REPLICATIONS}/{self.name}, beside this run's results."
        return (
            f"<p>{html.escape(f'{self}{kept}' if self.path.name else f'{self}')}</p>"
            '<div style="max-height:24em;overflow:auto" tabindex="0" role="region" '
            f'aria-label="Numbers here and as published">{table}</div>'
        )


# -- writing ----------------------------------------------------------------------------------


def write(chapter: str, recipe: Recipe, folder: Path | None = None) -> Receipt:
    """Compare what a chapter made in this run with what is published, and keep the receipt.

    A number outside its interval is a finding and no error. Where the run itself writes the
    published results nothing is kept: it would be compared with itself.

    Parameters
    ----------
    chapter : str
        Its number, ``"04"``, as the chapter's records carry it.
    recipe : Recipe
        What this run was made by. Only records of this recipe are compared.
    folder : path-like, optional
        Of this run's results (default: `results.run_folder`). The receipt goes to its subfolder
        ``replications``.

    Raises
    ------
    NothingSaved, seglib.results.BadRecord
    """
    folder = results.run_folder() if folder is None else Path(folder)
    ours = _records(chapter, recipe, folder)
    if not ours:
        raise NothingSaved(
            f"{folder / recipe.mode} has no record of chapter {chapter} with the recipe "
            f"{recipe.key}; expected at least one. Run the chapter from its first cell."
        )
    receipt = compared(ours, _records(chapter, recipe, results.FOLDER))
    if folder.resolve() == results.FOLDER.resolve():
        return receipt
    path = folder / REPLICATIONS / receipt.name
    with files.replacing(path) as part:
        text = json.dumps(receipt.payload, indent=1, ensure_ascii=False)
        part.write_text(text + "\n", encoding="utf-8")
    return dataclasses.replace(receipt, path=path)


def compared(ours: list[Record], theirs: list[Record]) -> Receipt:
    """The receipt of one chapter's records beside the published ones of the same recipe."""
    here = {key: value for record in ours for key, value in record.quoted().items()}
    there = {key: value for record in theirs for key, value in record.quoted().items()}
    table = results.compare(here, there)
    rows = table.astype(object).where(table.notna(), None).reset_index().to_dict("records")
    saved = {record.name for record in ours}
    first = ours[0]
    return Receipt(
        chapter=first.chapter,
        mode=first.mode,
        recipe=first.recipe,
        code=__version__,
        published={record.name: publication(record) for record in theirs},
        versions=versions(),
        platform=machine() | {"device": ", ".join(sorted({record.device for record in ours}))},
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        seconds=round(sum(record.seconds for record in ours), 1),
        rows=tuple(Row(**row) for row in rows),
        missing={key: _reason(there[key].record, saved) for key in there if key not in here},
    )


def publication(record: Record) -> str:
    """The digest of a record's numbers. Made anew with the same numbers, it stays the same."""
    return results.digest(record.results)


def _records(chapter: str, recipe: Recipe, folder: Path) -> list[Record]:
    made_by = (chapter, recipe.mode, recipe.key)
    found = results.records(folder)
    return [one for one in found if (one.chapter, one.mode, one.recipe) == made_by]


def _reason(record: str, saved: set[str]) -> str:
    if record not in saved:
        return f"the record {record} was not saved in this run"
    return f"the record {record} of this run has no such number"


def machine() -> dict[str, str | int]:
    """What kind of machine this is, and not which: system, machine, number of processors."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count() or 1,
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that compute."""
    return {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # a variant of it, opencv's for instance
        return ABSENT


def _shown(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


# -- reading ----------------------------------------------------------------------------------

NUMBER = (int, float)
SIGNED = {
    "chapter": str, "mode": str, "recipe": str, "code": str, "published": dict, "versions": dict,
    "platform": dict, "date": str, "seconds": NUMBER, "rows": list, "missing": dict, "digest": str,
}  # fmt: skip
PLATFORM = {"system": str, "machine": str, "processors": int, "device": str}
ROW = dict.fromkeys(("here", "published", "low", "high"), (*NUMBER, type(None)))
ROW = {"key": str, **ROW, "inside": bool}


def read(folder: Path | None = None) -> list[Receipt]:
    """The receipts of a folder (default: those handed in to the project), by name.

    Raises
    ------
    BadReceipt
        At the first one that is damaged.
    """
    return [load(path) for path in paths(folder)]


def paths(folder: Path | None = None) -> list[Path]:
    """The files that `read` reads."""
    folder = results.FOLDER / REPLICATIONS if folder is None else Path(folder)
    return sorted(folder.glob("*.json"))


def load(path: Path) -> Receipt:
    """One receipt, as it was written.

    Raises
    ------
    BadReceipt
        Naming the file, what was found and what was expected.
    """
    try:
        found = json.loads(files.plain(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(path, f"no JSON ({error})", "the file that a chapter wrote") from error
    _check(path, "a receipt", found, SIGNED)
    digest = results.digest(found)
    if found["digest"] != digest:
        raise _bad(path, f"a text that hashes to {digest}", f"its digest {found['digest']}")
    _check(path, "platform", found["platform"], PLATFORM)
    for number, row in enumerate(found["rows"], 1):
        _check(path, f"row {number}", row, ROW)
    for name in ("published", "versions", "missing"):
        _check(path, name, found[name], dict.fromkeys(found[name], str))
    if strange := {record_of(row["key"]) for row in found["rows"]} - found["published"].keys():
        raise _bad(path, f"rows of {min(strange)}", f"rows of {', '.join(found['published'])}")
    fields = {name: value for name, value in found.items() if name != "digest"}
    rows = tuple(Row(**row) for row in found["rows"])
    receipt = Receipt(**fields | {"rows": rows}, path=path)
    if path.name != receipt.name:
        raise _bad(path, f"the file name {path.name}", receipt.name)
    return receipt


def _check(path: Path, where: str, found: object, expected: dict) -> None:
    """Whether a JSON object has the fields that it should have, each of its type."""
    if not isinstance(found, dict):
        raise _bad(path, f"{found!r:.40} as {where}", "a JSON object")
    for name in found.keys() - expected.keys():
        raise _bad(path, f"in {where} an {unknown_name('field', name, expected)}", "only these")
    for name, kind in expected.items():
        if name not in found:
            raise _bad(path, f"{where} without the field {name}", ", ".join(expected))
        kinds = kind if isinstance(kind, tuple) else (kind,)
        large = isinstance(found[name], int) and abs(found[name]) > sys.float_info.max
        if type(found[name]) not in kinds or large:  # a bool passes for an int with isinstance
            names = " or ".join(one.__name__ for one in kinds)
            raise _bad(path, f"{name} = {found[name]!r:.40} in {where}", names)


def _bad(path: Path, found: str, expected: str) -> BadReceipt:
    return BadReceipt(
        f"{path}: found {found}; expected {expected}. Hand it in as the chapter wrote it, or "
        "remove it."
    )


def record_of(key: str) -> str:
    """The record that a key belongs to."""
    return key.partition(".")[0]


# -- several of them --------------------------------------------------------------------------


def spread(receipts: Iterable[Receipt], published: Iterable[Record]) -> pd.DataFrame:
    """How far each number moves from machine to machine.

    Parameters
    ----------
    receipts : iterable of Receipt
    published : iterable of Record
        The present publication, see `results.records`.

    Returns
    -------
    DataFrame with the index ``publication``, ``key`` and the columns of `SPREAD`
        publication is ``"present"``, or eight digits of the earlier one that receipts were
        compared with; inside how many lie in the published interval.
    """
    present = {record.name: publication(record) for record in published}
    rows = []
    for receipt in receipts:
        for row in receipt.rows:
            name = record_of(row.key)
            then = receipt.published[name]
            rows.append(vars(row) | {"publication": "present" if present.get(name) == then
                                     else then[:8]})  # fmt: skip
    columns = ["publication", *(field.name for field in dataclasses.fields(Row))]
    grouped = pd.DataFrame(rows, columns=columns).groupby(["publication", "key"], sort=False)
    found = grouped.here.agg(["size", "min", "median", "max"]).rename(columns={"size": "receipts"})
    found = found.join(grouped[["published", "low", "high"]].first())
    return found.assign(inside=grouped.inside.sum())[SPREAD]
