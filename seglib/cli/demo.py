"""``seglib demo``: measure the demo and print every AUC with its interval."""

from __future__ import annotations

import argparse
from pathlib import Path

from seglib import files
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
        "  seglib demo --seeds 5 --out five-seeds\n"
        "  seglib demo --picture book/images/result.png\n",
    )
    parser.add_argument(
        "--seeds",
        type=common.positive,
        metavar="N",
        help="person-disjoint splits; people, couples and forgeries stay the same (default: 3, and "
        "5 in the audit)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="also keep scores and results, in a folder demo"
    )
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw them as a PNG")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write what was asked for."""
    from seglib import evaluation, experiments, figures, recipe, results  # heavy: torch

    for path in (arguments.out and arguments.out / "any.json", arguments.picture):
        if path:
            files.check_writable(path)  # before the minutes of work, not after
    decisions, tables = recipe.demo(), {}
    seeds = range(arguments.seeds) if arguments.seeds else None  # None: each experiment's own
    try:
        for name in experiments.EXPERIMENTS:
            found = experiments.run(name, decisions, seeds)
            if arguments.out:
                results.save(name, found, decisions, folder=arguments.out)
            if isinstance(found, evaluation.Scores):
                tables[found.title] = found.table(next(iter(found.views)))
                print(f"\n{found.title}\n{evaluation.verdict(tables[found.title])}")
            else:
                print(f"\n{name}", *(f"{key} {number}" for key, number in found.items()), sep="\n")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            ": the sets of descriptors that were complete are kept; the same command goes on "
            "from there."
        ) from None
    note = str(decisions) if seeds is None else f"{decisions} · {len(seeds)} seeds"
    print(f"\n{note}")
    if arguments.picture:
        shown = [*list(tables)[:2], *list(tables)[len(experiments.WITHIN) :][:1]]
        figures.save_result({title: tables[title] for title in shown}, note, arguments.picture)
    return common.OK
