"""``seglib evaluate``: probes, and other people's scores, on the same videos."""

from __future__ import annotations

import argparse
from pathlib import Path

from seglib import files
from seglib.cli import common
from seglib.errors import SeglibError


class BadDetectors(SeglibError):
    """Nothing to evaluate, or two detectors of one name."""


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "evaluate",
        "score a manifest's videos by probes, beside other detectors' scores",
        "A video's score is the mean logit of its frames. Every AUC comes with its interval over "
        "groups of people, its coverage, and the lead of the first detector over it on the videos "
        "that both have scored.",
        "  seglib evaluate celebdf.csv --probe mouth.safetensors cls.safetensors\n"
        "  seglib evaluate celebdf.csv --probe mouth.safetensors --scores LipForensics=lip.csv\n"
        "  seglib evaluate dfd.csv --probe mouth.safetensors --set face_choice=mask\n"
        "  seglib evaluate ffpp.csv --probe mouth.safetensors --out table.csv\n",
    )
    parser.add_argument("manifest", type=Path, help="a CSV that `seglib manifest` wrote")
    parser.add_argument("--probe", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument(
        "--scores",
        nargs="+",
        default=[],
        metavar="NAME=CSV",
        help="another detector's scores: columns video_uid and score, a probability of fake or "
        "log-odds",
    )
    common.add_split(parser, "test")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")
    common.add_changes(parser)
    common.add_stores(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table and its sentences."""
    import pandas as pd

    from seglib import evaluation

    if arguments.out:
        files.check_writable(arguments.out)  # before the work, not after
    table = common.videos(arguments)
    found = [_probed(path, table, arguments) for path in arguments.probe]
    for scores in arguments.scores:
        name, equals, path = scores.partition("=")
        if not equals:
            raise BadDetectors(f"--scores {scores}: expected NAME=CSV, say Xception=x.csv.")
        found.append((name, evaluation.Detector(evaluation.read_scores(path, table))))
    detectors = dict(found)
    if not detectors or len(detectors) < len(found):
        raise BadDetectors(
            f"{[name for name, _ in found]} to evaluate; expected at least one detector, each "
            "with its own name. Give --probe FILE or --scores NAME=CSV, or rename a file."
        )
    scores, drawn = evaluation.together(table, detectors)
    first = next(iter(detectors))
    measured = scores.table(first)
    print(evaluation.verdict(measured))
    print(f"\n{_everything(scores, detectors).to_string()}")
    methods = scores.by_method(first)
    if len(methods) > 1:
        print(f"\n{first}, by how a fake was made")
        print(pd.Series(methods).astype(str).to_string())
    if measured.coverage.min() < 1:
        print("\nAUC where a video without a score is dropped, is scored 0.5, or is the worst case")
        print(scores.abstentions().to_string(float_format="%.3f"))
    print(f"\nintervals resample {drawn}; videos without a score are left out, see coverage")
    if arguments.out:
        with files.replacing(arguments.out) as part:
            measured.to_csv(part)
    return common.OK


def _everything(scores, detectors: dict):
    """One row a detector: every metric of its videos, and the AUC of single frames."""
    import pandas as pd

    from seglib import evaluation
    from seglib.items import OneClass

    rows = {}
    for name, one in detectors.items():
        try:
            rows[name] = scores.measures(name)
            if one.frames is not None:
                rows[name]["auc of frames"] = evaluation.frame_auc(scores, one)
        except OneClass:
            rows[name] = {}
    return pd.DataFrame(rows).T.astype(str).replace("nan", "none")


def _probed(path: Path, table, arguments: argparse.Namespace):
    """Name and scores of the probes of one file."""
    from seglib import evaluation, probing
    from seglib.recipe import Recipe
    from seglib.store import Store

    probes, card = probing.load(path)
    try:
        trained = Recipe(**card["recipe"])
        view, networks = card["view"], card["networks"]
    except (TypeError, KeyError) as error:
        raise probing.BadProbe(
            f"the card of {path} lacks what an evaluation needs, or is of another version "
            f"({error}); expected view, recipe and networks. Train the probe again."
        ) from error
    changed = common.changed(trained, arguments.changes)
    store = Store.find(arguments.store, changed, networks)
    evaluation.fits(card, store)
    return path.stem, evaluation.detect(probes, store, view, table.video_uid)
