"""What was found in pictures and videos, as one page that needs nothing else.

Pictures, numbers, limits and the model's card stand in a single HTML file, without a script and
without a network. Every name and reason is escaped by the template engine: a file's name is the
one thing here that a stranger wrote. Taught in chapter 08.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from IPython.display import HTML, display
from jinja2 import Environment, PackageLoader
from scipy.special import expit

from seglib import __version__, figures, files, novelty, scoring
from seglib.errors import SeglibError
from seglib.panel import OVERALL, Panel
from seglib.probing import NOTES
from seglib.scoring import PICTURED, Estimate, Scorer, Track, Verdict

SIDE = 176  # pixels of a picture on the page
READING = (
    "Probability: the probe's calibrated score, at even odds of bona fide and fake. Its interval "
    "says how much it moves when other people are trained on, and other frames looked at; it does "
    "not cover kinds of forgery that nobody trained on.",
    "Threshold: chosen on the training people. Beside it stands how many of their bona fide faces "
    "lay above it when they were held out: so often a genuine face is called fake.",
    "Distance: how far the face lies from the training ones, in units that "
    f"{novelty.USUAL:.0%} of the held-out faces stay within. Above 1 the face is unlike all that "
    "was trained on: do not trust the row.",
    "Heat: what each token added to its part's score, red towards fake and blue towards bona fide. "
    "The shares of a part add up, with a constant, to its log-odds in the frame shown, exactly.",
    "Several faces of a video are followed by place and size alone: after a cut, one person's face "
    "may go on another's line.",
    "Contextual tokens have seen the whole crop before the part is kept: a share says which token "
    "the number was read from, and not which pixels caused it. Chapter 5 measures the difference.",
)


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("seglib"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )


class WidgetsMissing(SeglibError):
    """The package that draws the upload button is not installed."""


def page(verdicts: Sequence[Verdict], panel: Panel) -> str:
    """A whole HTML page."""
    return _templates().get_template("report.html").render(_content(verdicts, panel))


def write(verdicts: Sequence[Verdict], panel: Panel, path: Path) -> None:
    """The same into a file, whole or not at all."""
    with files.replacing(path) as part:
        part.write_text(page(verdicts, panel), encoding="utf-8")


def show(verdicts: Verdict | Sequence[Verdict], panel: Panel) -> None:
    """The same inside a notebook, which may be published: files without their folders."""
    several = [verdicts] if isinstance(verdicts, Verdict) else verdicts
    several = [replace(one, path=Path(one.path.name)) for one in several]
    fragment = _templates().get_template("fragment.html")
    display(HTML(fragment.render(_content(several, panel))))


def upload(scorer: Scorer) -> None:
    """A button, in Lab and on Colab, that scores what is chosen and shows the report below it.

    In the published book, which runs nothing, a sentence stands in its place.

    Raises
    ------
    WidgetsMissing
    """
    if "SEGLIB_PLOTLYJS" in os.environ:  # set by the book's builder, see `figures.show_plot`
        display(
            HTML("<p><em>Run this chapter, and a button for your own file stands here.</em></p>")
        )
        return
    try:
        import ipywidgets
    except ImportError as error:
        raise WidgetsMissing(
            "the package ipywidgets cannot be imported; expected it, since it draws the button. "
            "Run: pip install 'seglib[lab]', or score a file by its path: scoring.score(path)"
        ) from error

    button = ipywidgets.FileUpload(accept="image/*,video/*", multiple=True)
    below = ipywidgets.Output()

    def chosen(change: dict) -> None:
        with below:
            below.clear_output()
            for name, content in uploaded(change["new"]):
                show(scored(scorer, name, content), scorer.panel)

    button.observe(chosen, "value")
    display(button, below)


def uploaded(value: dict | Sequence[dict]) -> list[tuple[str, bytes]]:
    """Names and contents of chosen files, as ipywidgets 8 gives them, or 7, which Colab has."""
    if isinstance(value, dict):
        return [(name, bytes(one["content"])) for name, one in value.items()]
    return [(one["name"], bytes(one["content"])) for one in value]


def scored(scorer: Scorer, name: str, content: bytes) -> Verdict:
    """The verdict on a file that is in memory; nothing of it stays on the disk."""
    with tempfile.TemporaryDirectory(prefix="seglib-") as folder:
        path = Path(folder) / f"file{Path(name).suffix}"
        path.write_bytes(content)
        return replace(scorer(path), path=Path(name))


# -- what the template asks for -----------------------------------------------------------------


def _content(verdicts: Sequence[Verdict], panel: Panel) -> dict:
    chief = OVERALL if panel.combination else panel.views[0]
    rows = [
        {"name": files.printable(one.path), "face": track.number} | _numbers(track.estimates[chief])
        for one in verdicts
        for track in one.tracks
    ]
    pictured = [one for one in verdicts if one.tracks and one.tracks[0].shown is not None][
        :PICTURED
    ]
    left_out = len(rows) - sum(len(one.tracks) for one in pictured)
    return {
        "version": __version__,
        "limits": panel.card.get("limits", NOTES["limits"]),
        "reading": READING,
        "rows": rows,
        "broken": [
            {"name": files.printable(one.path), "reason": one.reason}
            for one in verdicts
            if not one.tracks
        ],
        "files": [_file(one, chief) for one in pictured],
        "left_out": left_out,
        "shown_files": PICTURED,
        "suspicious": panel.suspicious,
        "card": panel.told(),
        "recipe": str(panel.recipe),
    }


def _numbers(one: Estimate) -> dict:
    return scoring.numbers(one) | {
        "bounded": not np.isnan(one.low),
        "distance": "unknown" if np.isnan(one.distance) else f"{one.distance:.2f}",
    }


def _file(verdict: Verdict, chief: str) -> dict:
    seen = len(verdict.asked)
    what = f"{seen} of {verdict.length} frames were looked at" if verdict.is_video else "A picture"
    faces = len(verdict.tracks)
    return {
        "name": files.printable(verdict.path),
        "what": f"{what}; {faces} face{'' if faces == 1 else 's'} found.",
        "tracks": [_track(one, verdict, chief) for one in verdict.tracks],
        "reasons": list(verdict.reasons.items()),
    }


def _track(track: Track, verdict: Verdict, chief: str) -> dict:
    own = track.estimates[chief]
    where = f", seen in {len(track.frames)} of {len(verdict.asked)} frames"
    parts = []
    for part, one in track.estimates.items():
        rate, shares = one.false_positive_rate[0], track.shown.shares.get(part)
        parts.append(
            _numbers(one)
            | {"part": part, "rate": f"{rate:.0%}" if rate == rate else "unknown"}
            | {"tokens": "" if shares is None else str(np.isfinite(shares).sum())}
        )
    return {
        "title": f"Face {track.number}{where if verdict.is_video else ''}",
        "outside": _outside(own),
        "pictures": _pictures(track, not verdict.is_video),
        "sentence": sentence(own),
        "parts": parts,
        "timeline": _timeline(track, verdict, chief)
        if verdict.is_video and not own.reason
        else None,
    }


def sentence(one: Estimate) -> str:
    """Probability, interval, threshold and false-positive rate, in one sentence."""
    if one.reason:
        return f"No score: {one.reason}."
    low, high = one.interval
    side = "above" if one.above else "below"
    interval = f"95 % interval {low:.2f} to {high:.2f}" if low == low else "interval unknown"
    said = (
        f"Probability of fake {one.probability:.2f}, {interval}: {side} the threshold of "
        f"{expit(one.threshold):.2f}"
    )
    rate, least, most = one.false_positive_rate
    if rate != rate:
        return f"{said}, whose false-positive rate is not known."
    return (
        f"{said}, above which {rate:.0%} [{least:.0%}, {most:.0%}] of the training's bona fide "
        "faces lay when they were held out."
    )


def _outside(one: Estimate) -> str:
    if not one.outside:
        return ""
    return (
        f"Its distance is {one.distance:.1f} times the one that {novelty.USUAL:.0%} of the "
        "held-out faces stay within. The probes were never taught such a face: a number here is "
        "arithmetic, no finding."
    )


def _pictures(track: Track, alone: bool) -> list[dict]:
    shown = track.shown
    found = [
        (
            "the picture" if alone else f"frame {shown.frame}",
            "The whole picture, a box around the face.",
            figures.boxed(shown.picture, shown.box),
        ),
        ("the face, upright", "The face as the networks saw it.", shown.crop),
        (
            "its parts",
            "The face with its parts coloured: brows, eyes, nose, lips, skin.",
            figures.overlay(shown.crop, shown.label_map, 0.45),
        ),
    ]
    told = {part: one for part, one in shown.shares.items() if not track.estimates[part].reason}
    if told:
        shares = np.stack(list(told.values()))
        kept, most = np.isfinite(shares).any(0), np.nanmax(np.abs(shares), initial=0.0)
        heat = np.where(kept, np.nansum(shares, axis=0), np.nan)
        found += [
            ("the tokens that were read", f"{kept.sum()} patches are kept, the others faint.",
             figures.patches(shown.crop, kept)),
            (f"each token's share, at most {most:.2f} log-odds", _told(told),
             figures.heat(shown.crop, heat)),
        ]  # fmt: skip
    return [
        {"caption": caption, "alt": alt, "data": figures.data_uri(image, SIDE, "JPEG")}
        for caption, alt, image in found
    ]


def _told(shares: dict) -> str:
    sums = ", ".join(f"{part} {np.nansum(one):+.2f}" for part, one in shares.items())
    return f"Heat map of the tokens' shares; their sums in log-odds: {sums}."


def _timeline(track: Track, verdict: Verdict, chief: str) -> dict:
    """Where points and labels stand in a drawing of 640 x 150."""
    last = max(verdict.length - 1, 1)
    curve = expit(track.curves[chief])
    seen = ~np.isnan(curve)
    x, y = 30 + 600 * track.frames[seen] / last, 120 - 110 * curve[seen]
    dots = [(round(float(a), 1), round(float(b), 1)) for a, b in zip(x, y, strict=True)]
    told = ", ".join(f"{f}: {p:.2f}" for f, p in zip(track.frames[seen], curve[seen], strict=True))
    # A line through frames that were looked at without a score would claim to know them.
    place = np.searchsorted(verdict.asked, track.frames[seen])
    runs = np.split(np.arange(len(dots)), np.flatnonzero(np.diff(place) > 1) + 1)
    return {
        "dots": dots,
        "lines": [" ".join(f"{dots[i][0]},{dots[i][1]}" for i in run) for run in runs],
        "threshold": round(120 - 110 * float(expit(track.estimates[chief].threshold)), 1),
        "ticks": [(30, "frame 0"), (330, last // 2), (615, last)],
        "alt": f"Probability of fake by frame: {told}.",
    }
