"""``seglib extract``: videos of a manifest become descriptors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from seglib.cli import common

ENGINES = ("local", "ray")


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "extract",
        "describe every video of a manifest and keep the descriptors",
        "Decode evenly spaced frames, find and crop the face, label its parts, encode it, and keep "
        "sums and counts of tokens for each label. Interrupted or killed, the same command goes "
        "on; several may run at once on one store that they share. With --engine ray, workers of a "
        "Ray cluster do it, or one on each core or GPU of this machine: RAY_ADDRESS names a "
        "cluster that runs elsewhere.",
        "  seglib extract manifest.csv\n"
        "  seglib extract manifest.csv --mode demo --set frames=8\n"
        "  seglib extract ffpp.csv --split train --store /scratch/descriptors\n"
        "  seglib extract manifest.csv --set encoding=isolated --set region=mouth\n"
        "  seglib extract manifest.csv --engine ray --workers 4\n"
        "  RAY_ADDRESS=head:6379 seglib extract manifest.csv --engine ray --store s3://bucket/d\n"
        "  sbatch --array=1-8 --gpus=1 --wrap 'seglib extract manifest.csv --store /shared/d'\n",
    )
    parser.add_argument("manifest", type=Path, help="a CSV that `seglib manifest` wrote")
    common.add_split(parser, "all")
    parser.add_argument(
        "--tokens", action="store_true", help="keep the whole token grids too: much space"
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="who does it: this process, or the workers of a Ray cluster (default: local)",
    )
    parser.add_argument(
        "--workers",
        type=common.positive,
        metavar="N",
        help="with --engine ray: how many (default: one for each GPU of the cluster, or else core)",
    )
    common.add_recipe(parser, "paper")
    common.add_stores(parser)
    common.add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Extract, then print what became of the frames."""
    from seglib import cluster, extraction

    recipe, table = common.chosen(arguments), common.videos(arguments)
    if arguments.engine == "local":
        if arguments.workers:
            raise common.BadDecision("--workers is for --engine ray; expected both, or neither.")
        extractor = extraction.Extractor(recipe, arguments.device)
        return _run(arguments, table, extractor, extraction.extract)
    with cluster.Workers(recipe, arguments.workers, arguments.device) as workers:
        return _run(arguments, table, workers, cluster.extract)


def _run(arguments: argparse.Namespace, table, made_by, extract: Callable) -> int:
    from seglib import evaluation
    from seglib.store import Store, at_most

    recipe, networks = made_by.recipe, made_by.networks
    size = at_most(len(table) * recipe.frames, networks["width"], recipe) / 1e9
    print(f"{len(table)} videos; the store takes {size:.1f} GB at most", file=sys.stderr)
    with common.resumable(arguments.store):
        done = extract(table, made_by, arguments.store, arguments.tokens)
    print(recipe)
    print(f"{done.made} videos described, {done.there} were there, {done.elsewhere} are being "
          "described by another process")  # fmt: skip
    if not done.elsewhere:
        store = Store(arguments.store, recipe, networks)
        ledger = store.ledger(table.video_uid)
        print(f"\nframes:\n{evaluation.coverage(table, ledger).to_string()}")
    return common.OK
