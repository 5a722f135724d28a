"""All benchmarks, one after the other, each in a process of its own; the book quotes their figures.

They take an hour or two on two cores and want the machine for themselves.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.measuring import FOLDER

ALL = (
    "indexing", "encoder", "isolated_encoding", "decoding", "extraction", "growth",
    "probe_fitting", "bootstrap", "ray_workers", "book",
)  # fmt: skip


def main() -> int:
    """Run those that were asked for; the number of failures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="examples:\n  python -m benchmarks\n  python -m benchmarks indexing decoding\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(ALL)}")
    names = parser.parse_args().names or ALL
    if unknown := [name for name in names if name not in ALL]:
        parser.error(f"no benchmark {', '.join(unknown)}; expected some of {', '.join(ALL)}")
    failed = 0
    for name in names:
        print(f"\n{name}", flush=True)
        start, target = time.monotonic(), FOLDER / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(target)]
        code = subprocess.run(command, cwd=FOLDER.parent).returncode
        failed += code != 0
        print(f"{name}: {time.monotonic() - start:.0f} s" + f", failed with {code}" * (code != 0))
    return failed


if __name__ == "__main__":
    sys.exit(main())
