"""``seglib export``: a probe as a folder that a model hub accepts."""

from __future__ import annotations

import argparse
from pathlib import Path

from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "export",
        "write probes, card and licence notes to a folder for a model hub",
        "Write the probes as safetensors and JSON, a README.md with the model card, its limits and "
        "licence notes; with --onnx also a graph for each part, pooling included.",
        "  seglib export hub/\n"
        "  seglib export hub/ --onnx\n"
        "  seglib export hub/ --probe mouth.safetensors\n",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where to, empty or new")
    parser.add_argument(
        "--probe", type=Path, metavar="FILE", help="a probe file or folder (default: the demo's)"
    )
    parser.add_argument("--onnx", action="store_true", help="also write ONNX graphs")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export, and list what was written."""
    from seglib import export, panel, scoring

    probes = panel.load(arguments.probe or scoring.OWN)
    for path in export.write(probes, arguments.folder, arguments.onnx):
        print(f"{path}  {path.stat().st_size / 1e3:,.0f} kB")
    return common.OK
