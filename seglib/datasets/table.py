"""Any CSV table of pictures and videos with a path and a label in each row.

The commonest names of columns are understood, a comma, semicolon or tab between them, and
labels written as real/fake, bona fide/fake or 0/1 with **1 = fake**. What else a row says of its
video (`OPTIONAL`) goes into the manifest; other columns are left alone. Taught in chapter 06.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from seglib.datasets.adapter import (
    Adapter,
    BadIndex,
    Disk,
    Found,
    IndexMissing,
    as_label,
    as_split,
    gather,
    listed,
    person,
    posix,
    problem,
    read_text,
)
from seglib.errors import unknown_name
from seglib.manifest import COLUMNS, ORIGINAL, SPLITS
from seglib.media import SUFFIXES

NAME = "table"
PATH = ("path", "file", "filename", "video", "image")
LABEL = ("label", "class", "target")  # beside another one, a target is a person
OPTIONAL = (
    "video_uid",
    "dataset",
    "method",
    "compression",
    "split",
    "source",
    "target",
    "pair_id",
    "group",
    "mask",
)
FORGED = "fake"  # the method of a fake whose row names none


def recognises(root: Path) -> bool:
    """A CSV file, or a folder with just one whose header has a path and a label."""
    return len(_candidates(root) if root.is_file() else _tables(root)) == 1


def scan(root: Path, split: str = "test", dataset: str = NAME) -> Found:
    """Read one table; its paths are relative to its own folder.

    Rows that share a ``group`` are linked as rows that share a person are; a ``target`` in the
    row is used instead. A ``pair_id`` is a ``video_uid`` of the table or, where it has none, a
    path.

    Parameters
    ----------
    root : Path
        The CSV file, or the folder that holds just one.
    split : str
        Of rows that name none.
    dataset : str
        Of rows that name none. It namespaces their people, and their uids where these are made
        from paths.

    Raises
    ------
    seglib.errors.UnknownName
        The split, or a column, is almost a known one.
    IndexMissing, BadIndex
        There is no table, there are several, or one lacks a column.
    seglib.manifest.BadManifest, seglib.manifest.Leak
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    file = _the_table(root)
    header, *lines = _lines(file)
    columns = _columns(file, header)
    problems: list[dict[str, str]] = []
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = {name: line[place].strip() for name, place in columns.items() if place < len(line)}
        if row := _row(cells, split, dataset):
            rows.append(row)
        else:
            detail = f"row {number} is {line!r}, expected a path, a class, a split or none"
            problems.append(problem("unreadable index line", file, detail))
    return gather(Disk(file.parent), rows, problems)


def _candidates(root: Path) -> list[Path]:
    files = [root] if root.is_file() else listed(root)
    return [file for file in files if file.suffix.lower() in (".csv", ".tsv") and file.is_file()]


def _tables(root: Path) -> list[Path]:
    """The CSV files that could be meant: a manifest beside the data is none of them."""
    headers = {file: _header(file) for file in _candidates(root)}
    return [
        file
        for file, header in headers.items()
        if {"path", "label"} <= _roles(header).keys() and tuple(header) != COLUMNS
    ]


def _the_table(root: Path) -> Path:
    files = _candidates(root)
    chosen = files if len(files) == 1 else _tables(root)
    if len(chosen) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise IndexMissing(
            f"{root} is to be read as a table, but {len(chosen)} of its CSV files ({names}) have "
            f"columns of a path and a label, expected one. Give the file itself."
        )
    return Path(chosen[0]).absolute()


def _header(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="replace") as text:
        return next(iter(_split(file, text.readline())), [])


def _lines(file: Path) -> list[list[str]]:
    lines = [line for line in _split(file, read_text(file)) if any(line)]
    if not lines:
        raise BadIndex(f"{file} is empty, expected a header and rows. Save it again.")
    return lines


def _split(file: Path, text: str) -> list[list[str]]:
    """The cells of each line; the delimiter is the one that the first line has most of."""
    delimiter = max(",;\t", key=text.split("\n", 1)[0].count)
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise BadIndex(f"{file} is no table ({error}). Save it again as CSV.") from error


def _roles(header: Sequence[str]) -> dict[str, int]:
    """Which column is the path, which the label, and which are known beside them."""
    names = [name.strip().lower() for name in header]
    path = [name for name in PATH if name in names][:1]
    label = [name for name in LABEL if name in names][:1]
    roles = {"path": names.index(*path)} if path else {}
    roles |= {"label": names.index(*label)} if label else {}
    return roles | {n: names.index(n) for n in OPTIONAL if n in names and n not in label}


def _columns(file: Path, header: Sequence[str]) -> dict[str, int]:
    """The roles of a table that has the two it needs, and nothing that is almost another one."""
    roles = _roles(header)
    absent = [name for name in ("path", "label", *OPTIONAL) if name not in roles]
    absent += PATH if "path" in absent else ()
    for place, name in enumerate(header):
        near = difflib.get_close_matches(name.strip().lower(), absent, n=1, cutoff=0.8)
        if near and place not in roles.values():
            raise unknown_name(f"column in {file.name}", name, absent)
    for name, synonyms in {"path": PATH, "label": LABEL}.items():
        if name not in roles:
            raise BadIndex(
                f"{file} has no column of a {name}: found {', '.join(header)}; expected one "
                f"called {' or '.join(synonyms)}. Rename it."
            )
    return roles


def _row(cells: Mapping[str, str], split: str, dataset: str) -> dict[str, object] | None:
    """A row of the manifest, or None for one without a path, a label or a known split."""
    path, label = posix(cells.get("path", "")), as_label(cells.get("label"))
    split = as_split(cells.get("split") or split)
    if not path or label is None or split is None:
        return None
    dataset = cells.get("dataset") or dataset
    pair = cells.get("pair_id", "")
    return {
        "video_uid": cells.get("video_uid") or person(dataset, path),
        "path": path,
        "label": label,
        "dataset": dataset,
        "method": cells.get("method") or (FORGED if label else ORIGINAL),
        "compression": cells.get("compression", ""),
        "split": split,
        "source": person(dataset, cells.get("source", "")),
        "target": person(dataset, cells.get("target") or cells.get("group", "")),
        "pair_id": pair if cells.get("video_uid") else person(dataset, posix(pair)),
        "mask": cells.get("mask", ""),
        "frames": int(Path(path).suffix.lower() in SUFFIXES),
    }


ADAPTER = Adapter(
    name=NAME,
    title="a table of your own",
    page="",
    where="<name>.csv with a path and a label (real or fake) in each row",
    recognises=recognises,
    scan=scan,
)
