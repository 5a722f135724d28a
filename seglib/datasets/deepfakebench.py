"""DeepfakeBench: face crops of many data sets in folders of frames, listed in JSON files.

Yan et al., NeurIPS 2023, arXiv 2307.01426; written by its `preprocessing/rearrange.py`:
``{"DFD": {"DFD_fake": {"train": {video: {"label", "frames"}}}}}``, with one more level, the
compression, for FaceForensics++. Stems are those of the original data sets, and so are the
people they name. Taught in chapter 06.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from seglib.datasets import celebdf, dfd, dfdc, ffpp
from seglib.datasets.adapter import (
    Adapter,
    CompressionMissing,
    Disk,
    Found,
    IndexMissing,
    LabelContradiction,
    People,
    gather,
    listed,
    person,
    posix,
    problem,
    read_json,
    starts_with,
)
from seglib.errors import unknown_name
from seglib.manifest import ORIGINAL
from seglib.media import SUFFIXES

NAME = "deepfakebench"
INDEX_FOLDERS = ("", "dataset_json", "preprocessing/dataset_json")
FRAME_FOLDERS = ("", "rgb", "datasets/rgb")

NESTED = re.compile(r'\s*(?:\{\s*"[^"]+"\s*:\s*){2}\{\s*"(?:train|val|test)"\s*:\s*\{')


def nobody(stem: str) -> People:
    """Of a data set whose names tell of no people."""
    return People()


# DeepfakeBench's name of a data set -> ours, and the reader of its stems. Others keep theirs.
SETS = {
    **dict.fromkeys(("FaceForensics++", "FaceShifter"), (ffpp.NAME, ffpp.people)),
    **dict.fromkeys(("FF-DF", "FF-F2F", "FF-FS", "FF-NT"), (ffpp.NAME, ffpp.people)),
    **dict.fromkeys(("DFD", "DeepFakeDetection"), (dfd.NAME, dfd.people)),
    "Celeb-DF-v2": (celebdf.NAME, celebdf.people),
    "DFDC": (dfdc.NAME, nobody),
}
METHODS = {
    "FF-DF": "Deepfakes",
    "FF-F2F": "Face2Face",
    "FF-FS": "FaceSwap",
    "FF-NT": "NeuralTextures",
    "FF-FH": "FaceShifter",
    "DFD_fake": dfd.METHOD,
    "CelebDFv2_fake": celebdf.METHOD,
    "DFDC_Fake": dfdc.METHOD,
}
READINGS = ("protocol", "listed")
# What rearrange.py lists for training of these holds all of the data set, the test set too.
TEST_LIST_ONLY = ("Celeb-DF-v1", "Celeb-DF-v2", "DFDC")


class Entry(NamedTuple):
    """A video of an index: where in the file it stands, and what stands there."""

    dataset: str  # DeepfakeBench's name
    kind: str  # its name of the class: "FF-DF", "DFD_real"
    split: str
    compression: str  # empty but for FaceForensics++
    video: str
    value: Any  # {"label": kind, "frames": [path, ...]}


def recognises(root: Path) -> bool:
    """By a JSON file that nests data set, class and split."""
    return bool(_indices(root))


def scan(root: Path, compression: str = "c23", splits: str = "protocol") -> Found:
    """Read all of its JSON files; a row is a video, its path the folder of its frames.

    Parameters
    ----------
    root : Path
        Holds the JSON files (or they lie in ``preprocessing/dataset_json``) and, by the paths in
        them, the frames (or they lie in ``datasets/rgb``).
    compression : str
        Of FaceForensics++; the other sets have one.
    splits : str
        ``"protocol"``: FaceForensics++ as listed; every other data set, which is only ever a
        target, is test data whatever list a video stands in, and of Celeb-DF and DFDC only the
        test list is read. ``"listed"``: as the files say, which of DFD is a `Leak`: its 28 actors
        are in all three lists.

    Raises
    ------
    seglib.errors.UnknownName
    IndexMissing, BadIndex
        There is no JSON file, or one is none.
    LabelContradiction
        A video's label is not that of the class it stands in.
    CompressionMissing
    seglib.manifest.Leak
    """
    if splits not in READINGS:
        raise unknown_name("reading of the splits", splits, READINGS)
    files = _indices(Path(root))
    if not files:
        raise IndexMissing(
            f"{root} holds no dataset JSON of DeepfakeBench, expected in it or in its "
            f"{' or '.join(INDEX_FOLDERS[1:])}. They are released with the crops: {ADAPTER.page}"
        )
    disk, problems = Disk(root), []
    rows: dict[tuple[object, object], dict[str, object]] = {}  # files repeat FF++'s originals
    for file in files:
        entries = list(_entries(read_json(file, dict)))
        _check_compression(file, {entry.compression for entry in entries} - {""}, compression)
        for entry in entries:
            wanted = entry.compression in ("", compression) and _is_read(entry, splits)
            row = _row(disk, file, entry, splits, problems) if wanted else None
            if row is not None:
                rows.setdefault((row["video_uid"], row["split"]), row)
    return gather(disk, rows.values(), problems)


def _indices(root: Path) -> list[Path]:
    files = [file for folder in INDEX_FOLDERS for file in listed(root / folder)]
    files = [file for file in files if file.suffix == ".json" and file.is_file()]
    return [file for file in files if starts_with(file, NESTED)]


def _items(value: Any) -> Iterable[tuple[str, Any]]:
    return value.items() if isinstance(value, dict) else ()


def _entries(index: dict) -> Iterator[Entry]:
    for dataset, kinds in index.items():
        for kind, lists in _items(kinds):
            for split, videos in _items(lists):
                for name, value in _items(videos):
                    if isinstance(value, dict) and "frames" not in value:  # a compression
                        for video, entry in value.items():
                            yield Entry(dataset, kind, split, name, video, entry)
                    else:
                        yield Entry(dataset, kind, split, "", name, value)


def _check_compression(file: Path, there: set[str], compression: str) -> None:
    if there and compression not in there:
        raise CompressionMissing(
            f"{file} lists no videos of compression {compression!r}; there are: "
            f"{', '.join(sorted(there))}. Choose one of them."
        )


def _is_read(entry: Entry, splits: str) -> bool:
    return splits == "listed" or entry.dataset not in TEST_LIST_ONLY or entry.split == "test"


def _row(
    disk: Disk, file: Path, entry: Entry, splits: str, problems: list[dict[str, str]]
) -> dict[str, object] | None:
    where = "/".join((entry.dataset, entry.kind, entry.split, entry.video))
    label = _label(entry.kind)
    match entry.value:
        case {"label": str(given), "frames": [str(first), *_] as frames} if label is not None:
            pass
        case _:
            detail = f"{where}: expected a class of real or fake, a label and paths of frames"
            problems.append(problem("unreadable index line", file, detail))
            return None
    if _label(given) != label:
        raise LabelContradiction(
            f"{file}, {where}: labelled {given!r}, but listed as {entry.kind!r}. Download the "
            f"file again, or correct it."
        )
    dataset, people = SETS.get(entry.dataset, (entry.dataset, nobody))
    shown = people(entry.video)
    home = [part for part in (NAME, dataset, entry.compression) if part]
    method = METHODS.get(entry.kind, entry.kind) if label else ORIGINAL
    path = _frames(disk, PurePosixPath(posix(first)).parent)
    there = len(disk.media(path, SUFFIXES))
    if 0 < there < len(frames):
        problems.append(problem("missing frames", path, f"{there} of {len(frames)} are there"))
    return {
        "video_uid": "/".join((*home, method, entry.video)),
        "path": path,
        "label": label,
        "dataset": dataset,
        "method": method,
        "compression": entry.compression,
        "split": entry.split if splits == "listed" or dataset == ffpp.NAME else "test",
        "source": person(dataset, shown.source),
        "target": person(dataset, shown.target),
        "pair_id": "/".join((*home, ORIGINAL, shown.original)) if shown.original else "",
        "frames": there,
    }


def _label(kind: str) -> int | None:
    if kind in METHODS or "fake" in kind.lower():
        return 1
    return 0 if "real" in kind.lower() else None


def _frames(disk: Disk, folder: PurePosixPath) -> str:
    """Where a folder of frames lies below the root; as the index has it if nowhere."""
    places = [str(base / folder) for base in map(PurePosixPath, FRAME_FOLDERS)]
    return next((place for place in places if disk.find(place)), str(folder))


ADAPTER = Adapter(
    name=NAME,
    title="DeepfakeBench face crops",
    page="https://github.com/SCLBD/DeepfakeBench",
    where="<data set>.json, <data set>/.../frames/<video>/<frame>.png",
    recognises=recognises,
    scan=scan,
)
