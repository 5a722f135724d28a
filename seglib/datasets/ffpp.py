"""FaceForensics++: 1000 videos in pairs, each forged by several methods.

Rössler et al., ICCV 2019, arXiv 1901.08971. Layout and split files: its repository,
`dataset/README.md` and `dataset/splits`. Fakes are ``<target>_<source>.mp4`` in all methods
alike, so a stem names no video. The splits are lists of pairs, and both videos of a pair, and
both fakes between them, are in one split. Taught in chapter 06.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from seglib.datasets.adapter import (
    Adapter,
    BadIndex,
    Disk,
    Found,
    IndexMissing,
    People,
    check_compression,
    compressions,
    gather,
    person,
    problem,
    read_json,
)
from seglib.errors import unknown_name
from seglib.manifest import ORIGINAL, SPLITS

NAME = "ffpp"
PROTOCOL = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")  # the paper's four
METHODS = (*PROTOCOL, "FaceShifter")  # DeepFakeDetection lies beside them, and is the adapter dfd
ORIGINALS = "original_sequences/youtube"
PAIRS = {"train": 360, "val": 70, "test": 70}
EXPECTED = {(split, m): 2 * PAIRS[split] for split in SPLITS for m in (ORIGINAL, *METHODS)}
SPLIT_FOLDERS = ("", "splits", "dataset/splits")


def recognises(root: Path) -> bool:
    """By videos in its folders of originals or of a method."""
    return bool(compressions(Disk(root), map(_home, (ORIGINAL, *METHODS))))


def people(stem: str) -> People:
    """Of ``071`` or ``071_054``: the target first, as FaceForensics++ names its fakes."""
    target, _, source = stem.partition("_")
    return People(target, source, target if source else "")


def scan(
    root: Path,
    compression: str = "c23",
    methods: Sequence[str] = PROTOCOL,
    splits: str | os.PathLike | None = None,
) -> Found:
    """Read one compression of the originals and of some methods.

    Parameters
    ----------
    root : Path
        Holds ``original_sequences`` and ``manipulated_sequences``.
    compression : str
        ``"c23"``, ``"c40"``, ``"raw"`` or ``"c0"``: the folder's name.
    methods : sequence of str
        Of `METHODS`. FaceShifter came after the paper and is left out unless asked for.
    splits : path-like, optional
        The folder of train.json, val.json and test.json; by default they are looked for in the
        root and in its ``splits`` and ``dataset/splits``.

    Raises
    ------
    seglib.errors.UnknownName
    IndexMissing, BadIndex
        A split file is not there, or is none.
    CompressionMissing
    seglib.manifest.Leak
        A person is in two of the split files.
    """
    for method in methods:
        if method not in METHODS:
            kind = "method of FaceForensics++ (DeepFakeDetection is the data set 'dfd')"
            raise unknown_name(kind, method, METHODS)
    disk = Disk(root)
    files = _split_files(disk, splits)
    check_compression(disk, map(_home, (ORIGINAL, *methods)), compression)
    problems: list[dict[str, str]] = []
    rows = [
        row
        for split, file in files.items()
        for pair in _pairs(file, problems)
        for row in _rows(pair, split, compression, methods)
    ]
    expected = {key: n for key, n in EXPECTED.items() if key[1] in (ORIGINAL, *methods)}
    return gather(disk, rows, problems, expected)


def _home(method: str) -> str:
    return ORIGINALS if method == ORIGINAL else f"manipulated_sequences/{method}"


def _split_files(disk: Disk, splits: str | os.PathLike | None) -> dict[str, Path]:
    folders = [disk.root / name for name in SPLIT_FOLDERS] if splits is None else [Path(splits)]
    for folder in folders:
        files = {split: folder / f"{split}.json" for split in SPLITS}
        if all(file.is_file() for file in files.values()):
            return files
    raise IndexMissing(
        f"train.json, val.json and test.json are not together in {' or '.join(map(str, folders))}. "
        f"They are FaceForensics++'s official splits, expected beside its videos: copy them from "
        f"dataset/splits of {ADAPTER.page} to {disk.root / 'splits'}."
    )


def _pairs(file: Path, problems: list[dict[str, str]]) -> Iterator[tuple[str, str]]:
    entries = read_json(file, list)
    for number, entry in enumerate(entries, start=1):
        match entry:
            case [str(one), str(other)]:
                yield one, other
            case _:
                detail = f"entry {number} is {entry!r}, expected two stems"
                problems.append(problem("unreadable index line", file, detail))
    if not entries:
        raise BadIndex(f"{file} is an empty list, expected pairs of stems. Download it again.")


def _rows(
    pair: tuple[str, str], split: str, compression: str, methods: Sequence[str]
) -> Iterator[dict[str, object]]:
    one, other = pair
    for stem in pair:
        yield _row(stem, ORIGINAL, compression) | {"split": split}
    for method in methods:
        for stem in (f"{one}_{other}", f"{other}_{one}"):
            yield _row(stem, method, compression) | {"split": split}


def _row(stem: str, method: str, compression: str) -> dict[str, object]:
    """A video's row of the manifest, but for its split, by its name alone."""
    home, shown = _home(method), people(stem)
    return {
        "video_uid": f"{NAME}/{compression}/{method}/{stem}",
        "path": f"{home}/{compression}/videos/{stem}.mp4",
        "label": int(method != ORIGINAL),
        "dataset": NAME,
        "method": method,
        "compression": compression,
        "source": person(NAME, shown.source),
        "target": person(NAME, shown.target),
        "pair_id": f"{NAME}/{compression}/{ORIGINAL}/{shown.original}" if shown.original else "",
        "mask": "" if method == ORIGINAL else f"{home}/masks/videos/{stem}.mp4",
    }


ADAPTER = Adapter(
    name=NAME,
    title="FaceForensics++",
    page="https://github.com/ondyari/FaceForensics",
    where="original_sequences/youtube/<c23>/videos/<target>.mp4, "
    "manipulated_sequences/<method>/<c23>/videos/<target>_<source>.mp4, splits/train.json ...",
    recognises=recognises,
    scan=scan,
    expected=EXPECTED,
)
