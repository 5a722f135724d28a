"""When and with what the chapters ran: ``{status}``, and a line at the foot of each of them.

Papermill writes into an executed notebook when it ran and for how long, book/build.py which
versions ran it and on what kind of machine. Nothing here is typed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from book.quoting import table
from seglib import __version__

PAGE = "book/status"
CHAPTER = re.compile(r"notebooks/\d\d_\w+")
BRIEFLY = ("python", "torch", "transformers", "numpy")  # versions with a place in the foot


@dataclass(frozen=True)
class Run:
    """A chapter's run; `started` is None where this build did not run it."""

    name: str
    mode: str = ""
    started: datetime | None = None
    seconds: float = 0.0
    versions: dict | None = None
    machine: dict | None = None

    @property
    def when(self) -> str:
        """Day and minute, UTC."""
        return f"{self.started:%Y-%m-%d %H:%M} UTC" if self.started else "not run in this build"

    @property
    def took(self) -> str:
        """Minutes and seconds."""
        minutes, seconds = divmod(round(self.seconds), 60)
        return (f"{minutes} min " if minutes else "") + f"{seconds} s" if self.started else ""


def read(path: Path) -> Run:
    """What an executed notebook, or one that was not, says of its run."""
    notebook = nbformat.read(path, as_version=4)
    known = notebook.metadata
    record: dict[str, Any] = known.get("papermill", {})
    if record.get("duration") is None:
        return Run(path.stem)
    return Run(
        path.stem,
        record["parameters"]["mode"],
        datetime.fromisoformat(record["start_time"]),
        record["duration"],
        **known["seglib_ran"],
    )


class Status(SphinxDirective):
    """``{status}``: a row a chapter, then the versions."""

    def run(self) -> list[nodes.Node]:
        """Two tables; one environment ran all chapters of a build."""
        runs = []
        for name in sorted(filter(CHAPTER.fullmatch, self.env.found_docs)):
            path = Path(self.env.doc2path(name))
            self.env.note_dependency(str(path))
            runs.append(read(path))
        rows = [
            [link(f"notebooks/{run.name}", self.env.docname), run.mode, run.when, run.took]
            for run in runs
        ]
        shown = [table(["chapter", "mode", "ran", "took"], rows, "The chapters of this book")]
        if done := [run for run in runs if run.started]:
            kind = "{system}, {machine}, {processors} processors".format(**done[0].machine)
            rows = [["machine", kind], ["seglib", __version__], *done[0].versions.items()]
            shown.append(table(["", "version"], rows, "What ran them"))
        return shown


def link(page: str, here: str, text: str = "") -> nodes.paragraph:
    """A link to a page of the book, by its own title unless a text is given."""
    target = addnodes.pending_xref(
        "", nodes.inline("", text), refdomain="std", reftype="doc", reftarget=f"/{page}",
        refexplicit=bool(text), refwarn=True, refdoc=here,
    )  # fmt: skip
    return nodes.paragraph("", "", target)


def add_foot(app: Sphinx, doctree: nodes.document) -> None:
    """Say under a chapter when, for how long and with what it ran."""
    here = app.env.docname
    if not CHAPTER.fullmatch(here) or not doctree.children:
        return
    run = read(Path(app.env.doc2path(here)))
    said = "This chapter was not run in this build."
    if run.started:
        named = ", ".join(f"{name} {run.versions[name]}" for name in BRIEFLY)
        said = (
            f"Ran on {run.when} in {run.took}, mode {run.mode}, with seglib {__version__}, {named}."
        )
    foot = nodes.paragraph("", said + " ", classes=["ran"])
    if PAGE in app.env.found_docs:
        foot += link(PAGE, here, "All chapters").children
    doctree.next_node(nodes.section).append(foot)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sphinx calls this."""
    app.add_directive("status", Status)
    app.connect("doctree-read", add_foot)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
