"""``seglib shortcuts``: what tells a manifest's fakes without a look at a face."""

from __future__ import annotations

import argparse
from pathlib import Path

from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "shortcuts",
        "look for what tells the fakes without a look at a face",
        "Ask of file size, JPEG tables, resolution, bit rate, codec, length, face size, brightness "
        "and others how well each alone tells a manifest's fakes. An AUC is that of the number as "
        "it is: 1 where every fake's is the larger, 0 where it is the smaller, 0.5 where it says "
        "nothing. The face's size is known where `seglib extract` has kept it.",
        "  seglib shortcuts manifest.csv\n"
        "  seglib shortcuts ffpp.csv --split train --out ffpp-shortcuts.csv\n"
        "  seglib shortcuts ffpp.csv --mode demo            face sizes of the demo's detector\n",
    )
    parser.add_argument("manifest", type=Path, help="a CSV that `seglib manifest` wrote")
    common.add_split(parser, "all")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")
    common.add_recipe(parser, "paper")
    common.add_stores(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, and print the table and its sentences."""
    from contextlib import suppress

    from seglib import evaluation, files, shortcuts
    from seglib.store import NoStore, Store

    recipe, table, store = common.chosen(arguments), common.videos(arguments), None
    with suppress(NoStore):
        store = Store.find(arguments.store, recipe)
    found = shortcuts.hunt(table, store)
    shown = found[["auc", "low", "high", "apart", "coverage", "bona_fide", "fake", "suspicious"]]
    print(shown.to_string(float_format="{:.3f}".format, na_rep="none"))
    for note, rows in found[found.note != ""].groupby("note", sort=False):
        print(f"{', '.join(rows.index)}: {files.printable(note)}")
    print(f"\n{shortcuts.warning(found)}")
    print(f"\nintervals resample {evaluation.resampled_by(table)[1]}")
    if arguments.out:
        with files.replacing(arguments.out) as part:
            found.to_csv(part)
    return common.OK
