"""``seglib demo``: measure the demo and print every AUC with its interval."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "demo",
        "measure the demo: whose tokens see a forged mouth, forged eyes?",
        "Forge the demo's faces, describe them, train person-disjoint probes and print every AUC "
        "with its interval. Some minutes on two cores the first time; the descriptors are kept, "
        "and an interrupted run goes on from the last complete set.",
        "  seglib demo\n"
        "  seglib demo --seeds 5 --json demo.json\n"
        "  seglib demo --picture book/images/result.png\n",
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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    from seglib import demo as protocol  # heavy: torch and transformers
    from seglib import evaluation, figures, recipe

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
        print(f"\n{title}\n{evaluation.verdict(table)}")
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
    return common.OK


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)
