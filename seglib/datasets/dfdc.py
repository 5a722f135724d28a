"""The DeepFake Detection Challenge: parts of some thousand clips, each with a metadata.json.

Dolhansky et al., arXiv 2006.07397. An entry says label (REAL or FAKE), split and, of a fake, the
original that it was made from. Actors are not named: a fake is known to share people with its
original, and with its siblings, and with nobody else. Taught in chapter 06.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from seglib.datasets.adapter import (
    Adapter,
    Disk,
    Found,
    IndexMissing,
    as_label,
    as_split,
    gather,
    listed,
    person,
    problem,
    read_json,
    starts_with,
)
from seglib.manifest import ORIGINAL

NAME = "dfdc"
METHOD = "dfdc"  # eight methods forged it; none is named for a video
INDEX = "metadata.json"
# Dolhansky et al., arXiv 2006.07397, of the training set. How much of the test set was released
# is told differently by different sources, so nothing is expected of it.
EXPECTED = {("train", ORIGINAL): 19_154, ("train", METHOD): 100_000}
ENTRY = re.compile(
    r'\s*\{\s*"[^"]+"\s*:\s*\{[^}]*(?:"label"\s*:\s*"(?:REAL|FAKE)"|"is_fake"\s*:\s*[01])'
)


def recognises(root: Path) -> bool:
    """By a metadata.json whose first entry has a label."""
    return any(starts_with(file, ENTRY) for file in _indices(root))


def scan(root: Path) -> Found:
    """Read every part, in the root or in its ``train``, by its metadata.json.

    A part's name is in every uid and identity: parts are numbered, clips are not.

    Raises
    ------
    IndexMissing, BadIndex
        No metadata.json is there, or one is none.
    """
    disk = Disk(root)
    files = _indices(disk.root)
    if not files:
        raise IndexMissing(
            f"{disk.root} and its folders hold no {INDEX}, expected one in every part of DFDC, "
            f"beside its videos. Unpack the parts whole: {ADAPTER.page}"
        )
    problems: list[dict[str, str]] = []
    rows = [row for file in files for row in _rows(disk, file, problems)]
    return gather(disk, rows, problems, EXPECTED)


def _indices(root: Path) -> list[Path]:
    parts = [root, *listed(root), *listed(root / "train")]
    return [part / INDEX for part in parts if (part / INDEX).is_file()]


def _rows(disk: Disk, file: Path, problems: list[dict[str, str]]) -> Iterator[dict[str, object]]:
    part = file.parent
    folder = part.relative_to(disk.root)
    for name, entry in read_json(file, dict).items():
        fields = entry if isinstance(entry, dict) else {}
        # The released test set says is_fake instead, and no split.
        label = as_label(fields.get("label", fields.get("is_fake")))
        split = as_split(fields.get("split", "test" if "is_fake" in fields else None))
        if label is None or split is None:
            detail = f"{name} is {entry!r}, expected label and split, or is_fake"
            problems.append(problem("unreadable index line", file, detail))
            continue
        original = Path(str(fields.get("original") or "")).stem if label else ""
        clip = f"{part.name}/{Path(name).stem}"
        yield {
            "video_uid": f"{NAME}/{clip}",
            "path": (folder / name).as_posix(),
            "label": label,
            "dataset": NAME,
            "method": METHOD if label else ORIGINAL,
            "split": split,
            "target": person(NAME, f"{part.name}/{original}" if original else clip),
            "pair_id": f"{NAME}/{part.name}/{original}" if original else "",
        }


ADAPTER = Adapter(
    name=NAME,
    title="DeepFake Detection Challenge (DFDC)",
    page="https://ai.meta.com/datasets/dfdc/",
    where=f"<part>/{INDEX}, <part>/<clip>.mp4",
    recognises=recognises,
    scan=scan,
    expected=EXPECTED,
)
