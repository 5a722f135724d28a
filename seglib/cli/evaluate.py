"""``seglib evaluate``: probes, and other people's scores, on the same videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from seglib import files
from seglib.cli import common
from seglib.errors import SeglibError
from seglib.recipe import KINDS


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
        "that both have scored. With --robustness, each probe is also tested on the same videos "
        "compressed, scaled, covered and otherwise perturbed; they are extracted as needed, and an "
        "interrupted run goes on where it was.",
        "  seglib evaluate celebdf.csv --probe mouth.safetensors cls.safetensors\n"
        "  seglib evaluate celebdf.csv --probe mouth.safetensors --scores LipForensics=lip.csv\n"
        "  seglib evaluate dfd.csv --probe mouth.safetensors --set face_choice=mask\n"
        "  seglib evaluate ffpp.csv --probe mouth.safetensors --out table.csv\n"
        "  seglib evaluate ffpp.csv --probe mouth.safetensors --robustness\n"
        "  seglib evaluate ffpp.csv --probe mouth.safetensors --robustness jpeg h264:3\n",
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
    parser.add_argument(
        "--robustness",
        nargs="*",
        metavar="KIND[:LEVEL]",
        help=f"perturb the videos: all kinds at five levels, or these; {', '.join(KINDS)}",
    )
    common.add_split(parser, "test")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the table as CSV")
    common.add_changes(parser)
    common.add_stores(parser)
    common.add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table and its sentences."""
    import pandas as pd

    from seglib import evaluation

    if arguments.out:
        files.check_writable(arguments.out)  # before the work, not after
    table = common.videos(arguments)
    if arguments.robustness is not None:
        return _robustness(table, arguments)
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
    from seglib import evaluation
    from seglib.store import Store

    probes, card, recipe = _loaded(path, arguments)
    store = Store.find(arguments.store, recipe, card["networks"])
    evaluation.fits(card, store.recipe, store.networks)
    return path.stem, evaluation.detect(probes, store, card["view"], table.video_uid)


def _loaded(path: Path, arguments: argparse.Namespace):
    """The probes of one file, their card, and the recipe to describe videos by."""
    from seglib import panel, probing
    from seglib.recipe import Recipe

    probes, card = probing.load(path)
    try:
        trained = Recipe(**card["recipe"])
        card["view"], card["networks"]
        common.warn(path, panel.suspicious(card))
    except (TypeError, KeyError, AttributeError) as error:
        raise probing.BadProbe(
            f"the card of {path} lacks what an evaluation needs, or is of another version "
            f"({error}); expected view, recipe and networks. Train the probe again."
        ) from error
    return probes, card, common.changed(trained, arguments.changes)


def _robustness(table, arguments: argparse.Namespace) -> int:
    """Score perturbed videos by each probe, print and keep one table."""
    import pandas as pd

    from seglib import evaluation, extraction, robustness
    from seglib.store import at_most

    decisions = robustness.chosen(arguments.robustness)
    if arguments.scores or not arguments.probe:
        raise BadDetectors(
            f"--robustness with {len(arguments.probe)} probes and {len(arguments.scores)} files of "
            "scores; expected probes alone: others' software has not seen the perturbed videos. "
            "Give --probe FILE, and --scores in a run of its own."
        )
    if any(change.startswith("perturbation=") for change in arguments.changes):
        raise BadDetectors(
            "--set perturbation=... with --robustness, which tests untouched videos and several "
            "perturbations; expected one of the two. Name those that you want behind --robustness."
        )
    found, networks = {}, {}
    for path in arguments.probe:
        probes, card, recipe = _loaded(path, arguments)
        key = recipe.descriptor_key  # probes of several parts share networks, and their stores
        if key not in networks:
            networks[key] = extraction.Extractor(recipe, arguments.device)
        extractor = networks[key]
        evaluation.fits(card, recipe, extractor.networks)
        size = at_most(len(table) * recipe.frames, extractor.backbone.width, recipe) / 1e9
        print(f"{path.stem}: {len(table)} videos, untouched and under {len(decisions)} "
              f"perturbations; the stores take {size * (len(decisions) + 1):.1f} GB at most",
              file=sys.stderr)  # fmt: skip
        case = table, extractor, arguments.store, probes, card["view"], decisions
        with common.resumable(arguments.store):
            found[path.stem] = robustness.of_videos(*case)
        print(f"\n{path.stem}\n{robustness.worded(found[path.stem]).to_string()}")
    drawn = next(iter(found.values())).attrs["drawn"]
    print(f"\nintervals resample {drawn}; a change is that of videos with a score in both; "
          "no_face, unreadable and no_part are shares of frames")  # fmt: skip
    if arguments.out:
        with files.replacing(arguments.out) as part:
            pd.concat(found, names=["probe"]).to_csv(part)
    return common.OK
