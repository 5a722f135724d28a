"""Celeb-DF v2: videos of celebrities, 518 of which are the official test set.

Li et al., CVPR 2020, arXiv 1909.12962. ``List_of_testing_videos.txt`` codes **1 = real**, the
reverse of everyone else: each line is held against its folder. Fakes are
``id<target>_id<source>_<clip>.mp4``, so that a few people link most of the list; who is seen in
YouTube-real is not known. Taught in chapter 06.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from seglib.datasets.adapter import (
    Adapter,
    BadIndex,
    Disk,
    Found,
    IndexMissing,
    LabelContradiction,
    People,
    gather,
    person,
    posix,
    problem,
    read_text,
)
from seglib.manifest import ORIGINAL
from seglib.media import VIDEO_SUFFIXES

NAME = "celebdf"
LIST = "List_of_testing_videos.txt"
METHOD = "Celeb-synthesis"
LABELS = {"Celeb-real": 0, "YouTube-real": 0, METHOD: 1}  # by folder
EXPECTED = {("test", ORIGINAL): 178, ("test", METHOD): 340}
FAKE_STEM = re.compile(r"(?P<target>id\d+)_(?P<source>id\d+)_(?P<clip>\d+)")
REAL_STEM = re.compile(r"(?P<target>id\d+)_\d+")


def recognises(root: Path) -> bool:
    """By videos in one of its folders; crops lie one level deeper."""
    return any(Disk(root).media(folder, VIDEO_SUFFIXES) for folder in LABELS)


def people(stem: str) -> People:
    """Of ``id1_id3_0007`` or ``id1_0007``; nobody of the numbers of YouTube-real."""
    if fake := FAKE_STEM.fullmatch(stem):
        target, source, clip = fake.groups()
        return People(target, source, f"{target}_{clip}")
    real = REAL_STEM.fullmatch(stem)
    return People(real["target"]) if real else People()


def scan(root: Path) -> Found:
    """Read the official test list; what it does not name is left out.

    Raises
    ------
    IndexMissing, BadIndex
        The list is not there, or has no readable line.
    LabelContradiction
        A line's code is not that of its folder.
    """
    disk = Disk(root)
    file = disk.find(LIST)
    if file is None:
        raise IndexMissing(
            f"{disk.root} has no {LIST}, expected beside {', '.join(LABELS)}: it names the 518 "
            f"videos of the official test set. It comes with the data: {ADAPTER.page}"
        )
    problems: list[dict[str, str]] = []
    rows = list(_rows(file, problems))
    if not rows:
        raise BadIndex(f"{file} has no line such as '1 Celeb-real/id0_0000.mp4'. Copy it again.")
    return gather(disk, rows, problems, EXPECTED)


def _rows(file: Path, problems: list[dict[str, str]]) -> Iterator[dict[str, object]]:
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        code, _, name = posix(line).partition(" ")
        path = PurePosixPath(name.strip())
        folder = path.parent.name
        if not code:
            continue
        if code not in ("0", "1") or folder not in LABELS:
            detail = f"line {number} is {line.strip()!r}, expected '0 or 1, folder/video'"
            problems.append(problem("unreadable index line", file, detail))
            continue
        if int(code) == LABELS[folder]:  # the list's 1 is our 0
            raise LabelContradiction(
                f"{file}, line {number}: {line.strip()!r} calls a video of {folder} "
                f"{('fake', 'real')[int(code)]}. The official list codes 1 = real, 0 = fake: "
                f"copy it again from the data set."
            )
        yield _row(path)


def _row(path: PurePosixPath) -> dict[str, object]:
    folder, shown = path.parent.name, people(path.stem)
    return {
        "video_uid": f"{NAME}/{folder}/{path.stem}",
        "path": str(path),
        "label": LABELS[folder],
        "dataset": NAME,
        "method": METHOD if LABELS[folder] else ORIGINAL,
        "split": "test",
        "source": person(NAME, shown.source),
        "target": person(NAME, shown.target),
        "pair_id": f"{NAME}/Celeb-real/{shown.original}" if shown.original else "",
    }


ADAPTER = Adapter(
    name=NAME,
    title="Celeb-DF v2",
    page="https://github.com/yuezunli/celeb-deepfakeforensics",
    where=f"Celeb-real/, YouTube-real/, Celeb-synthesis/, {LIST}",
    recognises=recognises,
    scan=scan,
    expected=EXPECTED,
)
