"""What the book takes: every chapter with no descriptors there, then with those of the first build.

The same command runs twice with a cache of its own that begins with the weights and the faces
only. A chapter's seconds are papermill's. Pages are not built: they quote these figures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from benchmarks.measuring import FOLDER, Row, options, report
from seglib import assets

MADE = "demo"  # the folder of the cache that the chapters fill
EXAMPLES = "  python -m benchmarks.book\n  python -m benchmarks.book --only 01,02\n"


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = options(__doc__, EXAMPLES)
    parser.add_argument("--only", metavar="NN,NN", help="these chapters (default: all)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder, "cache")
        ignored = shutil.ignore_patterns(MADE)
        shutil.copytree(assets.cache_dir(), cache, ignore=ignored, symlinks=True)
        cold, warm = (built(Path(folder), cache, arguments.only) for _ in range(2))
    rows = [
        Row(name, name.replace("_", " "), seconds, "seconds cold", {"warm": seconds / warm[name]})
        for name, seconds in cold.items()
    ]
    report(rows, arguments.json)


def built(folder: Path, cache: Path, only: str | None) -> dict[str, float]:
    """Seconds of each chapter and of all together."""
    out, start = folder / "out", time.monotonic()
    command = [
        sys.executable,
        "book/build.py",
        "--no-publish",
        "--out",
        str(out),
        *(["--only", only] if only else []),
    ]
    environment = os.environ | {"SEGLIB_CACHE": str(cache)}
    subprocess.run(command, cwd=FOLDER.parent, check=True, env=environment)
    whole, found = time.monotonic() - start, {}
    for path in sorted((out / "stage" / "notebooks").glob("*.ipynb")):
        ran = nbformat.read(path, as_version=4).metadata.get("papermill", {})
        if ran.get("duration"):
            found[path.stem] = ran["duration"]
    return found | {"whole": whole}


if __name__ == "__main__":
    main()
