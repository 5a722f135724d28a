"""DeepFakeDetection (DFD): paid actors in scenes, by Google and Jigsaw, shipped with FF++.

It lies in FaceForensics++'s own folders, and its download script lays both in one root. Fakes
are ``<target>_<source>__<scene>__<hash>.mp4``, originals ``<actor>__<scene>.mp4``. It has no
splits and every actor meets most of the others: it is one test set. Taught in chapter 06.
"""

from __future__ import annotations

import re
from pathlib import Path

from seglib.datasets.adapter import (
    Adapter,
    Disk,
    Found,
    People,
    check_compression,
    compressions,
    gather,
    person,
    problem,
)
from seglib.manifest import ORIGINAL
from seglib.media import VIDEO_SUFFIXES

NAME = "dfd"
METHOD = "DeepFakeDetection"
HOMES = {ORIGINAL: "original_sequences/actors", METHOD: f"manipulated_sequences/{METHOD}"}
EXPECTED = {("test", ORIGINAL): 363, ("test", METHOD): 3068}
FAKE_STEM = re.compile(r"(?P<target>\d+)_(?P<source>\d+)__(?P<scene>.+)__[0-9A-Z]+")
REAL_STEM = re.compile(r"(?P<target>\d+)__.+")


def recognises(root: Path) -> bool:
    """By videos in its two folders beside those of FaceForensics++."""
    return bool(compressions(Disk(root), HOMES.values()))


def people(stem: str) -> People:
    """Of ``01_02__hugging_happy__YVGY8LOK`` or ``01__hugging_happy``; nobody of other names."""
    if fake := FAKE_STEM.fullmatch(stem):
        target, source, scene = fake.groups()
        return People(target, source, f"{target}__{scene}")
    real = REAL_STEM.fullmatch(stem)
    return People(real["target"]) if real else People()


def scan(root: Path, compression: str = "c23") -> Found:
    """Read one compression; all of it is test data.

    Raises
    ------
    CompressionMissing
    """
    disk = Disk(root)
    check_compression(disk, HOMES.values(), compression)
    rows, problems = [], []
    for method, home in HOMES.items():
        folder = f"{home}/{compression}/videos"
        for name in disk.media(folder, VIDEO_SUFFIXES):
            rows.append(_row(Path(name), method, compression))
            if not rows[-1]["target"]:
                detail = "no actor is known from its name: it is a group by itself"
                problems.append(problem("unknown name", f"{folder}/{name}", detail))
    return gather(disk, rows, problems, EXPECTED)


def _row(file: Path, method: str, compression: str) -> dict[str, object]:
    home, shown = HOMES[method], people(file.stem)
    return {
        "video_uid": f"{NAME}/{compression}/{method}/{file.stem}",
        "path": f"{home}/{compression}/videos/{file}",
        "label": int(method != ORIGINAL),
        "dataset": NAME,
        "method": method,
        "compression": compression,
        "split": "test",
        "source": person(NAME, shown.source),
        "target": person(NAME, shown.target),
        "pair_id": f"{NAME}/{compression}/{ORIGINAL}/{shown.original}" if shown.original else "",
        "mask": "" if method == ORIGINAL else f"{home}/masks/videos/{file}",
    }


ADAPTER = Adapter(
    name=NAME,
    title="DeepFakeDetection (DFD)",
    page="https://github.com/ondyari/FaceForensics",
    where="original_sequences/actors/<c23>/videos/<actor>__<scene>.mp4, manipulated_sequences/"
    "DeepFakeDetection/<c23>/videos/<target>_<source>__<scene>__<hash>.mp4",
    recognises=recognises,
    scan=scan,
    expected=EXPECTED,
)
