"""``seglib verify``: are the published numbers what was measured?"""

from __future__ import annotations

import argparse
from pathlib import Path

from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "verify",
        "check the published numbers: offline in a minute, or by re-running the demo",
        "Recompute every published number from the scores beside it and compare to the digit; "
        "check the claims, the receipts and what the pages quote. Needs no network, no weights "
        "and no GPU. With --full it then re-runs the demo, which takes minutes, compares each "
        "number with its published interval and lists what moved.",
        "  seglib verify\n"
        "  seglib verify --full\n"
        "  seglib verify --results DIR      the records of another run\n",
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="records, a folder a mode (default: the published ones)",
    )
    parser.add_argument("--full", action="store_true", help="also re-run the demo")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check and tell; 1 if anything is wrong, or has moved out of its interval."""
    from seglib import preflight, verification

    checks = verification.offline(arguments.results)
    rows = [(one.what, str(one.count), _verdict(len(one.problems))) for one in checks]
    print("\n".join(preflight.aligned([("what", "checked", "found"), *rows])))
    problems = [problem for one in checks for problem in one.problems]
    print("".join(f"\n{problem}\n" for problem in problems), end="")
    if problems:
        return common.FAILED
    return _rerun(arguments.results) if arguments.full else common.OK


def _verdict(problems: int) -> str:
    return f"{problems} problem{'s' * (problems > 1)}" if problems else "ok"


def _rerun(folder: Path | None) -> int:
    """Re-run the demo, list what moved, and count."""
    from seglib import preflight, results, verification

    table = verification.again(results.records(folder))
    moved = table[(table.moved != 0) | ~table.inside]
    rows = [("moved", "published", "here", "by", "inside")]
    for key, row in moved.iterrows():
        interval = "" if row.low != row.low else f" [{row.low:.3f}, {row.high:.3f}]"
        published = f"{row.published:.6f}{interval}"
        inside = "yes" if row.inside else "no"
        rows.append((key, published, f"{row.here:.6f}", f"{row.moved:+.6f}", inside))
    print("\n" + "\n".join(preflight.aligned(rows) if len(moved) else ["nothing moved"]))
    outside = int((~table.inside).sum())
    print(
        f"\n{len(table)} numbers: {len(table) - len(moved)} to the digit, "
        f"{len(moved) - outside} inside their published intervals, {outside} outside"
    )
    return common.FAILED if outside else common.OK
