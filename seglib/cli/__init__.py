"""The command line. A command is a module with two functions: `add` declares it, `run` does it.

`run` takes the parsed arguments and returns the exit code. What a module raises on purpose, a
`SeglibError`, becomes its message on stderr; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from seglib import __version__
from seglib.cli import (
    card,
    demo,
    evaluate,
    export,
    extract,
    manifest,
    preflight,
    reproduce,
    score,
    shortcuts,
    train,
    verify,
)
from seglib.cli.common import EXIT_CODES, FAILED, INTERRUPTED, OK, USAGE
from seglib.errors import SeglibError, UnknownName, unknown_name

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "build_parser", "main"]

COMMANDS = (
    preflight, demo, score, manifest, shortcuts, extract, train, evaluate, card, export, reproduce,
    verify,
)  # fmt: skip


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
        epilog="examples:\n"
        "  seglib preflight --fetch                  weights and faces of the demo\n"
        "  seglib demo                               measure it\n"
        "  seglib score me.jpg --report report.html  what its probes say of a picture or video\n"
        "  seglib preflight paper --data DATA        what the paper's configuration lacks here\n"
        "  seglib reproduce --data DATA              from data to table, as far as it goes\n"
        "  seglib verify                             is every published number what it says?\n"
        "  seglib COMMAND --help                     more examples\n\n" + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"seglib {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    parser.set_defaults(names=list(commands.choices))
    return parser


def _check_command(argv: list[str], parser: argparse.ArgumentParser) -> None:
    """Meet a mistyped command with a suggestion, which argparse before Python 3.14 lacks."""
    known = parser.get_default("names")
    if argv and not argv[0].startswith("-") and argv[0] not in known:
        raise unknown_name("command", argv[0], known)
