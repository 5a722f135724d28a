"""``seglib reproduce``: the paper's protocol, from data to table."""

from __future__ import annotations

import argparse
from pathlib import Path

from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "reproduce",
        "from data to table: train on FaceForensics++, test on Celeb-DF v2, DFD, DFDC",
        "Find the data sets under a folder, describe their videos, train a probe on every part, on "
        "CLS and on FaRL's features, and test them on what they were not trained on. With only "
        "some of the data or weights it does what can be done and lists the rest.",
        "  seglib preflight paper --data DATA    first: what is missing?\n"
        "  seglib reproduce --data DATA\n"
        "  seglib reproduce --data DATA --mode demo --set frames=8 --out try    on a CPU\n",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="ROOT", help="where the data sets lie"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where results go, in a folder MODE (default: results, which the book reads, for the "
        "paper's own recipe; trial for any other)",
    )
    common.add_recipe(parser, "paper")
    common.add_stores(parser)
    common.add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Do what can be done; 1 if no table came of it."""
    from seglib import evaluation, recipe, reproduction

    chosen = common.chosen(arguments)
    out = arguments.out or Path("results" if chosen == recipe.paper() else "trial")
    try:
        done = reproduction.reproduce(
            arguments.data, chosen, arguments.store, out, arguments.device
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f": every video that was complete is kept in {arguments.store}; the same command goes "
            "on from there."
        ) from None
    records = done.records()
    for record in records:
        print(f"\n{record.title}; intervals resample {done.tests[record.title]['resampled_by']}")
        print(evaluation.verdict(record.table()))
    for sentence in done.missing:
        print(f"\nnot done: {sentence}")
    print(f"\n{chosen}\n{done.run.parent}")
    return common.OK if records else common.FAILED
