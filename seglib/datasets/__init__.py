"""Data sets as they come from their makers -> manifests.

One module a data set, each an `Adapter`; `find` says which of them lie in a folder, `scan` reads
one. What is missing, extra or unreadable is a row of `Found.problems`, never the end of a scan.
Taught in chapter 06.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seglib.datasets import celebdf, deepfakebench, dfd, dfdc, ffpp, folder, table
from seglib.datasets.adapter import (
    Adapter,
    BadIndex,
    CompressionMissing,
    Found,
    IndexMissing,
    LabelContradiction,
    listed,
)
from seglib.errors import SeglibError, unknown_name
from seglib.manifest import ORIGINAL
from seglib.media import MissingFile

__all__ = [
    "ADAPTERS",
    "Adapter",
    "BadIndex",
    "CompressionMissing",
    "Found",
    "IndexMissing",
    "LabelContradiction",
    "MissingClass",
    "NothingRecognised",
    "SeveralRecognised",
    "find",
    "scan",
]

ADAPTERS: dict[str, Adapter] = {
    module.ADAPTER.name: module.ADAPTER
    for module in (ffpp, celebdf, dfd, dfdc, deepfakebench, table, folder)
}
# They fit many folders, also such as belong to a known data set: asked last.
ANY_LAYOUT = (table.NAME, folder.NAME)
CLASSES = ("real", "fake")  # by label
SHOWN = 10  # names of what lies there that a message gives


class NothingRecognised(SeglibError):
    """A folder holds no data set in a known layout."""


class SeveralRecognised(SeglibError):
    """A folder holds several data sets, and none was named."""


class MissingClass(SeglibError):
    """Of a class that is wanted no video is there: no AUC can come of the others."""


def find(root: str | os.PathLike) -> dict[str, Path]:
    """Which data sets lie in a folder or in its direct subfolders, and where.

    FaceForensics++ and DFD may share one root. A table or a folder of real and fake is looked for
    only where no data set of a known layout is.

    Returns
    -------
    dict of str to Path
        In the order of `ADAPTERS`; of a data set that is there twice, the first place.

    Raises
    ------
    seglib.media.MissingFile
    """
    root = Path(os.path.abspath(root))
    if not os.path.exists(root):
        raise MissingFile(f"{root} does not exist, expected a folder of data sets. Check the path.")
    places = [root, *(path for path in listed(root) if path.is_dir())]
    known = [name for name in ADAPTERS if name not in ANY_LAYOUT]
    return _recognised(known, places) or _recognised(ANY_LAYOUT, places)


def _recognised(names: Sequence[str], places: Sequence[Path]) -> dict[str, Path]:
    found = {}
    for name in names:
        place = next((place for place in places if ADAPTERS[name].recognises(place)), None)
        if place is not None:
            found[name] = place
    return found


def scan(
    root: str | os.PathLike,
    name: str | None = None,
    classes: Sequence[str] = CLASSES,
    **options: object,
) -> Found:
    """Read one data set into a manifest.

    Parameters
    ----------
    root : path-like
        The data set's folder, or one that has it as a subfolder; for a table, also its file.
    name : str, optional
        Of `ADAPTERS`; by default, the one that `find` finds.
    classes : sequence of str
        ``("real", "fake")``, or one of them: which part of the data set is wanted. Both must be
        there unless only one is.
    **options
        The adapter's own: `ADAPTERS[name].scan` documents them.

    Raises
    ------
    seglib.errors.UnknownName
        The name, a class or an option.
    seglib.media.MissingFile
    NothingRecognised, SeveralRecognised
    MissingClass
    IndexMissing, BadIndex, LabelContradiction, CompressionMissing
    seglib.manifest.BadManifest, seglib.manifest.Leak
    """
    for label in classes:
        if label not in CLASSES:
            raise unknown_name("class", label, CLASSES)
    if name is not None and name not in ADAPTERS:
        raise unknown_name("data set", name, ADAPTERS)
    found = find(root)
    name = _only(root, found) if name is None else name
    _check_options(ADAPTERS[name], options)
    scanned = ADAPTERS[name].scan(found.get(name, Path(root)), **options)
    return _of_classes(scanned, root, classes)


def _only(root: str | os.PathLike, found: dict[str, Path]) -> str:
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise SeveralRecognised(
            f"{root} holds {len(found)} data sets ({', '.join(found)}), expected one. Say which by "
            f"its name, and join the manifests of several."
        )
    layouts = "\n".join(f"  {a.name}: {a.where}" for a in ADAPTERS.values())
    names = [path.name for path in listed(Path(root))]
    there = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    raise NothingRecognised(
        f"{root} holds no data set in a known layout. There lies: {there or 'nothing'}. Looked "
        f"for, there and in its direct subfolders:\n{layouts}\nPoint to the folder that holds "
        f"these, or write a table of your videos."
    )


def _check_options(adapter: Adapter, options: dict[str, object]) -> None:
    known = list(inspect.signature(adapter.scan).parameters)[1:]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {adapter.name}", option, known)


def _of_classes(found: Found, root: str | os.PathLike, classes: Sequence[str]) -> Found:
    counts = {
        label: int((found.table["label"] == code).sum()) for code, label in enumerate(CLASSES)
    }
    if not all(counts[label] for label in classes):
        there = " and ".join(f"{count} {label}" for label, count in counts.items())
        first = (
            f" First problem: {' '.join(found.problems.iloc[0])}." if len(found.problems) else ""
        )
        raise MissingClass(
            f"{root} has {there} videos, expected some of {' and of '.join(classes)}.{first} Where "
            f"one class is all you want, say so: classes=('real',) or classes=('fake',)."
        )
    labels = [CLASSES.index(label) for label in classes]
    of_table = found.table["label"].isin(labels)
    of_expected = (found.expected["method"] != ORIGINAL).astype(int).isin(labels)
    return replace(
        found,
        table=found.table[of_table].reset_index(drop=True),
        expected=found.expected[of_expected].reset_index(drop=True),
    )
