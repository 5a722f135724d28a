"""``seglib manifest``: name every video of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from seglib.cli import common

LISTS = ("methods",)  # options that take several values


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "manifest",
        "name every video of a data set, with its label, split and people",
        "Read a data set's own index files and folders and write one row a video. What is missing "
        "or was not expected is listed; it stops nothing.",
        "  seglib manifest DATA/FaceForensics++\n"
        "  seglib manifest DATA/FaceForensics++ --option compression=c40 --out ffpp-c40.csv\n"
        "  seglib manifest DATA/FaceForensics++ --option methods=Deepfakes,Face2Face\n"
        "  seglib manifest DATA/Celeb-DF-v2 --out celebdf.csv\n"
        "  seglib manifest my-videos            a folder with real/ and fake/ in it\n"
        "  seglib manifest my-videos.csv        columns path and label\n",
    )
    parser.add_argument("root", type=Path, help="folder of the data set, or a CSV")
    parser.add_argument(
        "--dataset", metavar="NAME", help="which data set it is (default: told by its folders)"
    )
    parser.add_argument(
        "--option",
        dest="options",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an option of the data set's adapter, say compression=c40; a list with commas",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("manifest.csv"),
        metavar="FILE",
        help="default: %(default)s",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Scan, print counts and problems, write the manifest."""
    from seglib import datasets, files, manifest

    options = dict(_option(text) for text in arguments.options)
    found = datasets.scan(arguments.root, arguments.dataset, **options)
    manifest.write(found.table, arguments.out)
    print(manifest.counts(found.table).to_string())
    if len(found.expected):
        print(f"\nagainst the full data set:\n{found.expected.to_string(index=False)}")
    if len(found.problems):
        shown = found.problems.groupby("kind").head(5)
        print(f"\n{len(found.problems)} problems, the first of each kind:")
        print(shown.to_string(index=False, max_colwidth=100))
        problems = arguments.out.with_name(f"{arguments.out.stem}-problems.csv")
        with files.replacing(problems) as part:
            found.problems.to_csv(part, index=False)
        print(f"all of them: {problems}")
    print(f"\n{len(found.table)} videos: {arguments.out}")
    return common.OK


def _option(text: str) -> tuple[str, str | list[str]]:
    name, equals, value = text.partition("=")
    if not equals:
        raise common.BadDecision(f"--option {text}: expected NAME=VALUE, say compression=c40.")
    return name, value.split(",") if name in LISTS else value
