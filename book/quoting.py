"""Results and claims quoted by key: the Sphinx extension that the book's pages are written with.

``{result}`KEY` `` prints a published result with its interval, ``{value}`KEY` `` its value alone;
``{results}`` is a table of some, ``{all-results}`` the page of all. ``{claim}`KEY` `` prints how a
claim of the ledger stands, ``{holds}`KEY` `` the same where the page asserts it, and ``{claims}``
is the page of all. Each leads to its row on the page of numbers or of claims, and tells its
origin in a tooltip. ``{published}`` is a table of what others report. Whatever is unknown, stale,
changed or asserted in vain is a warning, which fails the build of the book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole
from sphinx.writers.html5 import HTML5Translator

from seglib import claims, published, recipe, results
from seglib.claims import Claim, Judgement, Predicate
from seglib.errors import SeglibError, unknown_name
from seglib.results import Record, Result

NUMBERS, CLAIMS = "book/numbers", "book/claims"  # the pages that quotations lead to
LIMITS = "book/limitations"  # where the book has it, every record leads there
STYLE = Path(__file__).with_name("_style")
COLUMN = 24  # characters, where a page is plain text
HASH = 12  # hex digits of a table's SHA-256 that are shown
logger = logging.getLogger(__name__)


class Sources:
    """What may be quoted, read when it is first asked for; None where it cannot be trusted."""

    def __init__(self, app: Sphinx):
        self.folder = Path(app.config.seglib_results or results.FOLDER)
        self.ledger = Path(app.config.seglib_claims or Path(app.confdir, "book", "claims.yml"))

    @cached_property
    def records(self) -> list[Record] | None:
        """The published records of all modes."""
        return _trusted(lambda: results.records(self.folder))

    @cached_property
    def results(self) -> dict[str, Result] | None:
        """Their results, by key."""
        if self.records is None:
            return None
        return {key: one for record in self.records for key, one in record.quoted().items()}

    @cached_property
    def claims(self) -> dict[str, Claim] | None:
        """The claims of the ledger, by key."""
        return _trusted(lambda: {claim.key: claim for claim in claims.load(self.ledger)})

    def files(self) -> Iterator[Path]:
        """What a page that quotes was made from."""
        yield self.ledger
        yield from (record.path for record in self.records or ())


def _trusted(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except SeglibError as error:
        logger.warning("%s", error)
        return None


# -- one quotation ----------------------------------------------------------------------------


class quoted(nodes.inline):
    """In HTML a link to `row` of `page`, with what is `told` in a tooltip; elsewhere its text."""


def visit_quoted(self: HTML5Translator, node: quoted) -> None:
    """Open the link."""
    address = self.builder.get_relative_uri(self.builder.current_docname, node["page"])
    link = {"class": "reference internal", "href": f"{address}#{node['row']}"}
    if node["told"]:
        link["aria-describedby"] = node["tip"]
    self.body.append(self.starttag(node, "span", "") + self.starttag({}, "a", "", **link))


def depart_quoted(self: HTML5Translator, node: quoted) -> None:
    """Close the link and write the tooltip."""
    self.body.append("</a>")
    if node["told"]:
        self.body.append(f'<span role="tooltip" id="{node["tip"]}">')
        for name, fact in node["told"].items():
            name, fact = self.encode(name), self.encode(fact)
            self.body.append(f"<span><b>{name}:</b> {fact}</span> ")
        self.body.append("</span>")
    self.body.append("</span>")


def anchor(kind: str, key: str) -> str:
    """The HTML id of a result, a record or a claim."""
    return nodes.make_id(f"{kind}-{key}")


def facts(result: Result) -> dict[str, str]:
    """All that a result carries, in words."""
    method = "" if result.low is None else f" ({result.method})"
    found = {"value": _value(result), "95 % interval": f"{_interval(result)}{method}"}
    if result.n:
        found |= {"items": f"{result.n} in {result.groups} groups"}
        found |= {"coverage": f"{result.coverage:.1%}"}
    found |= {"mode": result.mode, "recipe": result.recipe, "made": _made(result)}
    found |= {"data": f"SHA-256 {result.data[:HASH]}"} if result.data else {}
    return found | ({"incomplete": result.incomplete} if result.incomplete else {})


def _value(result: Result) -> str:
    return str(result).partition(" ")[0]


def _interval(result: Result) -> str:
    if result.low is None:
        return "none"
    return f"{result.low:.3f} to {result.high:.3f}".replace(" ", "\u00a0")


def _made(origin: Result | Record) -> str:
    return f"{origin.made} by seglib {origin.code} on {origin.device}"


# -- roles ------------------------------------------------------------------------------------


class Quoting:
    """What roles and directives share: the sources, and warnings that name the line."""

    @property
    def sources(self) -> Sources:
        """What may be quoted; the page is written anew when any of it changes."""
        for path in self.env.quoting.files():
            self.env.note_dependency(str(path))
        return self.env.quoting

    def warn(self, message: object) -> None:
        """Say what is wrong on this line."""
        logger.warning("%s", message, location=self.get_location())

    def quote(self, text: str, page: str, row: str, told: dict | None = None) -> quoted:
        """A quotation that leads to a row of one of the book's pages; a tooltip shows what is told.

        The page may not have been read yet: its address is found when this one is written.
        """
        if page not in self.env.found_docs:
            self.warn(f"{text!r} leads to the page {page}, which is not in the book's _toc.yml")
        node = quoted(text, text, page=page, row=row, told=told or {}, classes=["quoted"])
        node["tip"] = f"tip-{self.env.new_serialno('quoted')}"
        node["support_smartquotes"] = False  # the two hyphens of a key are no dash
        return node

    def result(self, key: str) -> Result | None:
        """A published result; None, and a warning, where there is none that may be quoted."""
        if self.sources.results is None:
            return None
        try:
            found = claims.find(key, self.sources.results)
        except SeglibError as error:
            self.warn(error)
            return None
        if results.stale(found):
            self.warn(f"{key} is stale: {_stale(found)}")
        return found

    def claim(self, key: str) -> tuple[Claim | None, Judgement | None]:
        """A claim and how it stands; None, and a warning, where that cannot be known."""
        known = self.sources.claims
        if known is None or self.sources.results is None:
            return None, None
        try:
            if key not in known:
                raise unknown_name("claim", key, known)
            return known[key], claims.judge(known[key], self.sources.results)
        except SeglibError as error:
            self.warn(error if key not in known else f"claim {key!r}: {error}")
            return None, None

    def badge(self, claim: Claim, found: Judgement) -> quoted:
        """The status of a claim, in words."""
        told = {"claim": claim.sentence, "status": found.status}
        told |= {"why": found.reason} if found.reason else {}
        told |= {key: str(result) for key, result in found.figures.items()}
        badge = self.quote(found.status, CLAIMS, anchor("claim", claim.key), told)
        badge["classes"] += ["status", nodes.make_id(f"status-{found.status}")]
        return badge


def _stale(origin: Result | Record) -> str:
    return (f"made by recipe {origin.recipe}, but mode {origin.mode} is "
            f"{results.standing(origin.mode)} now; run `make results`")  # fmt: skip


class ResultRole(Quoting, SphinxRole):
    """``{result}`KEY` ``: a result as `form` writes it."""

    def __init__(self, form: Callable[[Result], str]):
        super().__init__()
        self.form = form

    def run(self) -> tuple[list[nodes.Node], list]:
        """A quotation, or the bare key where it cannot be quoted."""
        found = self.result(self.text)
        if found is None:
            return [nodes.literal(self.text, self.text)], []
        where = anchor("result", found.key)
        return [self.quote(self.form(found), NUMBERS, where, facts(found))], []


class ClaimRole(Quoting, SphinxRole):
    """``{claim}`KEY` ``: how a claim stands; asserted, it has to hold."""

    def __init__(self, asserted: bool):
        super().__init__()
        self.asserted = asserted

    def run(self) -> tuple[list[nodes.Node], list]:
        """A badge, or the bare key where there is no such claim."""
        claim, found = self.claim(self.text)
        if found is None:
            return [nodes.literal(self.text, self.text)], []
        if self.asserted and found.status != claims.HOLDS:
            self.warn(
                f"{self.env.docname} asserts the claim {claim.key!r}; expected one that holds, "
                f"but its status is {found.status!r}: {found.reason.rstrip('.')}. Change what the "
                f"page says and use the role claim in place of holds, or {claims.RERUN}"
            )
        return [self.badge(claim, found)], []


# -- directives -------------------------------------------------------------------------------


class ResultsTable(Quoting, SphinxDirective):
    """``{results}``: a table with a row a line, ``label: KEY`` or ``KEY``."""

    has_content = True
    option_spec = {"caption": directives.unchanged}  # noqa: RUF012  (docutils' own idiom)

    def run(self) -> list[nodes.Node]:
        """One table."""
        rows = []
        for line in filter(None, map(str.strip, self.content)):
            label, _, key = line.rpartition(": ")
            if found := self.result(key):
                origin = self.quote(found.record, NUMBERS, anchor("result", key))
                name = label or nodes.literal(key, key)
                rows.append([name, _value(found), _interval(found), str(found.n),
                             str(found.groups), found.mode, origin])  # fmt: skip
        head = ["", "value", "95 % interval", "items", "groups", "mode", "origin"]
        return [table(head, rows, self.options.get("caption", ""))]


class AllResults(Quoting, SphinxDirective):
    """``{all-results}``: every published result, each with its anchor, a section a record."""

    def run(self) -> list[nodes.Node]:
        """The sections."""
        return [self.section(record) for record in self.sources.records or ()]

    def section(self, record: Record) -> nodes.section:
        """Where a record comes from, and a table for each set of metrics."""
        if results.stale(record):
            self.warn(f"{record.path} is stale: {_stale(record)}")
        told = [f"`{record.mode}/{record.path.name}`", f"recipe `{record.recipe}`"]
        took = f" in {record.seconds:g} s" if record.seconds else ""
        told += [f"made {_made(record)}{took}"]
        methods = {found.method for found in record.quoted().values()} - {"none"}
        told += [f"intervals: {', '.join(sorted(methods))}"] if methods else []
        told += [f"scores of SHA-256 `{record.data[:HASH]}`"] if record.data else []
        told += [f"incomplete: {record.incomplete}"] if record.incomplete else []
        origin = nodes.paragraph("", "", *_with_code(" · ".join(told)))
        if LIMITS in self.env.found_docs:
            limits = self.quote("what it cannot show", LIMITS, anchor("limits", record.mode))
            origin += [nodes.Text(" · "), limits]
        views: dict[str, dict[str, Result]] = {}
        for key, result in record.quoted().items():
            view, _, metric = key.removeprefix(f"{record.name}.").rpartition(".")
            views.setdefault(view, {})[metric] = result
        rows: dict[tuple[str, ...], list] = {}
        for view, measured in views.items():
            rows.setdefault(tuple(measured), []).append(_row(view, measured))
        tables = [
            table(["", *measured, "items", "groups", "coverage"], same)
            for measured, same in rows.items()
        ]
        return nodes.section(
            "",
            nodes.title("", record.title),
            origin,
            *tables,
            ids=[anchor("record", record.name)],
        )


def _row(view: str, measured: dict[str, Result]) -> list[str | nodes.Node]:
    """The cells of a view: its metrics, each an anchor, and on how much they stand."""
    cells = [
        nodes.entry(
            "",
            nodes.paragraph("", _value(result)),
            *([] if result.low is None else [nodes.paragraph("", _interval(result))]),
            ids=[anchor("result", result.key)],
        )
        for result in measured.values()
    ]
    first = next(iter(measured.values()))
    return [view, *cells, str(first.n), str(first.groups), f"{first.coverage:.1%}"]


class PublishedTable(Quoting, SphinxDirective):
    """``{published}``: numbers of others, a line a detector: ``DETECTOR | trained on | source``.

    The last two are text of the page. Every detector has to be there: none is left out in silence.
    """

    has_content = True
    option_spec = {"caption": directives.unchanged}  # noqa: RUF012  (docutils' own idiom)

    def run(self) -> list[nodes.Node]:
        """One table, a row a number; what is said of a detector stands once, beside all of its."""
        known: dict[str, list[dict[str, str]]] = {}
        for number in published.detectors():
            known.setdefault(number["detector"], []).append(number)
        rows = []
        for at, line in enumerate(self.content, 1):
            detector, *about = (cell.strip() for cell in line.split("|"))
            if len(about) != 2:
                self.warn(f"found {line!r}; expected DETECTOR | trained on | source")
            elif detector not in known:
                self.warn(unknown_name("detector", detector, known))
            else:
                rows += self.rows(known.pop(detector), detector, *about, at)
        if known:
            self.warn(f"the table leaves out {', '.join(known)}; expected a line for each")
        head = ["method", "trained on", "tested on", "metric", "value", "reported by", "source"]
        return [table(head, rows, self.options.get("caption", ""), stub=False)]

    def rows(
        self, numbers: list[dict[str, str]], detector: str, trained: str, source: str, at: int
    ) -> list[list[str | nodes.Node]]:
        """The rows of one detector, which stands on line `at` of the content."""
        cells = [
            [one["dataset"], f"AUC of {one['level']}s" if one["level"] else "AUC", one["auc"],
             one["reported_by"]]
            for one in numbers
        ]  # fmt: skip
        method, learned, origin = (
            self.spanning(text, at, len(numbers)) for text in (detector, trained, source)
        )
        return [[method, learned, *cells[0], origin], *cells[1:]]

    def spanning(self, text: str, at: int, count: int) -> nodes.entry:
        """A cell beside so many rows."""
        found, problems = self.parse_inline(text, lineno=self.content_offset + at)
        span = {"morerows": count - 1} if count > 1 else {}
        return nodes.entry("", nodes.paragraph("", "", *found), *problems, **span)


class ClaimsPage(Quoting, SphinxDirective):
    """``{claims} MODE``: the claims of one mode, or of all, and what is behind them."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A block a claim."""
        mode = self.arguments[0] if self.arguments else None
        if mode not in (None, *recipe.MODES):
            self.warn(unknown_name("mode", mode, recipe.MODES))
        known = (self.sources.claims or {}).values()
        judged = [self.claim(claim.key) for claim in known if mode in (None, claim.mode)]
        return [self.block(claim, found) for claim, found in judged if found]

    def block(self, claim: Claim, found: Judgement) -> nodes.container:
        """Status and sentence, why, what was asked and found, and what the paper says."""
        status = nodes.make_id(f"status-{found.status}")
        badge = nodes.inline("", found.status, classes=["status", status])
        sentence = nodes.strong("", claim.sentence)
        block = nodes.container("", nodes.paragraph("", "", badge, nodes.Text(" "), sentence))
        block["ids"], block["classes"] = [anchor("claim", claim.key)], ["claim"]
        if claim.paper:
            block += nodes.paragraph("", f"In print: {claim.paper}.")
        if found.reason:
            block += nodes.paragraph("", "", nodes.Text("Why: "), *_with_code(found.reason))
        asked = [("The claim", claim.holds_if)]
        asked += [(f"Control: {one.sentence}", one.holds_if) for one in claim.controls]
        rows = [
            self.asked(what if i == 0 else "", predicate, found)
            for what, predicates in asked
            for i, predicate in enumerate(predicates)
        ]
        if rows:
            block += table(["", "asked", "found", "met?"], rows)
        return block

    def asked(self, what: str, predicate: Predicate, found: Judgement) -> list[str | nodes.Node]:
        """The cells of a predicate; its answer is left open where a result is not to be had."""
        cell = nodes.paragraph()
        for key in (key for key in dict(predicate.operands) if key in found.figures):
            result = found.figures[key]
            cell += [nodes.Text("; ")] if cell.children else []
            cell += self.quote(str(result), NUMBERS, anchor("result", key), facts(result))
        judged = found.status != claims.NOT_RUN
        answer = ("yes" if predicate.holds(found.figures) else "no") if judged else "open"
        return [what, nodes.literal(str(predicate), str(predicate)), cell, answer]


def _with_code(text: str) -> list[nodes.Node]:
    """A text whose commands stand between backticks."""
    pieces = enumerate(text.split("`"))
    return [nodes.literal(one, one) if i % 2 else nodes.Text(one) for i, one in pieces]


def table(
    head: Sequence[str], rows: Iterable[Sequence], caption: str = "", stub: bool = True
) -> nodes.table:
    """A table; a cell is a text or a node. As a stub the first column names the rows."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=COLUMN, stub=int(stub and i == 0)) for i in range(len(head))]
    for part, lines in ((nodes.thead(), [head]), (nodes.tbody(), rows)):
        part += [nodes.row("", *map(_cell, line)) for line in lines]
        group += part
    title = [nodes.title("", caption)] if caption else []
    return nodes.table("", *title, group, classes=["quotations"])


def _cell(content: str | nodes.Node) -> nodes.entry:
    if isinstance(content, nodes.entry):
        return content
    if isinstance(content, nodes.paragraph):
        return nodes.entry("", content)
    text = nodes.Text(content) if isinstance(content, str) else content
    return nodes.entry("", nodes.paragraph("", "", text))


# -- set-up -----------------------------------------------------------------------------------


def _begin(app: Sphinx) -> None:
    app.env.quoting = Sources(app)
    app.config.html_static_path.append(str(STYLE))


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_config_value("seglib_results", None, "env", (str,))
    app.add_config_value("seglib_claims", None, "env", (str,))
    app.add_node(quoted, html=(visit_quoted, depart_quoted))
    app.add_role("result", ResultRole(str))
    app.add_role("value", ResultRole(_value))
    app.add_role("claim", ClaimRole(asserted=False))
    app.add_role("holds", ClaimRole(asserted=True))
    app.add_directive("results", ResultsTable)
    app.add_directive("all-results", AllResults)
    app.add_directive("published", PublishedTable)
    app.add_directive("claims", ClaimsPage)
    app.add_css_file("quoting.css")
    app.add_css_file("reading.css")
    app.connect("builder-inited", _begin)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
