"""``seglib train``: a probe on one view of the training split."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "train",
        "train a linear probe on one view of the descriptors",
        "Train on the split 'train' of a manifest whose videos are in the store; the strength of "
        "the penalty, the calibration and the threshold come from person-disjoint "
        "cross-validation. What tells its fakes without a look at a face is named beforehand, see "
        "`seglib shortcuts`, and written into the card.",
        "  seglib train ffpp.csv\n"
        "  seglib train ffpp.csv --seeds 3 --set conditioning=layernorm\n"
        "  seglib train ffpp.csv --view cls --out cls.safetensors\n"
        "  seglib train ffpp.csv --mode demo --view eyes\n",
    )
    parser.add_argument("manifest", type=Path, help="a CSV that `seglib manifest` wrote")
    parser.add_argument(
        "--view", metavar="NAME", help="a part, all, cls or 'random PART' (default: the recipe's)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: VIEW.safetensors, its card beside it"
    )
    parser.add_argument(
        "--seeds",
        type=common.positive,
        default=1,
        metavar="N",
        help="several probes in one file, each of which leaves another part of the people out, "
        "to see how much depends on who was trained on (default: one probe on everybody)",
    )
    common.add_recipe(parser, "paper")
    common.add_stores(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and write the probe."""
    from seglib import evaluation, manifest, probing, shortcuts
    from seglib.store import Store

    recipe, table = common.chosen(arguments), manifest.read(arguments.manifest)
    view = arguments.view or recipe.region
    store = Store.find(arguments.store, recipe)
    seeds = range(arguments.seeds) if arguments.seeds > 1 else ()
    found = shortcuts.hunt(table[table.split == "train"], store)
    print(shortcuts.warning(found), file=sys.stderr)
    probes = evaluation.train(table, store, view, recipe, seeds)
    card = evaluation.card(table, store, view, recipe) | {"shortcuts": shortcuts.card(found)}
    path = arguments.out or Path(f"{view.replace(' ', '-')}.safetensors")
    probing.save(probes, path, card)
    strengths = ", ".join(f"{probe.C:g}" for probe in probes)
    print(f"{view}: trained on {card['videos']} videos, {card['fakes']} of them fake, of "
          f"{card['groups']} groups; C = {strengths}\n{recipe}\n{path}")  # fmt: skip
    return common.OK
