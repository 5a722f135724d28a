"""The status page and the foot of a chapter, on executed notebooks, through the real Sphinx."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat import v4
from test_quoting import build as build_site

import seglib
from book import build, status

RAN = {
    "start_time": "2026-11-28T07:40:32.819503+00:00",
    "duration": 75.99,
    "parameters": {"mode": "demo"},
}
VERSIONS = {"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.6"}
MACHINE = {"system": "Linux", "machine": "x86_64", "processors": 2}


def chapter(title, **metadata):
    return v4.new_notebook(cells=[v4.new_markdown_cell(f"# {title}\n\nText.")], metadata=metadata)


@pytest.fixture
def site(tmp_path):
    """Two chapters, of which one ran, and the status page; the pages and the warnings."""
    (tmp_path / "book").mkdir()
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book" / "status.md").write_text("# Status\n\n```{status}\n```\n")
    toc = "```{toctree}\nstatus\n../notebooks/01_one\n../notebooks/02_two\n```\n"
    (tmp_path / "book" / "intro.md").write_text(f"# A book\n\n{toc}")
    ran = {"versions": VERSIONS, "machine": MACHINE}
    one = chapter("1 · One: *first*", papermill=RAN, seglib_ran=ran)
    nbformat.write(one, tmp_path / "notebooks" / "01_one.ipynb")
    nbformat.write(chapter("2 · Two"), tmp_path / "notebooks" / "02_two.ipynb")
    return build_site(tmp_path, extension="book.status")


def page(out, name):
    return BeautifulSoup((out / f"{name}.html").read_text("utf-8"), "html.parser")


def rows(table):
    return [[cell.text.strip() for cell in row.select("th, td")] for row in table.select("tr")]


def test_the_page_has_a_row_a_chapter_and_the_versions_that_ran(site):
    out, told = site
    assert told == ""
    chapters, versions = page(out, "book/status").select("table")
    assert rows(chapters)[1:] == [
        ["1 · One: first", "demo", "2026-11-28 07:40 UTC", "1 min 16 s"],
        ["2 · Two", "", "not run in this build", ""],
    ]
    assert chapters.select_one("tbody a")["href"] == "../notebooks/01_one.html"
    found = dict(rows(versions)[1:])
    assert found == VERSIONS | {
        "machine": "Linux, x86_64, 2 processors",
        "seglib": seglib.__version__,
    }


def test_a_chapter_says_at_its_foot_how_it_ran(site):
    out, _ = site
    (foot,) = page(out, "notebooks/01_one").select("p.ran")
    assert foot.text.startswith(
        "Ran on 2026-11-28 07:40 UTC in 1 min 16 s, mode demo, with seglib "
    )
    assert "torch 2.13.0" in foot.text
    assert foot.a["href"] == "../book/status.html"
    (foot,) = page(out, "notebooks/02_two").select("p.ran")
    assert foot.text.startswith("This chapter was not run in this build.")


def test_the_build_writes_what_it_ran_with(tmp_path):
    papermill = {"papermill": RAN | {"input_path": "/somewhere/of/mine"}}
    known = {"mode": {"default": '"demo"'}}
    kept = build.stamped(build.scrub(chapter("1 · One", **papermill), {"mode": "demo"}, known))
    path = tmp_path / "01_one.ipynb"
    nbformat.write(kept, path)
    run = status.read(path)
    assert run.seconds == RAN["duration"]
    assert run.versions["torch"].startswith("2.")
    assert run.versions["papermill"]
    assert run.machine.keys() == MACHINE.keys()
    assert "mine" not in path.read_text()
