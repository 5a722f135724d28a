"""A table of scores on disk: a row an item, and with each row a check of it.

Whoever has the table can compute every result anew, to the digit; and a row that was changed
afterwards is named. The check shows that somebody changed something, not who. Taught in
chapter 03.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from seglib import files
from seglib.errors import SeglibError
from seglib.evaluation import Scores

FIXED = ("item", "label", "method", "group")  # columns that are no scores


class BadRecord(SeglibError):
    """A record or its table of scores was changed after it was written, or is none."""


def write(scores: Scores, path: Path) -> None:
    """A row an item: who, label, group, which probe, the scores of each view and seed, a check."""
    if "probe" in scores.views:
        raise BadRecord(f"{path}: a view is called 'probe', as is a column; expected another name.")
    items = np.arange(len(scores.labels)) if scores.items is None else scores.items
    methods = np.full(len(scores.labels), "") if scores.methods is None else scores.methods
    labels = np.asarray(scores.labels).astype(int)
    fixed = zip(FIXED, (items, labels, methods, scores.groups), strict=True)
    columns = {name: [str(value) for value in values] for name, values in fixed}
    rows = {"probe": [] if scores.probes is None else scores.probes, **scores.views}
    for name, values in rows.items():
        for seed, row in enumerate(np.atleast_2d(values)):
            columns |= {f"{name} {seed}": list(map(_cell, row))} if row.size else {}
    text = pd.DataFrame(columns)
    text["check"] = [check(*row) for row in text.itertuples(index=False)]
    with files.replacing(path) as part:
        text.to_csv(part, index=False, lineterminator="\n")


def _cell(value: object) -> str:
    """Five digits of a score, nothing for an abstention; a probe's number as it is."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.5g}"
    return str(value)


def read(path: Path, thresholds: Mapping, ordinal: bool = False) -> Scores:
    """What `write` wrote, with the thresholds and the kind of scores that a record keeps.

    Raises
    ------
    BadRecord
        The table cannot be read, or a row of it was changed; the row is named.
    """
    try:
        text = pd.read_csv(files.plain(path), dtype=str, keep_default_na=False, encoding="utf-8")
        if (*text.columns[: len(FIXED)], *text.columns[-1:]) != (*FIXED, "check"):
            raise ValueError(f"its columns are {list(text.columns)}")
        for number, row in enumerate(text.itertuples(index=False), 2):
            if check(*row[:-1]) != row[-1]:
                raise changed(path, f"line {number}, item {row[0]!r},")
        columns = dict(_columns(text))
        labels = text.label.astype(int).to_numpy()
    except (OSError, ValueError) as error:
        raise BadRecord(f"{path} is no table of scores ({error}); expected what results.save "
                        "writes. Restore it, or run `make results`.") from error  # fmt: skip
    probes = columns.pop("probe", None)
    return Scores(
        labels,
        text.group.to_numpy(),
        columns,
        None if probes is None else probes.astype(int),
        text.item.to_numpy(),
        text.method.to_numpy(),
        {view: np.array(values) for view, values in thresholds.items()},
        ordinal=ordinal,
    )


def _columns(text: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """Each view with its ``(S, N)`` scores; an empty cell is an abstention."""
    names = [name.rpartition(" ")[0] for name in text.columns[len(FIXED) : -1]]
    for name in dict.fromkeys(names):
        rows = [column for column in text.columns if column.rpartition(" ")[0] == name]
        yield name, text[rows].replace("", "nan").to_numpy(float).T


def check(*cells: object) -> str:
    """Eight hex digits that change with any of the cells."""
    text = json.dumps(cells, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return f"{zlib.crc32(text):08x}"


def changed(path: Path, what: str) -> BadRecord:
    """Build, not raise, the error for a file that is not as it was written."""
    return BadRecord(
        f"{path}: {what} was changed after it was written: its check sum is another. Expected "
        "what results.save wrote. Restore it (git checkout), or make it anew (`make results`)."
    )
