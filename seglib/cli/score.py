"""``seglib score``: what the probes say of pictures and videos, face by face."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

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
            path.parent.mkdir(parents=True, exist_ok=True)  # before the work, not after
    with common.loading():
        from seglib import panel, scoring  # heavy: torch

        probes = panel.load(arguments.probe or scoring.OWN)
        paths = scoring.found(arguments.paths)
        scorer = scoring.Scorer(probes, arguments.device, arguments.frames or scoring.FRAMES)
    verdicts, interrupted = [], False
    try:
        for verdict in scorer.all(paths, len(paths)):
            verdicts.append(verdict if arguments.report else verdict.light())
    except KeyboardInterrupt:
        interrupted = True  # what was scored by then is written all the same
    rows = [row for verdict in verdicts for row in scoring.records(verdict)]
    if arguments.json != Path("-"):
        print(_table(verdicts, probes))
    _write(arguments, rows)
    if arguments.report:
        from seglib import report

        report.write(verdicts, probes, arguments.report)
    if interrupted:
        raise KeyboardInterrupt(f": {len(verdicts)} of {len(paths)} files were scored and written.")
    return _told(verdicts)


def _table(verdicts, probes) -> str:
    """A line a face: what all parts say together, then each part."""
    import pandas as pd

    lines = []
    for verdict in verdicts:
        name = common.printable(verdict.path)
        if not verdict.tracks:
            lines.append({"file": name, "face": "-"})
        for track in verdict.tracks:
            said = {part: _said(one) for part, one in reversed(track.estimates.items())}
            lines.append({"file": name, "face": str(track.number), **said})
    table = pd.DataFrame(lines).fillna("-").to_string(index=False)
    return (
        f"{table}\n\nprobability of fake [95 % interval], at even odds; ! unlike the training faces"
        f"; * above the probe's threshold\n{probes.recipe}"
    )


def _said(one) -> str:
    if one.reason:
        return one.reason.partition(":")[0]
    low, high = one.interval
    marks = f"{'*' if one.above else ''}{'!' if one.outside else ''}"
    return f"{one.probability:.2f} [{low:.2f}, {high:.2f}]{marks}"


def _write(arguments: argparse.Namespace, rows: list[dict]) -> None:
    if arguments.csv:
        import pandas as pd

        pd.DataFrame(rows).to_csv(arguments.csv, index=False)
    if arguments.json:
        sound = [{key: _finite(value) for key, value in row.items()} for row in rows]
        text = json.dumps(sound, indent=1, ensure_ascii=False)
        if arguments.json == Path("-"):
            print(text)
        else:
            arguments.json.write_text(text + "\n", encoding="utf-8")


def _finite(value):
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _told(verdicts) -> int:
    """List on stderr what got no score; the exit code."""
    broken = [one for one in verdicts if not one.tracks]
    for one in broken:
        print(f"seglib: {common.printable(one.reason)}", file=sys.stderr)
    if broken:
        scored = len(verdicts) - len(broken)
        print(f"seglib: {scored} of {len(verdicts)} files scored, {len(broken)} not.",
              file=sys.stderr)  # fmt: skip
    if not broken:
        return common.OK
    return common.FAILED if len(broken) == len(verdicts) else common.PARTLY
