"""``seglib score``: what the probes say of pictures and videos, face by face."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

from scipy.special import expit

from seglib import files
from seglib.cli import common


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = common.parser(
        commands,
        "score",
        "score pictures and videos: part by part, with intervals, or the reason why not",
        "Find every face of every picture and video, read each of its parts, and print what the "
        "probes say: a probability with its interval, or why there is none. The demo's probes, "
        "which are taken unless --probe names others, know the demo's forgeries only: read the "
        "warnings. Files that cannot be scored are listed on stderr and stop nothing.",
        "  seglib score me.jpg\n"
        "  seglib score holiday/ clip.mp4 --report report.html\n"
        "  seglib score 'frames/*.png' --csv scores.csv\n"
        "  seglib score clip.mp4 --frames 64 --json scores.json\n"
        "  seglib score suspect.jpg --probe mouth.safetensors\n",
        "  3    score: some files got no score, the others did; stderr lists them\n",
    )
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="pictures, videos, folders or quoted patterns"
    )
    parser.add_argument(
        "--probe",
        type=Path,
        metavar="FILE",
        help="a probe file, or a folder of several parts' (default: the demo's)",
    )
    parser.add_argument(
        "--frames",
        type=common.positive,
        metavar="N",
        help="evenly spaced frames of a video to look at (default: 32)",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write one HTML page")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row a face and part")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the same as JSON; - for stdout")
    common.add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table, write what was asked for."""
    for path in (arguments.report, arguments.csv, arguments.json):
        if path is not None and path != Path("-"):
            files.check_writable(path)  # before the work, not after
    with common.loading():
        from seglib import panel, scoring  # heavy: torch

        probes = panel.load(arguments.probe or scoring.OWN)
        paths = scoring.found(arguments.paths)
        common.warn(arguments.probe or scoring.OWN, probes.suspicious)
        scorer = scoring.Scorer(probes, arguments.device, arguments.frames or scoring.FRAMES)
    verdicts, interrupted = [], False
    try:
        for verdict in scorer.all(paths, len(paths)):
            pictured = arguments.report and len(verdicts) < scoring.PICTURED
            verdicts.append(verdict if pictured else verdict.light())
    except KeyboardInterrupt:
        interrupted = True  # what was looked at by then is told all the same
    if verdicts and arguments.json != Path("-"):
        print(_table(verdicts, probes))
    _write(arguments, verdicts)
    if arguments.report:
        from seglib import report

        report.write(verdicts, probes, arguments.report)
    code = _told(verdicts)
    if interrupted:
        raise KeyboardInterrupt(f": {len(verdicts)} of {len(paths)} files were looked at.")
    return code


def _table(verdicts, probes) -> str:
    """A line a face: what all parts say together, then each part."""
    import pandas as pd

    lines = []
    for verdict in verdicts:
        name = files.printable(verdict.path)
        if not verdict.tracks:
            lines.append({"file": name, "face": "-"})
        for track in verdict.tracks:
            said = {part: _said(one) for part, one in reversed(track.estimates.items())}
            lines.append({"file": name, "face": str(track.number), **said})
    table = pd.DataFrame(lines).fillna("-").to_string(index=False)
    return (
        f"{table}\n\nprobability of fake [95 % interval], at even odds; ! unlike the training faces"
        f"; * above the threshold\n{_thresholds(verdicts)}\n{probes.recipe}"
    )


def _thresholds(verdicts) -> str:
    """Each part's threshold, and how many held-out bona fide faces lie above it."""
    estimates = (track.estimates for verdict in verdicts for track in verdict.tracks)
    lines = []
    for part, one in next(estimates, {}).items():
        rate, low, high = one.false_positive_rate
        share = f"{rate:.0%} [{low:.0%}, {high:.0%}]" if rate == rate else "an unknown share"
        lines.append(
            f"{part}: threshold {expit(one.threshold):.2f}; {share} of held-out bona fide faces of "
            "the training's kind lie above it"
        )
    return "\n".join(lines)


def _said(one) -> str:
    if one.reason:
        return one.reason.partition(":")[0]
    low, high = one.interval
    interval = f"[{low:.2f}, {high:.2f}]" if low == low else "[unknown]"
    return f"{one.probability:.2f} {interval}{'*' if one.above else ''}{'!' if one.outside else ''}"


def _write(arguments: argparse.Namespace, verdicts) -> None:
    from seglib import scoring

    if arguments.csv:
        import pandas as pd

        rows = [row for verdict in verdicts for row in scoring.records(verdict)]
        with files.replacing(arguments.csv) as part:
            pd.DataFrame(rows).to_csv(part, index=False)
    if arguments.json:
        rows = [row for verdict in verdicts for row in scoring.records(verdict, curves=True)]
        sound = [{key: _finite(value) for key, value in row.items()} for row in rows]
        text = json.dumps(sound, indent=1, ensure_ascii=False)
        if arguments.json == Path("-"):
            print(text)
            return
        with files.replacing(arguments.json) as part:
            part.write_text(text + "\n", encoding="utf-8")


def _finite(value):
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _told(verdicts) -> int:
    """List on stderr what got no score; the exit code."""
    broken = [one for one in verdicts if not one.scored]
    for one in broken:
        reasons = [one.reason, *(e.reason for t in one.tracks for e in t.estimates.values())]
        said = next(filter(None, reversed(reasons)), "nothing was looked at")
        print(f"seglib: {files.printable(one.path)}: {files.printable(said)}", file=sys.stderr)
    if broken:
        scored = len(verdicts) - len(broken)
        print(f"seglib: {scored} of {len(verdicts)} files scored, {len(broken)} not.",
              file=sys.stderr)  # fmt: skip
    if not broken:
        return common.OK
    return common.FAILED if len(broken) == len(verdicts) else common.PARTLY
