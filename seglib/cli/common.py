"""What several commands share: exit codes, how a recipe is chosen, where things are kept."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seglib import recipe
from seglib.errors import SeglibError, unknown_name
from seglib.recipe import BadDecision, Recipe

OK, FAILED, USAGE, PARTLY, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = """\
exit codes:
  0    done; for preflight: everything is there
  1    something is missing or went wrong; stderr says what and what to do
  2    the command line was not understood
  130  interrupted; stderr says where it left off
"""


class EmptySplit(SeglibError):
    """The manifest has no video in the split that was asked for."""


STORES = Path("descriptors")


def parser(
    commands: argparse._SubParsersAction,
    name: str,
    short: str,
    long: str,
    examples: str,
    more: str = "",
) -> argparse.ArgumentParser:
    """A command with its help: what it does, examples, exit codes, and `more` of these."""
    return commands.add_parser(
        name,
        help=short,
        description=long,
        epilog=f"examples:\n{examples}\n{EXIT_CODES}{more}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_recipe(parser: argparse.ArgumentParser, mode: str) -> None:
    """Declare ``--mode`` and ``--set``."""
    parser.add_argument(
        "--mode", default=mode, choices=list(recipe.MODES), help=f"the recipe (default: {mode})"
    )
    add_changes(parser)


def add_changes(parser: argparse.ArgumentParser) -> None:
    """Declare ``--set``."""
    parser.add_argument(
        "--set",
        dest="changes",
        metavar="FIELD=VALUE",
        action="append",
        default=[],
        help="change one decision of the recipe, say input_size=256; may be given several times",
    )


def add_stores(parser: argparse.ArgumentParser) -> None:
    """Declare ``--store``."""
    parser.add_argument(
        "--store",
        default=STORES,
        metavar="DIR",
        help=f"where descriptor stores are kept: a folder, or s3://bucket/folder and the like "
        f"(default: {STORES})",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare ``--device``."""
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: CUDA where there is one)"
    )


def add_split(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Declare ``--split``."""
    parser.add_argument(
        "--split",
        metavar="NAME",
        default=default,
        help=f"train, val, test or all (default: {default})",
    )


def videos(arguments: argparse.Namespace):
    """The manifest that was named, of one split or of all.

    Raises
    ------
    UnknownName, EmptySplit
    """
    from seglib import manifest

    table = manifest.read(arguments.manifest)
    if arguments.split == "all":
        return table
    if arguments.split not in manifest.SPLITS:
        raise unknown_name("split", arguments.split, (*manifest.SPLITS, "all"))
    found = table[table.split == arguments.split]
    if not len(found):
        splits = table.split.value_counts().to_dict()
        raise EmptySplit(
            f"{arguments.manifest} has no video in the split {arguments.split!r}; expected some. "
            f"It has {splits}. Choose another one with --split."
        )
    return found


def chosen(arguments: argparse.Namespace) -> Recipe:
    """The recipe that ``--mode`` and ``--set`` ask for."""
    return changed(recipe.MODES[arguments.mode](), arguments.changes)


def changed(decisions: Recipe, changes: list[str]) -> Recipe:
    """A recipe with ``FIELD=VALUE`` changes.

    Raises
    ------
    UnknownName, BadDecision
    """
    fields = {one.name: getattr(decisions, one.name) for one in dataclasses.fields(decisions)}
    values = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise BadDecision(f"--set {change}: expected FIELD=VALUE, say --set input_size=256.")
        if name not in fields:
            raise unknown_name("recipe field", name, fields)
        values[name] = _typed(name, text, fields[name])
    return decisions.but(**values)


def _typed(name: str, text: str, now: object) -> object:
    """A value of the same type as the one that the recipe has now."""
    if name == "patch_rule":  # a name, or a share
        with suppress(ValueError):
            return float(text)
    if isinstance(now, str):
        return text
    try:
        if isinstance(now, tuple):
            return tuple(map(float, json.loads(f"[{text}]")))
        return type(now)(text)
    except (ValueError, TypeError) as error:
        raise BadDecision(
            f"--set {name}={text}: {text!r} is no {type(now).__name__}; expected something like "
            f"{name}={now}."
        ) from error


@contextmanager
def resumable(store: str | Path) -> Iterator[None]:
    """For an extraction: what an interrupted one says."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f": every video that was complete is kept in {store}; the same command goes on from "
            "there."
        ) from None


@contextmanager
def loading() -> Iterator[None]:
    """For the imports of a short command: none of what they make is garbage before the end.

    Python's collector would walk through all objects of torch again and again, also at exit.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def warn(path: Path, told: list[str]) -> None:
    """Say which side channels told the fakes of a probe's training, see `panel.suspicious`."""
    if told:
        print(f"{path}: in its training {', '.join(told)} alone told the fakes; it may have "
              "learned that instead, see `seglib card`", file=sys.stderr)  # fmt: skip


def positive(text: str) -> int:
    """The type of an argument that counts something."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive whole number")
    return int(text)
