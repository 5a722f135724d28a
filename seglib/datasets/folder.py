"""Any folder with the bona fide in one subfolder and the fakes in another.

Pictures and videos are told by their suffix and found at any depth. Nothing is known of who is
in them, so that each is a group by itself: where people recur, a table with a ``group`` column
(`seglib.datasets.table`) says so. Taught in chapter 06.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from seglib.datasets.adapter import (
    BONA_FIDE,
    FAKE,
    MEDIA,
    Adapter,
    Disk,
    Found,
    IndexMissing,
    as_label,
    gather,
    listed,
    plain,
)
from seglib.errors import unknown_name
from seglib.manifest import ORIGINAL, SPLITS
from seglib.media import SUFFIXES

NAME = "folder"
CLASSES = [name for name in (*BONA_FIDE, *FAKE) if name.isalpha()]


def recognises(root: Path) -> bool:
    """By a subfolder named after one of the classes."""
    return bool(_classes(root))


def scan(root: Path, split: str = "test", dataset: str = NAME) -> Found:
    """Read every picture and video below the two subfolders.

    Parameters
    ----------
    root : Path
        Holds ``real`` and ``fake``, or what else they are called: see `adapter.as_label`.
    split : str
        Of all of them.
    dataset : str
        What to call the set; uids are namespaced by it.

    Raises
    ------
    seglib.errors.UnknownName
        The split, or a subfolder, is almost a known one.
    IndexMissing
        No subfolder is named after a class.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    disk = Disk(root)
    classes = _classes(disk.root)
    if len(set(classes.values())) < 2:
        _explain(disk.root, list(classes))
    rows = [
        {
            "video_uid": f"{dataset}/{plain(name)}",
            "path": name,
            "label": label,
            "dataset": dataset,
            "method": Path(name).parts[0] if label else ORIGINAL,
            "split": split,
            "frames": int(Path(name).suffix.lower() in SUFFIXES),
        }
        for folder, label in classes.items()
        for name in _below(disk.root, folder)
    ]
    return gather(disk, rows)


def _classes(root: Path) -> dict[str, int]:
    """The class of each subfolder that is named after one."""
    labels = {path.name: as_label(path.name) for path in listed(root) if path.is_dir()}
    return {name: label for name, label in labels.items() if label is not None}


def _explain(root: Path, classes: list[str]) -> None:
    others = [p.name for p in listed(root) if p.is_dir() and p.name not in classes]
    for name in others:
        if difflib.get_close_matches(name.lower(), CLASSES, n=1):
            raise unknown_name(f"class of the folder {root}", name, CLASSES)
    if not classes:
        raise IndexMissing(
            f"{root} has no folder named after a class; its folders are: "
            f"{', '.join(others) or 'none'}. Expected two, called real and fake."
        )


def _below(root: Path, folder: str) -> Iterator[str]:
    """Names of the media below a folder, each once, also where links lead in a circle."""
    seen: set[Path] = set()
    waiting = [root / folder]
    while waiting:
        here = waiting.pop()
        if here.resolve() in seen:
            continue
        seen.add(here.resolve())
        for path in listed(here):
            if path.is_dir():
                waiting.append(path)
            elif path.suffix.lower() in MEDIA:
                yield path.relative_to(root).as_posix()


ADAPTER = Adapter(
    name=NAME,
    title="a folder of your own",
    page="",
    where="real/ and fake/, with pictures or videos at any depth",
    recognises=recognises,
    scan=scan,
)
