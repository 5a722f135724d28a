"""What all adapters share: how an index is held against the disk, and what comes of it.

An adapter knows one data set: its folders, its index files, the names of its videos. It says of
each video where it should lie; whether it lies there is found out here, once for all of them, in
the same words. Names are compared as a reader would compare them: "ä" as one character or as
two (macOS stores the latter), forward or backward slashes, ".mp4" or ".MP4". Hidden files and
what macOS leaves in archives are passed over. Taught in chapter 06.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pandas as pd

from seglib import files, manifest
from seglib.errors import SeglibError
from seglib.media import SUFFIXES, VIDEO_SUFFIXES

MEDIA = VIDEO_SUFFIXES + SUFFIXES
JUNK = "__MACOSX"
HEAD = 4096  # characters of an index file that tell whose it is
SHOWN = 3  # examples that a problem's detail gives

# What people call the two classes, compared in lower case without spaces, "-" and "_".
BONA_FIDE = ("real", "bonafide", "original", "genuine", "authentic", "pristine", "0")
FAKE = ("fake", "deepfake", "forged", "forgery", "manipulated", "synthetic", "synthesis", "1")

# What people call the splits.
SPLIT_NAMES = {name: name for name in manifest.SPLITS} | {"validation": "val", "valid": "val"}


class IndexMissing(SeglibError):
    """A data set's index file, or the folder that stands for one, is not there."""


class BadIndex(SeglibError):
    """An index file is there but cannot be read as one."""


class LabelContradiction(SeglibError):
    """An index says of one video real and fake, or real where the folder says fake."""


class CompressionMissing(SeglibError):
    """The data set is there, but not in the compression asked for."""


class People(NamedTuple):
    """Whom a video shows, as far as its name tells: parts of the name, empty where unknown."""

    target: str = ""  # whose video or scene it is
    source: str = ""  # whose face was put in
    original: str = ""  # stem of the bona fide video that it was made from


@dataclass(frozen=True)
class Found:
    """What lies there of a data set, and what does not.

    table: manifest of what exists. problems: columns kind ("missing", "extra", "unreadable index
    line", ...), path, detail. expected: the full official set beside what was found, columns
    split, method, expected, found, difference; no rows where there is no official number.
    """

    table: pd.DataFrame
    problems: pd.DataFrame
    expected: pd.DataFrame


@dataclass(frozen=True)
class Adapter:
    """How one data set is recognised and read."""

    name: str  # what the command line calls it
    title: str
    page: str  # licence and request form
    where: str  # the folder layout, in a line
    recognises: Callable[[Path], bool]  # a folder (or file), by its layout
    scan: Callable[..., Found]  # of a folder and the data set's own options
    expected: Mapping[tuple[str, str], int] = field(default_factory=dict)
    # (split, method) -> videos of the full official set


class Disk:
    """What lies under a root, found by the names that an index writes; a folder is read once."""

    def __init__(self, root: str | os.PathLike) -> None:
        self.root = Path(os.path.abspath(root))
        self._read: dict[Path, dict[str, Path]] = {}

    def find(self, name: str) -> Path | None:
        """The file or folder of that name; None where there is none, or no name.

        Names are relative to the root. One that leads out of it is taken as it is written.
        """
        parts = PurePosixPath(posix(name)).parts
        if os.path.isabs(name) or ".." in parts:
            path = Path(os.path.normpath(self.root / posix(name)))
            return path if os.path.exists(path) else None  # False also for a name that none can be
        path = self.root if name else None
        for part in parts:
            path = self.entries(path).get(plain(part))
            if path is None:
                return None
        return path

    def entries(self, folder: Path) -> dict[str, Path]:
        """What a folder holds, by `plain` name, sorted; nothing where it is none or is closed."""
        if folder not in self._read:
            self._read[folder] = {plain(path.name): path for path in listed(folder)}
        return self._read[folder]

    def media(self, folder: str, suffixes: Iterable[str] = MEDIA) -> dict[str, Path]:
        """The pictures and videos directly in a folder, by `plain` name."""
        place = self.find(folder)
        entries = self.entries(place) if place else {}
        return {name: path for name, path in entries.items() if path.suffix.lower() in suffixes}


def listed(folder: Path) -> list[Path]:
    """What a reader sees in a folder: nothing hidden, no broken links; empty if it is closed."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []  # such as a disk's lost+found, beside the data
    shown = [folder / name for name in names if not name.startswith(".") and name != JUNK]
    return [path for path in shown if path.exists()]


def posix(name: str) -> str:
    """A relative path as Windows or anyone else writes it, with forward slashes."""
    return name.strip().replace("\\", "/")


def plain(name: str) -> str:
    """A file name in the one form in which names are compared: composed, suffix in lower case."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))
    return stem + suffix.lower()


def as_label(text: object) -> int | None:
    """1 for a name of the fake class, 0 for one of the bona fide; None for anything else."""
    name = re.sub(r"[\s_-]", "", str(text).lower())
    forms = (name, name.removesuffix("s"))
    if any(form in FAKE for form in forms):
        return 1
    return 0 if any(form in BONA_FIDE for form in forms) else None


def as_split(text: object) -> str | None:
    """One of `manifest.SPLITS` for a name of it, None for anything else."""
    return SPLIT_NAMES.get(str(text).strip().lower())


def person(dataset: str, name: str) -> str:
    """An identity under its data set's name, so that two sets' "004" stay two people."""
    namespaced = not name or name.startswith(f"{dataset}/")
    return name if namespaced else f"{dataset}/{name}"


def problem(kind: str, path: object, detail: str) -> dict[str, str]:
    """One row of `Found.problems`."""
    return {"kind": kind, "path": files.readable(path), "detail": files.readable(detail)}


# -- index files ------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """An index file's text: UTF-8, with or without a byte order mark, any line ends.

    Raises
    ------
    BadIndex
    """
    if not path.is_file():  # a pipe would be waited for
        raise BadIndex(f"{path} is no file, expected text in UTF-8. Copy it there again.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        found = f"{path} cannot be read: {error.strerror}. Check the file and its folder."
        raise BadIndex(found) from error
    except UnicodeDecodeError as error:
        raise BadIndex(
            f"{path} is not text in UTF-8 ({error}). Save it as UTF-8, or download it again."
        ) from error


def read_json(path: Path, kind: type) -> Any:
    """An index file's JSON, whose outermost value must be of that kind: `dict` or `list`.

    Raises
    ------
    BadIndex
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BadIndex(f"{path} is not JSON ({error}). Download it again.") from error
    if not isinstance(value, kind):
        raise BadIndex(
            f"{path} holds a JSON {type(value).__name__}, expected a {kind.__name__}. Is it "
            f"another file of that name?"
        )
    return value


def starts_with(path: Path, pattern: re.Pattern[str]) -> bool:
    """Whether a file's first `HEAD` characters match: index files may be hundreds of megabytes."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return pattern.match(file.read(HEAD)) is not None


# -- FaceForensics++'s folders, which DFD shares ----------------------------------------------


def compressions(disk: Disk, homes: Iterable[str]) -> set[str]:
    """The folders ``<home>/<compression>/videos`` that are there; crops lie in ``frames``."""
    found = set()
    for home in homes:
        place = disk.find(home)
        names = disk.entries(place).keys() - {"masks"} if place else ()  # masks lie beside them
        found |= {name for name in names if disk.find(f"{home}/{name}/videos")}
    return found


def check_compression(disk: Disk, homes: Iterable[str], compression: str) -> None:
    """See that videos of that compression are there.

    Raises
    ------
    CompressionMissing
    """
    found = compressions(disk, homes)
    if compression not in found:
        there = ", ".join(sorted(found)) or "none"
        raise CompressionMissing(
            f"{disk.root} holds no videos of compression {compression!r}; there are: {there}. "
            f"Choose one of them, or download {compression} with the data set's own script."
        )


# -- index against disk -----------------------------------------------------------------------


def gather(
    disk: Disk,
    rows: Iterable[dict[str, object]],
    problems: Iterable[dict[str, str]] = (),
    expected: Mapping[tuple[str, str], int] | None = None,
) -> Found:
    """Hold the rows of an index against the disk.

    Parameters
    ----------
    disk : Disk
    rows : iterable of dict
        Columns of a manifest; ``path`` and ``mask`` as the index has them, relative to the disk's
        root. A mask that is not there is left out.
    problems : iterable of dict
        What the adapter met before, see `problem`.
    expected : mapping
        (split, method) -> videos of the full official set.

    Raises
    ------
    LabelContradiction
        The index lists a video as real and as fake.
    seglib.manifest.Leak
        It lists one in two splits, or people in two splits.
    seglib.manifest.BadManifest
    """
    problems = list(problems)
    rows = list(_in_utf8(_once(rows, problems), problems))
    places = {row["path"]: disk.find(row["path"]) for row in rows}
    present = [
        row | {"path": str(places[row["path"]]), "mask": str(disk.find(row.get("mask", "")) or "")}
        for row in rows
        if places[row["path"]]
    ]
    problems += _missing(places)
    problems += _extra(disk, places)
    table = manifest.from_rows(present)
    columns = ["kind", "path", "detail"]
    return Found(table, pd.DataFrame(problems, columns=columns), _compared(expected or {}, table))


def _once(rows: Iterable[dict[str, object]], problems: list[dict[str, str]]) -> list[dict]:
    """The rows without repetitions, which become problems, unless they contradict each other."""
    kept: dict[object, dict[str, object]] = {}
    for row in rows:
        first = kept.setdefault((row["video_uid"], row["path"]), row)
        if first["label"] != row["label"]:
            raise LabelContradiction(
                f"the index lists {row['path']} as real and as fake, expected one label for a "
                f"video. Correct it, or get the index again."
            )
        if first["split"] != row["split"]:
            raise manifest.Leak(
                f"the index lists {row['path']} in {first['split']} and in {row['split']}, "
                f"expected one split for a video. Correct it, or get the index again."
            )
        if first is not row:
            problems.append(problem("listed twice", row["path"], "read once"))
    return list(kept.values())


def _in_utf8(rows: Iterable[dict], problems: list[dict[str, str]]) -> Iterator[dict]:
    """The rows that a manifest can hold; a file whose name is no UTF-8 becomes a problem."""
    for row in rows:
        if all(files.readable(value) == str(value) for value in row.values()):
            yield row
        else:
            problems.append(problem("name not in UTF-8", row["path"], "left out; rename it"))


def _missing(places: Mapping[str, Path | None]) -> Iterator[dict[str, str]]:
    """A problem a file, or one a folder of which nothing is there."""
    for folder, names in _by_folder(places).items():
        absent = [name for name in names if places[name] is None]
        if len(absent) == len(names) > 1:
            detail = f"none of its {len(names)} videos is there, for instance {names[0]}"
            yield problem("missing", folder, detail)
        else:
            yield from (problem("missing", name, "listed, but not there") for name in absent)


def _extra(disk: Disk, places: Mapping[str, Path | None]) -> Iterator[dict[str, str]]:
    """A problem a folder which holds more than the index names."""
    taken = set(places.values())
    for folder in _by_folder(places):
        names = [path.name for path in disk.media(folder).values() if path not in taken]
        if names:
            detail = f"{len(names)} not in the index, left out: {', '.join(names[:SHOWN])}"
            yield problem("extra", folder, detail + (", ..." if len(names) > SHOWN else ""))


def _by_folder(names: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(PurePosixPath(posix(name)).parent), []).append(name)
    return folders


def _compared(expected: Mapping[tuple[str, str], int], table: pd.DataFrame) -> pd.DataFrame:
    found = Counter(zip(table["split"], table["method"], strict=True))
    rows = [
        (split, method, number, found[split, method], found[split, method] - number)
        for (split, method), number in expected.items()
    ]
    return pd.DataFrame(rows, columns=["split", "method", "expected", "found", "difference"])
