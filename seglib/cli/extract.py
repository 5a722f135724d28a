"""``seglib extract``: videos of a manifest become descriptors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "extract",
        "describe every video of a manifest and keep the descriptors",
        "Decode evenly spaced frames, find and crop the face, label its parts, encode it, and keep "
        "sums and counts of tokens for each label. Interrupted or killed, the same command goes "
        "on; several may run at once on one store.",
        "  seglib extract manifest.csv\n"
        "  seglib extract manifest.csv --mode demo --set frames=8\n"
        "  seglib extract ffpp.csv --split train --store /scratch/descriptors\n"
        "  seglib extract manifest.csv --set encoding=isolated --set region=mouth\n",
    )
    parser.add_argument("manifest", type=Path, help="a CSV that `seglib manifest` wrote")
    common.add_split(parser, "all")
    parser.add_argument(
        "--tokens", action="store_true", help="keep the whole token grids too: much space"
    )
    common.add_recipe(parser, "paper")
    common.add_stores(parser)
    common.add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Extract, then print what became of the frames."""
    from seglib import evaluation, extraction
    from seglib.store import Store, at_most

    recipe, table = common.chosen(arguments), common.videos(arguments)
    extractor = extraction.Extractor(recipe, arguments.device)
    size = at_most(len(table) * recipe.frames, extractor.backbone.width, recipe) / 1e9
    print(f"{len(table)} videos; the store takes {size:.1f} GB at most", file=sys.stderr)
    with common.resumable(arguments.store):
        done = extraction.extract(table, extractor, arguments.store, arguments.tokens)
    print(recipe)
    print(f"{done.made} videos described, {done.there} were there, {done.elsewhere} are being "
          "described by another process")  # fmt: skip
    if not done.elsewhere:
        store = Store(arguments.store, recipe, extractor.networks)
        ledger = store.ledger(table.video_uid)
        print(f"\nframes:\n{evaluation.coverage(table, ledger).to_string()}")
    return common.OK
