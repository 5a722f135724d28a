"""The command line. A command is two functions: `add_<name>` declares it, a handler runs it.

A handler takes the parsed arguments and returns the exit code. What a module raises on purpose,
a `SeglibError`, becomes its message on stderr; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from seglib import __version__, assets, wheels
from seglib.errors import SeglibError, UnknownName, unknown_name

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

EXIT_CODES = """\
exit codes:
  0    done; for preflight: everything is there
  1    something is missing or went wrong; stderr says what and what to do
  2    the command line was not understood
  130  interrupted; stderr says where it left off
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser()
    try:
        _check_command(argv, parser)
        arguments = parser.parse_args(argv)
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except SeglibError as error:
        print(f"seglib: {error}", file=sys.stderr)
        return USAGE if isinstance(error, UnknownName) else FAILED
    except KeyboardInterrupt as interrupt:
        print(f"\nseglib: interrupted{interrupt}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, `head` for instance, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def build_parser() -> argparse.ArgumentParser:
    """Declare every command."""
    parser = argparse.ArgumentParser(
        prog="seglib",
        description="Look only there: deepfake detection from the patch tokens of one face part.",
        epilog="examples:\n  seglib preflight --fetch\n  seglib demo\n  seglib demo --help\n\n"
        + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seglib {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_preflight(commands)
    add_demo(commands)
    parser.set_defaults(names=list(commands.choices))
    return parser


def _check_command(argv: list[str], parser: argparse.ArgumentParser) -> None:
    """Meet a mistyped command with a suggestion, which argparse before Python 3.14 lacks."""
    known = parser.get_default("names")
    if argv and not argv[0].startswith("-") and argv[0] not in known:
        raise unknown_name("command", argv[0], known)


# -- preflight --------------------------------------------------------------------------------


def add_preflight(commands: argparse._SubParsersAction) -> None:
    """Declare ``seglib preflight``."""
    parser = commands.add_parser(
        "preflight",
        help="show, fetch and check the embedded weights and faces",
        description="Show for each embedded asset whether it is there, where it comes from, its "
        "size, licence and credit. Changes nothing unless told to fetch.",
        epilog="examples:\n"
        "  seglib preflight             what is there?\n"
        "  seglib preflight --fetch     download what is absent or damaged (150 MB in all)\n"
        "  seglib preflight --verify    compare every file with its SHA-256\n"
        "  seglib preflight --json      the same for a program\n"
        "  SEGLIB_CACHE=DIR seglib preflight    look in another folder\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--fetch", action="store_true", help="download what is absent or damaged")
    parser.add_argument("--verify", action="store_true", help="hash every file, not only its size")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=preflight)


def preflight(arguments: argparse.Namespace) -> int:
    """Report on every asset, after fetching if asked; 0 when all are there."""
    if arguments.fetch:
        _fetch_all(arguments.verify)
    found = assets.statuses(verify=arguments.verify)
    print(_as_json(found) if arguments.json else _as_table(found))
    return OK if all(status.present for status in found) else FAILED


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
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
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


# -- demo -------------------------------------------------------------------------------------


def add_demo(commands: argparse._SubParsersAction) -> None:
    """Declare ``seglib demo``."""
    parser = commands.add_parser(
        "demo",
        help="measure the demo: whose tokens see a forged mouth, forged eyes?",
        description="Forge the demo's faces, describe them, train person-disjoint probes and print "
        "every AUC with its interval. Some minutes on two cores the first time; the descriptors "
        "are kept, and an interrupted run goes on from the last complete set.",
        epilog="examples:\n"
        "  seglib demo\n"
        "  seglib demo --seeds 5 --json demo.json\n"
        "  seglib demo --picture book/images/result.png\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds",
        type=_positive,
        default=3,
        metavar="N",
        help="person-disjoint splits; people, couples and forgeries stay the same (default: 3)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables as JSON")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw them as a PNG")
    parser.set_defaults(run=measure)


def measure(arguments: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    from seglib import demo as protocol  # heavy: torch and transformers
    from seglib import figures, recipe

    for file in filter(None, (arguments.json, arguments.picture)):
        file.parent.mkdir(parents=True, exist_ok=True)  # before the minutes of work, not after
    decisions = recipe.demo()
    try:
        tables = protocol.report(decisions, range(arguments.seeds))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            ": the sets of descriptors that were complete are kept; the same command goes on "
            "from there."
        ) from None
    for title, table in tables.items():
        print(f"\n{title}\n{protocol.verdict(table)}")
    note = f"{decisions} · {arguments.seeds} seeds"
    print(f"\n{note}")
    if arguments.json:
        rows = {
            title: json.loads(table.reset_index().to_json(orient="records"))
            for title, table in tables.items()
        }
        arguments.json.write_text(json.dumps({"note": note, "tables": rows}, indent=1) + "\n")
    if arguments.picture:
        shown = [*list(tables)[:2], *list(tables)[len(protocol.WITHIN) :][:1]]
        figures.save_result({title: tables[title] for title in shown}, note, arguments.picture)
    return OK


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)
