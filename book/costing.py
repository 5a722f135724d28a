"""What things cost, quoted from the benchmarks: ``{costs}``, ``{cost}``, ``{growth}``, ``{plan}``.

``{costs}`` is the table of one benchmark, with what it was made on; ``{cost}`NAME.ROW` `` prints
one figure of it and ``{cost}`NAME.ROW/FLOOR` `` its ratio to one of its floors. ``{growth}``
draws the rows of some kind over the number of videos. ``{plan}`` reckons what large data sets
take. All is read from the JSON files beside the benchmarks; whatever is unknown is a warning,
which fails the build of the book.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from benchmarks.measuring import FOLDER, Row
from book.quoting import table
from seglib import recipe
from seglib.errors import SeglibError, unknown_name

HOUR = 3600  # seconds
WIDTH = 1024  # of a token of the paper's encoder
INK = "#012345"  # in drawings: stands for the colour of the page's text
logger = logging.getLogger(__name__)


class NoFigure(SeglibError):
    """A benchmark was not run, or measures no such thing."""


@dataclass(frozen=True)
class Benchmark:
    """The figures of one benchmark, by key, and what they were made on."""

    made: Mapping[str, object]
    rows: Mapping[str, Row]

    @property
    def told(self) -> str:
        """Under which circumstances, as a caption."""
        return "{date}, {cores} cores, {machine}, {device}, torch {torch}".format(**self.made)


def load(folder: Path, name: str) -> Benchmark:
    """The figures of one benchmark.

    Raises
    ------
    NoFigure
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.json")))
        raise NoFigure(
            f"{path} does not exist; expected the figures of one of {known}. Run "
            f"`python -m benchmarks.{name} --json {path}`."
        )
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> Benchmark:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Benchmark(found["made"], {row["key"]: Row(**row) for row in found["rows"]})


def figure(folder: Path, key: str) -> str:
    """What a key of ``{cost}`` stands for.

    Raises
    ------
    NoFigure, seglib.errors.UnknownName
    """
    name, _, rest = key.partition(".")
    wanted, _, floor = rest.partition("/")
    rows = load(folder, name).rows
    if wanted not in rows:
        raise unknown_name(f"row of the benchmark {name}", wanted, rows)
    row = rows[wanted]
    if not floor:
        return f"{shown(row.value)} {row.unit}"
    if floor not in row.ratios:
        raise unknown_name(f"floor of {name}.{wanted}", floor, row.ratios)
    return shown(row.ratios[floor])


def shown(number: float) -> str:
    """Three digits of a number, and no power of ten."""
    if not number or number >= 1000:
        return f"{number:,.0f}"
    return f"{number:.3g}" if number >= 0.001 else f"{number:.5f}"


class CostRole(SphinxRole):
    """``{cost}`NAME.ROW` `` and ``{cost}`NAME.ROW/FLOOR` ``."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Its text."""
        folder = Path(self.config.seglib_benchmarks)
        self.env.note_dependency(str(folder / f"{self.text.partition('.')[0]}.json"))
        try:
            text = figure(folder, self.text)
        except SeglibError as error:
            logger.warning("%s", error, location=self.get_location())
            text = "?"
        return [nodes.inline("", text, classes=["cost"])], []


class _Costs(SphinxDirective):
    """A directive that reads a benchmark."""

    def benchmark(self, name: str) -> Benchmark | None:
        """Its figures; None, and a warning, where there are none."""
        folder = Path(self.config.seglib_benchmarks)
        self.env.note_dependency(str(folder / f"{name}.json"))
        try:
            return load(folder, name)
        except SeglibError as error:
            logger.warning("%s", error, location=self.get_location())
            return None


class Costs(_Costs):
    """``{costs} NAME``: all rows, a column for each floor."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table."""
        found = self.benchmark(self.arguments[0])
        if found is None:
            return []
        floors = list(dict.fromkeys(name for row in found.rows.values() for name in row.ratios))
        rows = [
            [row.what, f"{shown(row.value)} {row.unit}",
             *(shown(row.ratios[name]) if name in row.ratios else "" for name in floors)]
            for row in found.rows.values()
        ]  # fmt: skip
        head = ["what", "measured", *(f"times {name}" for name in floors)]
        return [table(head, rows, found.told)]


class Growth(_Costs):
    """``{growth} NAME``: how the rows ``KIND-N`` of `kinds` grow with N, as lines."""

    required_arguments = 1
    option_spec = {"kinds": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """A drawing, which says in words what it shows."""
        found = self.benchmark(self.arguments[0])
        if found is None:
            return []
        kinds = self.options["kinds"].split()
        if unknown := [kind for kind in kinds if not _points(found, kind)]:
            raise self.error(
                f"no rows of {unknown} in {self.arguments[0]}; expected {[*found.rows]}"
            )
        lines = {kind: _line(found, kind) for kind in kinds}
        told = "; ".join(
            f"{unit}: " + ", ".join(f"{shown(y)} at {x:,}" for x, y in points)
            for unit, points in lines.values()
        )
        svg = _drawn(list(lines.values()))
        # On a phone it scrolls, and what scrolls must take the focus.
        shell = (
            f'class="growth" style="overflow-x: auto" tabindex="0" role="img" aria-label="{told}"'
        )
        return [nodes.raw("", f"<div {shell}>{svg}</div>", format="html")]


def _points(found: Benchmark, kind: str) -> dict[int, Row]:
    """The rows ``KIND-N`` of one kind, by N."""
    keys = {key: key.rpartition("-") for key in found.rows}
    return {int(n): found.rows[key] for key, (own, _, n) in keys.items() if own == kind}


def _line(found: Benchmark, kind: str) -> tuple[str, list[tuple[int, float]]]:
    """The unit of the rows of one kind, and their points."""
    rows = _points(found, kind)
    return next(iter(rows.values())).unit, sorted((size, row.value) for size, row in rows.items())


def _drawn(lines: Sequence[tuple[str, list[tuple[int, float]]]]) -> str:
    """Small drawings side by side, as SVG, whose text and frames have the colour of the page's."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif"}):
        shape = Figure(figsize=(2.7 * len(lines), 2.4), layout="constrained")
        for axes, (unit, points) in zip(shape.subplots(1, len(lines), squeeze=False)[0], lines,
                                        strict=True):  # fmt: skip
            axes.plot(*zip(*points, strict=True), "o-", color="#2980b9")
            axes.set(xscale="log", xlabel="videos", ylabel=unit)
            axes.set_ylim(0, 1.15 * max(y for _, y in points))
            for spine in axes.spines.values():
                spine.set_color(INK)
            axes.tick_params(which="both", colors=INK)
            axes.xaxis.label.set_color(INK)
            axes.yaxis.label.set_color(INK)
            axes.set_facecolor("none")
        shape.set_facecolor("none")
        written = io.StringIO()
        shape.savefig(written, format="svg", metadata={"Date": None})
    svg = written.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


ASSUMED = {  # what ``{plan}`` must be told, and what each is
    "videos": "numbers of videos",
    "length": "frames that a video has, in 1280 x 720",
    "teraflops": "a GPU's peak in bfloat16, tera-operations a second",
    "share": "the share of that peak that the networks reach",
    "gpu": "dollars for an hour of the GPU",
    "core": "dollars for an hour of a processor core",
    "terabyte": "dollars for a terabyte in an object store, for a month",
}


class Plan(_Costs):
    """``{plan}``: hours, terabytes and money for numbers of videos, under the paper's recipe.

    Its body is YAML: what is assumed, see `ASSUMED`. All else is measured.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        """What was assumed, and the table."""
        benchmarks = [self.benchmark(name) for name in ("decoding", "encoder", "growth")]
        if None in benchmarks:
            return []
        said = yaml.safe_load("\n".join(self.content)) or {}
        if said.keys() != ASSUMED.keys():
            raise self.error(f"a plan of {sorted(said)}; expected {sorted(ASSUMED)}")
        try:
            rows = [needed(count, said, *benchmarks) for count in said["videos"]]
        except KeyError as error:
            raise self.error(f"a benchmark has no row {error}; run all of it") from error
        head = ["videos", "decoding, core hours", "networks, GPU hours", "the same on these cores, "
                "years", "store, TB", "computing, dollars", "store, dollars a month"]  # fmt: skip
        assumed = [[told, _listed(said[name])] for name, told in ASSUMED.items()]
        return [table(["assumed, not measured", ""], assumed), table(head, rows)]


def needed(
    videos: int, said: Mapping, decoding: Benchmark, encoder: Benchmark, growth: Benchmark
) -> list[str]:
    """One row of the plan: every network sees each frame once."""
    from seglib.store import at_most  # which loads torch: most pages do without

    decisions = recipe.paper()
    frames, networks = videos * decisions.frames, ("paper", "parser")
    passed = decoding.rows["passed"].value / 1e3 * int(decoding.made["cores"])
    decoded = videos * said["length"] * passed / HOUR
    operations = frames * sum(encoder.rows[f"operations-{one}"].value for one in networks) * 1e9
    on_gpu = operations / (said["teraflops"] * 1e12 * said["share"]) / HOUR
    here = frames * sum(encoder.rows[f"contextual-{one}"].value / 1e3 for one in networks)
    largest = max(_line(growth, "store")[1])[0]
    kept = growth.rows[f"store-{largest}"].ratios["uncompressed"]
    terabytes = kept * at_most(frames, WIDTH, decisions) / 1e12
    dollars = on_gpu * said["gpu"] + decoded * said["core"]
    numbers = [decoded, on_gpu, here / HOUR / 24 / 365, terabytes, dollars,
               terabytes * said["terabyte"]]  # fmt: skip
    return [f"{videos:,}", *map(shown, numbers)]


def _listed(value: object) -> str:
    return ", ".join(f"{one:,}" for one in value) if isinstance(value, list) else f"{value:,}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.setup_extension("book.quoting")
    app.add_config_value("seglib_benchmarks", str(FOLDER), "env", (str,))
    app.add_role("cost", CostRole())
    app.add_directive("costs", Costs)
    app.add_directive("growth", Growth)
    app.add_directive("plan", Plan)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
