"""The table that names every video: one row each, with its label, its split and its people.

A manifest is a pandas DataFrame with the columns `COLUMNS`; a row is a video, a picture or a
folder of frames. It is keyed on ``video_uid``, never on a file's stem: the four methods of
FaceForensics++ share theirs. Adapters (`seglib.datasets`) make manifests, everything after
them reads nothing else. Videos that share a person are not independent: their ``group`` is the
unit that splits keep whole and that intervals resample. Taught in chapter 06.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from seglib import files
from seglib.errors import SeglibError, unknown_name
from seglib.media import MissingFile

DEFAULTS = {
    "video_uid": "",  # unique, and independent of where the data lies
    "path": "",  # of the video, the picture or the folder of frames
    "label": -1,  # 1 = fake, 0 = bona fide
    "dataset": "",
    "method": "",  # how it was forged; ORIGINAL where it was not
    "compression": "",  # "c23"; empty where the data set has only one
    "split": "",  # one of SPLITS
    "source": "",  # who lent the face: "ffpp/982"; empty where unknown or bona fide
    "target": "",  # whose video or scene it is: "ffpp/004"; empty where unknown
    "pair_id": "",  # uid of the bona fide video that a fake was made from
    "group": "",  # connected component of shared people, see `with_groups`
    "frames": 0,  # 0 = unknown
    "mask": "",  # of the forged region: a video or a folder; empty where there is none
}
COLUMNS = tuple(DEFAULTS)
SPLITS = ("train", "val", "test")
ORIGINAL = "original"  # the method of a bona fide video

# What says which video a row is; where it lies, its length and its mask are not part of that.
IDENTITY = tuple(name for name in COLUMNS if name not in ("path", "frames", "mask"))
NUMBERS = ("label", "frames")
DIGITS = 15  # of the longest number that is one: more may not even fit an integer
WHOLE = re.compile(rf"[0-9]{{1,{DIGITS}}}")
SHOWN = 3  # examples that a message gives


class BadManifest(SeglibError):
    """A manifest breaks the schema."""


class Leak(SeglibError):
    """People of one split are in another one too."""


# -- making -----------------------------------------------------------------------------------


def from_rows(rows: Iterable[Mapping[str, object]]) -> pd.DataFrame:
    """A grouped and valid manifest of rows that name only what is known of each video.

    Raises
    ------
    BadManifest, Leak
    """
    filled = [DEFAULTS | dict(row) for row in rows]
    for row in filled:
        if odd := [name for name in COLUMNS if files.readable(row[name]) != str(row[name])]:
            raise BadManifest(
                f"column {odd[0]}: found {row[odd[0]]!r}, expected text that UTF-8 can hold. "
                "Rename the file, or the folder that it lies in."
            )
    return validate(with_groups(pd.DataFrame(filled, columns=None if filled else COLUMNS)))


def with_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Fill ``group``: videos linked by a shared person or by ``pair_id``, however indirectly.

    A group is a connected component over the whole manifest, named after its first uid in
    alphabetical order, so that neither the order of rows nor the machine changes it. A video of
    which no person is known, and from which no fake was made, is a group by itself. Manifests
    that are joined with `pandas.concat` are to be grouped again: people are namespaced by data
    set, so only what is truly shared links them.
    """
    people = [("person", table[column]) for column in ("source", "target")]
    videos = [("video", table[column]) for column in ("video_uid", "pair_id")]
    rows, keys = [], []
    for kind, values in people + videos:
        known = np.flatnonzero(values.to_numpy(dtype=str) != "")
        rows.append(known)
        keys += [f"{kind} {value}" for value in values.iloc[known]]
    codes, names = pd.factorize(np.array(keys, dtype=object))
    ends = (np.concatenate(rows), len(table) + codes)
    nodes = len(table) + len(names)
    links = coo_array((np.ones(len(codes), bool), ends), shape=(nodes, nodes))
    components = connected_components(links, directed=False)[1][: len(table)]
    uids = table["video_uid"]
    return table.assign(group=uids.groupby(components).transform("min"))


# -- checking ---------------------------------------------------------------------------------


def validate(table: pd.DataFrame) -> pd.DataFrame:
    """Check a manifest against the schema; return it with its columns in order and typed.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`; ``label`` and ``frames`` int64, all others str; index 0 ... n - 1.

    Raises
    ------
    BadManifest
        A column is missing or unknown, a uid or a path is empty or there twice, a label is not
        0 or 1, a split is not one of `SPLITS`, a group is empty, a number of frames is none.
    Leak
        A group is in more than one split.
    """
    _check_columns(table)
    table = table[list(COLUMNS)].reset_index(drop=True)
    _check(table, "label", ~table["label"].isin([0, 1]), "0 (bona fide) or 1 (fake)")
    frames = pd.to_numeric(table["frames"], errors="coerce")
    whole = frames.between(0, 10**DIGITS) & frames.mod(1).eq(0)
    _check(table, "frames", ~whole, "a whole number, 0 where it is unknown")
    _check(table, "split", ~table["split"].isin(SPLITS), " or ".join(SPLITS))
    for column in set(COLUMNS) - set(NUMBERS):
        text = table[column].map(lambda value: isinstance(value, str))
        _check(table, column, ~text, "text, empty where it is unknown")
    for column in ("video_uid", "path", "group"):
        hint = "; fill it with with_groups" if column == "group" else ""
        _check(table, column, table[column] == "", f"one for every row{hint}")
    for column in ("video_uid", "path"):
        _check(table, column, table[column].duplicated(), "each of them once")
    _check_leak(table)
    return table.astype(dict.fromkeys(COLUMNS, "str") | dict.fromkeys(NUMBERS, "int64"))


def _check_columns(table: pd.DataFrame) -> None:
    for name in table.columns:
        if name not in COLUMNS:
            raise BadManifest(str(unknown_name("column of a manifest", name, COLUMNS)))
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise BadManifest(
            f"the manifest has no column {', '.join(missing)}; expected all of "
            f"{', '.join(COLUMNS)}. A table of your own is read by the adapter 'table'."
        )


def _check(table: pd.DataFrame, column: str, wrong: pd.Series, expected: str) -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        first = table.iloc[rows[0]]
        others = f", and {len(rows) - 1} more rows," if len(rows) > 1 else ""
        raise BadManifest(
            f"column {column}, row {rows[0] + 1} (uid {first['video_uid']!r}){others}: found "
            f"{first[column]!r}, expected {expected}."
        )


def _check_leak(table: pd.DataFrame) -> None:
    splits = table.groupby("group")["split"].nunique()
    leaking = list(splits.index[splits > 1])
    if not leaking:
        return
    held = table[table["group"].isin(leaking)]
    people = held.melt("split", ["source", "target"], value_name="person").query("person != ''")
    of_person = people.groupby("person")["split"].nunique()
    shared = list(of_person.index[of_person > 1])
    of_whom = f"shared people: {_some(shared)}" if shared else "linked by pairs, by no one person"
    videos = ", ".join(f"{n} in {split}" for split, n in held["split"].value_counts().items())
    raise Leak(
        f"{len(leaking)} of {len(splits)} groups are in more than one split ({_some(leaking)}; "
        f"videos: {videos}; {of_whom}). Expected people whom no other split has seen: use the "
        f"official splits, or give all videos of a group the same split."
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# -- reading and writing ----------------------------------------------------------------------


def read(path: str | os.PathLike) -> pd.DataFrame:
    """Read the CSV file of a manifest; its paths become absolute.

    Everything but the numbers is read as text: an identity "004" stays what it is. UTF-8, with
    or without a byte order mark, and any line ends.

    Raises
    ------
    seglib.media.MissingFile
    BadManifest, Leak
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise MissingFile(
            f"{path} does not exist or is no file, expected a manifest. Make one by "
            "`seglib manifest`."
        )
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise BadManifest(
            f"{path} is not a CSV table in UTF-8 ({str(error).strip()}); expected the columns "
            f"{', '.join(COLUMNS)}. Make it again."
        ) from error
    folder = path.absolute().parent
    for column in table.columns.intersection(["path", "mask"]):
        table[column] = [os.path.normpath(folder / cell) if cell else "" for cell in table[column]]
    for column in table.columns.intersection(NUMBERS):
        table[column] = [int(cell) if WHOLE.fullmatch(cell) else cell for cell in table[column]]
    try:
        return validate(table)
    except (BadManifest, Leak) as error:
        raise type(error)(f"{path}: {error}") from error


def write(table: pd.DataFrame, path: str | os.PathLike) -> None:
    """Write a manifest as CSV, whole or not at all, with paths relative to the file's folder.

    So a folder that holds data and manifest can be moved, and read on another system.

    Raises
    ------
    BadManifest, Leak
        Nothing is written then.
    """
    path, table = Path(path), validate(table)
    for column in ("path", "mask"):
        table[column] = [_relative(cell, path.parent) if cell else "" for cell in table[column]]
    with files.replacing(path) as part:
        table.to_csv(part, index=False, encoding="utf-8", lineterminator="\n")


def _relative(path: str, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on Windows there is no way from one drive to another
        return Path(path).as_posix()


# -- summing up -------------------------------------------------------------------------------


def digest(table: pd.DataFrame) -> str:
    """Twelve hex digits of which videos these are, with what labels, splits, people and groups.

    Neither the order of the rows nor the place of the data changes it, nor do masks and numbers
    of frames, which are found out later.
    """
    rows = table[list(IDENTITY)].sort_values("video_uid")
    text = rows.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def counts(table: pd.DataFrame) -> pd.DataFrame:
    """Videos and groups of each data set, split, method and label: what a run is made of.

    Returns
    -------
    DataFrame
        Columns dataset, split, method, label, videos, groups; splits in the order of `SPLITS`.
    """
    by = ["dataset", "split", "method", "label"]
    ordered = table.assign(split=pd.Categorical(table["split"], SPLITS, ordered=True))
    grouped = ordered.groupby(by, observed=True)
    found = grouped.agg(videos=("video_uid", "size"), groups=("group", "nunique")).reset_index()
    return found.astype({"split": "str"})
