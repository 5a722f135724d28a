"""``seglib card``: what a probe was trained on, how well it does, and its limits."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

from seglib import files
from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "card",
        "print the model card of a probe",
        "Print what the probes of a file or folder were trained on, by which recipe and networks, "
        "how well they do on people held out, and their limits.",
        "  seglib card                        the demo's probes\n"
        "  seglib card mouth.safetensors\n"
        "  seglib card mouth.safetensors --json\n",
    )
    parser.add_argument("path", type=Path, nargs="?", metavar="FILE", help="default: the demo's")
    parser.add_argument("--json", action="store_true", help="print the whole card as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the card."""
    from seglib import panel, scoring

    found = panel.load(arguments.path or scoring.OWN)
    if arguments.json:
        print(json.dumps(found.card, indent=1))
        return common.OK
    for name, said in found.told():
        print(textwrap.fill(files.printable(f"{name}: {said}"), 96, subsequent_indent="    "))
    print(found.recipe)
    return common.OK
