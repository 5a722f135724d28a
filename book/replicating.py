"""The page of replication receipts: ``{replications}`` shows machines, spread and failures.

Receipts lie under ``replications`` beside the published results. One that was edited after it was
written is a warning that names its file, and fails the build of the book.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book.quoting import Quoting, table
from seglib import receipts
from seglib.receipts import BadReceipt, Receipt
from seglib.results import Record

NONE = "Nobody has handed in a receipt yet."
SHOWN = ("python", "torch", "numpy")  # versions that have a place in the table


class Replications(Quoting, SphinxDirective):
    """``{replications}``: every receipt that was handed in."""

    def run(self) -> list[nodes.Node]:
        """The sections, or one sentence where there is no receipt."""
        records = self.sources.records or []
        found = self.receipts(self.sources.folder / receipts.REPLICATIONS)
        if not found:
            return [nodes.paragraph("", NONE)]
        return [
            _section("machines", "Machines", [_machines(found)]),
            _section("outside-and-missing", "Outside and missing", _failures(found)),
            _section("spread", "Spread", _spread(found, records)),
        ]

    def receipts(self, folder: Path) -> list[Receipt]:
        """Those that are whole; the others are warned of."""
        found = []
        for path in receipts.paths(folder):
            self.env.note_dependency(str(path))
            try:
                found.append(receipts.load(path))
            except BadReceipt as error:
                self.warn(error)
        return found


def _section(name: str, title: str, content: Sequence[nodes.Node]) -> nodes.section:
    return nodes.section("", nodes.title("", title), *content, ids=[name])


def _machines(found: Sequence[Receipt]) -> nodes.table:
    rows = []
    for one in found:
        machine = one.platform
        versions = ", ".join(f"{name} {one.versions.get(name, '?')}" for name in SHOWN)
        rows.append([
            one.path.stem, one.chapter, one.mode, machine["system"],
            f"{machine['machine']}, {machine['processors']} processors", machine["device"],
            f"{versions}, seglib {one.code}", one.date, f"{one.seconds:g}", _inside(one),
        ])  # fmt: skip
    head = ["receipt", "chapter", "mode", "system", "machine", "device", "versions", "date",
            "seconds", "inside"]  # fmt: skip
    return table(head, rows)


def _inside(one: Receipt) -> str:
    """How many numbers lie inside, or why none can."""
    return f"{one.inside} of {len(one.rows)}" if one.published else "nothing published"


def _failures(found: Sequence[Receipt]) -> list[nodes.Node]:
    """Every number outside its interval, or not made, spelled out."""
    told = [f"{one.path.stem}: {row}" for one in found for row in one.rows if not row.inside]
    told += [f"{one.path.stem}: {key} missing, {reason}" for one in found
             for key, reason in one.missing.items()]  # fmt: skip
    if not told:
        return [nodes.paragraph("", "None: every number of every receipt lies inside.")]
    items = [nodes.list_item("", nodes.paragraph("", text)) for text in told]
    return [nodes.bullet_list("", *items)]


def _spread(found: Sequence[Receipt], records: Sequence[Record]) -> list[nodes.Node]:
    """A table a record, and others for what it was in earlier publications."""
    shown, spread = [], receipts.spread(found, records).reset_index()
    for (publication, record), rows in spread.groupby(
        ["publication", spread.key.map(receipts.record_of)], sort=False
    ):
        cells = []
        for _, row in rows.iterrows():
            interval = "none" if row.isna().low else f"{row.low:.3f} to {row.high:.3f}"
            numbers = [f"{row[name]:.3f}" for name in ("min", "median", "max", "published")]
            name = row.key.removeprefix(f"{record}.")
            cells.append([name, *numbers, interval, f"{row.inside} of {row.receipts}"])
        earlier = "" if publication == "present" else f", of an earlier publication, {publication}"
        head = ["number", "least", "median", "greatest", "published", "95 % interval", "inside"]
        shown.append(table(head, cells, f"{record}{earlier}"))
    return shown


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.setup_extension("book.quoting")
    app.add_directive("replications", Replications)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
