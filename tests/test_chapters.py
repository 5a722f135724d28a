"""Every chapter is built to one pattern, so that a reader knows where to look for what."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECTIONS = ("What we measured", "What can go wrong", "Exercises", "Further reading")
DRAWS = re.compile(r"(figures\.show_\w+|microscope\.show|report\.show)")
OPEN_ENDED = {"06-24"}  # as many plots as paper mode measured: none in the demo


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem[:2])
def chapter(request):
    notebook = nbformat.read(request.param, as_version=4)
    return request.param.stem[:2], notebook.cells


def prose(cells):
    return "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_it_says_what_one_will_learn_what_one_needs_and_how_long_it_takes(chapter):
    number, cells = chapter
    opening = cells[0].source
    assert opening.startswith(f"# {int(number)} · ")
    places = [opening.index(f"**{said}**") for said in ("You will", "You need", "It takes")]
    assert places == sorted(places)


def test_the_idea_is_a_picture_before_anything_is_imported(chapter):
    number, cells = chapter
    code = [cell for cell in cells if cell.cell_type == "code"]
    idea = code[1]
    assert "colab" in code[0].metadata.tags
    assert idea.source.splitlines()[-1].startswith("figures.show_drawing(")
    assert idea.metadata.mystnb.figure.name == f"fig-idea-{number}"
    assert "A drawing" in idea.metadata.mystnb.figure.caption


def test_its_last_sections_are_those_of_every_chapter(chapter):
    _, cells = chapter
    heads = re.findall(r"^## (.*)$", prose(cells), flags=re.M)
    places = [next(i for i, head in enumerate(heads) if head.startswith(s)) for s in SECTIONS]
    assert all(one < other for one, other in pairwise(places))
    assert set(heads[places[-1] + 1 :]) <= {"Your receipt"}


def test_what_was_measured_is_a_table_with_intervals(chapter):
    _, cells = chapter
    heads = [i for i, cell in enumerate(cells) if cell.source.startswith("## ")]
    start = next(i for i in heads if cells[i].source.startswith("## What we measured"))
    section = cells[start : next(i for i in heads if i > start)]
    text = "\n".join(cell.source for cell in section)
    quoted = re.search(r"\{results\}|\{result\}`", text)
    computed = "metrics.share(" in text and "95 % interval" in text
    assert "```{" in text or "pd.DataFrame(" in text
    assert quoted or computed


def drawing(cells):
    """The cells that draw: by themselves, or by a function of the chapter that does."""
    helpers = set()
    for cell in cells:
        if cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", ()):
            statements = ast.parse(cell.source).body
            defined = [one for one in statements if isinstance(one, ast.FunctionDef)]
            helpers |= {one.name for one in defined if DRAWS.search(ast.unparse(one))}
            run = "\n".join(ast.unparse(one) for one in statements if one not in defined)
            if DRAWS.search(run) or any(f"{name}(" in run for name in helpers):
                yield cell


def test_every_figure_is_numbered_and_captioned(chapter):
    _, cells = chapter
    drawn = [cell for cell in drawing(cells) if cell.id not in OPEN_ENDED]
    assert len(drawn) >= 2
    for cell in drawn:
        captioned = cell.metadata.mystnb.figure
        assert captioned.name.startswith("fig-")
        assert captioned.caption.endswith(".")


def test_no_two_figures_share_a_name():
    names = [
        cell.metadata.mystnb.figure.name
        for path in NOTEBOOKS
        for cell in nbformat.read(path, as_version=4).cells
        if "mystnb" in cell.metadata
    ]
    assert len(names) > 30
    assert len(names) == len(set(names))


def test_it_refers_to_its_figures_has_notes_in_the_margin_and_cites(chapter):
    _, cells = chapter
    text = prose(cells)
    assert "{numref}`fig-" in text
    assert text.count(":::{margin}") >= 2
    reading = text[text.index("## Further reading") :]
    assert len(re.findall(r"\{cite:t\}`\w+`", reading)) >= 3


def test_its_links_can_be_followed_in_lab(chapter):
    _, cells = chapter
    linked = re.findall(r"\]\(([^):#\s]+)[^)]*\)", prose(cells))
    assert linked
    assert [one for one in linked if not (ROOT / "notebooks" / one).is_file()] == []
