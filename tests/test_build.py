"""book/build.py on tiny books, with the real papermill and the real Jupyter Book."""

import json
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from book import build
from seglib import recipe, results, verification
from seglib.metrics import Interval

ROOT = Path(__file__).parent.parent


def notebook(*sources, parameters='mode = "demo"'):
    """A notebook with a title, a parameters cell and one code cell a source."""
    cells = [
        v4.new_markdown_cell("# A chapter\n\nWith $x_1$."),
        v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        *map(v4.new_code_cell, sources),
    ]
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": python})


@pytest.fixture
def make_book(tmp_path):
    """Write a book of the given chapters; return the function that builds it."""

    def make(**chapters):
        source = tmp_path / "source"
        (source / "book").mkdir(parents=True)
        (source / "notebooks").mkdir()
        (source / "book" / "intro.md").write_text("# A book\n")
        (source / "book" / "references.bib").write_text("")
        (source / "_config.yml").write_text((ROOT / "_config.yml").read_text())
        toc = "format: jb-book\nroot: book/intro\nchapters:\n"
        for name, chapter in chapters.items():
            nbformat.write(chapter, source / "notebooks" / f"{name[1:]}.ipynb")
            toc += f"  - file: notebooks/{name[1:]}\n"
        (source / "_toc.yml").write_text(toc)
        out = tmp_path / "out"
        return lambda *argv: build.main(["--source", str(source), "--out", str(out), *argv])

    return make


@pytest.fixture
def former(tmp_path):
    """A page published by an earlier build."""
    page = tmp_path / "out" / "html" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("the former page")
    (page.parent / build.MARKER).touch()
    return page


def executed(tmp_path, name):
    return nbformat.read(tmp_path / "out" / "stage" / "notebooks" / f"{name}.ipynb", as_version=4)


def test_a_book_is_built_and_replaces_the_former_one(make_book, former, tmp_path, capsys):
    run = make_book(_01_one=notebook("print('seen', mode)"), _02_two=notebook("print(2)"))
    assert run() == 0
    assert run("--no-publish") == 0  # what was made here may be replaced
    html = tmp_path / "out" / "html"
    build.check_ours(html)
    assert "seen demo" in (html / "notebooks" / "01_one.html").read_text()
    assert "the former page" not in former.read_text()
    assert (html / build.PLOTLYJS).stat().st_size > 1e6
    assert [p.name for p in (tmp_path / "out").iterdir() if "former" in p.name] == []
    told = capsys.readouterr().out
    assert "[1/2] 01_one" in told
    assert f"{html.as_uri()}/index.html" in told


def test_a_crash_of_sphinx_is_told_by_its_own_lines(monkeypatch, tmp_path):
    said = [
        "reading sources",
        "Exception occurred:",
        '  File "status.py", line 49',
        "TypeError: no",
    ]
    told = "\n".join([*said, *["  File click/core.py"] * 40])
    done = subprocess.CompletedProcess([], 1, stdout=told)
    monkeypatch.setattr(build.subprocess, "run", lambda *args, **options: done)
    with pytest.raises(
        build.BuildError, match=r'Jupyter Book failed:\nException occurred:\n  File "s'
    ):
        build.build_html(tmp_path)


def test_a_figure_of_a_chapter_that_did_not_run_can_be_referred_to(make_book, tmp_path):
    one, two = notebook("from IPython.display import HTML\nHTML('drawn')"), notebook("print(2)")
    one.cells[-1].metadata["mystnb"] = {"figure": {"name": "fig-one", "caption": "A caption."}}
    two.cells[0].source += "\n\nSee {numref}`fig-one`."
    run = make_book(_01_one=one, _02_two=two)
    assert run("--only", "02") == 0
    pages = tmp_path / "out" / "preview" / "notebooks"
    assert "Not run in this build." in (pages / "01_one.html").read_text()
    assert "Fig. 1" in (pages / "02_two.html").read_text()
    assert run() == 0
    page = (tmp_path / "out" / "html" / "notebooks" / "01_one.html").read_text()
    assert "drawn" in page
    assert "Not run in this build." not in page


def test_only_one_chapter_goes_to_a_preview(make_book, former, tmp_path):
    run = make_book(_01_one=notebook("print('one ran')"), _02_two=notebook("print('two ran')"))
    assert run("--only", "02") == 0
    pages = tmp_path / "out" / "preview" / "notebooks"
    assert '<span class="n">two ran' not in (pages / "01_one.html").read_text()
    assert "two ran\n" in (pages / "02_two.html").read_text()
    assert "one ran\n" not in (pages / "01_one.html").read_text()
    assert former.read_text() == "the former page"


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("x = 1\nraise ValueError('no such face')", "ValueError: no such face"),
        ("import sys\nsys.exit()", "SystemExit"),  # papermill takes this for success
        ("import os\nos._exit(1)", "DeadKernelError"),
    ],
)
def test_a_failing_cell_is_named_and_nothing_published(make_book, former, capsys, source, error):
    run = make_book(_01_good=notebook("1"), _02_bad=notebook("1", source, "2"))
    assert run() == 1
    told = capsys.readouterr()
    assert "02_bad.ipynb, cell 4 of 5:" in told.err
    assert source.splitlines()[1] in told.err
    assert error in told.err
    assert "[2/2] 02_bad" in told.out
    assert "FAILED" in told.out
    assert former.read_text() == "the former page"


def test_a_cell_that_may_raise_is_still_an_error(make_book, former, capsys):
    chapter = notebook("1 / 0")
    chapter.cells[-1].metadata["tags"] = ["raises-exception"]
    assert make_book(_01_one=chapter)() == 1
    assert "cell 3 of 3" in capsys.readouterr().err
    assert former.read_text() == "the former page"


def test_a_warning_of_jupyter_book_fails_the_build(make_book, former, capsys):
    chapter = notebook("1")
    chapter.cells[0].source += "\n\n[nowhere](missing.md)"
    assert make_book(_01_one=chapter)() == 1
    assert "missing.md" in capsys.readouterr().err
    assert former.read_text() == "the former page"


def test_a_page_that_loads_from_a_cdn_is_not_published(make_book, former, capsys):
    html = '<script src="https://cdn.example.org/x.js"></script>'
    run = make_book(_01_one=notebook(f"from IPython.display import HTML\nHTML('{html}')"))
    assert run() == 1
    assert "01_one.html: <script> loads https://cdn.example.org" in capsys.readouterr().err
    assert former.read_text() == "the former page"


def test_a_notebook_with_outputs_is_refused(make_book, capsys):
    chapter = notebook("1")
    chapter.cells[2].outputs = [v4.new_output("stream", text="old news")]
    assert make_book(_01_one=chapter)() == 1
    assert "01_one.ipynb, cell 3 carries outputs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("seed=3", "no parameter 'seed'. Did you mean 'seeds'?"),
        ("seeds=many", "'seeds' is of type int (default 3); found 'many', of type str"),
        ("fast='false'", "'fast' is of type bool (default True); found 'false', of type str"),
        ("seeds=true", "'seeds' is of type int"),
        ("seeds", "wants NAME=VALUE"),
        ("seeds=[", "wants a VALUE that is YAML; seeds=["),
        ("mode=paper", "set by --mode"),
    ],
)
def test_a_wrong_parameter_is_refused_at_once(make_book, tmp_path, capsys, argument, told):
    chapter = notebook("1", parameters='mode = "demo"\nfast = True\nseeds = 3')
    assert make_book(_01_one=chapter)("-p", argument) == 1
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "stage").exists()


@pytest.mark.parametrize("name", ["stage", "html", "html.former"])
def test_a_folder_that_was_not_made_here_is_left_alone(make_book, tmp_path, capsys, name):
    diary = tmp_path / "out" / name / "diary.txt"
    diary.parent.mkdir(parents=True)
    diary.write_text("mine")
    assert make_book(_01_one=notebook("1"))() == 1
    assert f"{diary.parent} would be replaced" in capsys.readouterr().err
    assert diary.read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_pages_without_a_marker_in_the_usual_place_are_for_make_clean(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    (tmp_path / "_build" / "html").mkdir(parents=True)
    with pytest.raises(build.BuildError, match="make clean"):
        build.check_ours(tmp_path / "_build" / "html")


def test_false_is_false(make_book, tmp_path):
    chapter = notebook("print(fast is False)", parameters='mode = "demo"\nfast = True')
    assert make_book(_01_one=chapter)("-p", "fast=false", "--no-publish") == 0
    assert executed(tmp_path, "01_one").cells[-1].outputs[0].text == "True\n"


def test_an_unknown_chapter_is_refused(make_book, capsys):
    assert make_book(_01_one=notebook("1"))("--only", "07") == 1
    assert "no chapter '07'. Chapters: 01_one" in capsys.readouterr().err


def test_nothing_of_this_machine_stays_in_an_executed_notebook(make_book, tmp_path):
    assert make_book(_01_one=notebook("1"))("--no-publish") == 0
    assert str(tmp_path) not in json.dumps(executed(tmp_path, "01_one"))


@pytest.mark.parametrize(("seeds", "hidden"), [(3, True), (5, False)])
def test_injected_parameters_show_only_when_they_differ(make_book, tmp_path, seeds, hidden):
    chapter = notebook("1", parameters='mode = "demo"\nseeds = 3')
    assert make_book(_01_one=chapter)("-p", f"seeds={seeds}", "--no-publish") == 0
    tags = [cell.metadata.get("tags", []) for cell in executed(tmp_path, "01_one").cells]
    (injected,) = (t for t in tags if "injected-parameters" in t)
    assert ("remove-cell" in injected) is hidden


def test_the_kernel_runs_in_a_scratch_folder_and_offline(make_book, tmp_path):
    run = make_book(
        _01_one=notebook(
            "import os\nprint(os.listdir('.'), os.environ['HF_HUB_OFFLINE'], "
            "os.environ['SEGLIB_PLOTLYJS'])"
        )
    )
    assert run("--no-publish") == 0
    assert executed(tmp_path, "01_one").cells[-1].outputs[0].text == (
        "[] 1 ../_assets/plotly.min.js\n"
    )


SAVES = """
from seglib import recipe, results
from seglib.metrics import Interval
found = Interval({value}, 0.6, 0.8, 10, 5, 1.0)
results.save("made-up", {{"mouth.auc": found}}, recipe.demo(){but}, chapter="01")
"""


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Published results of a book's own: an AUC of 0.7 [0.6, 0.8]."""
    folder = tmp_path / "published"
    found = Interval(0.7, 0.6, 0.8, 10, 5, 1.0)
    results.save("made-up", {"mouth.auc": found}, recipe.demo(), folder=folder)
    monkeypatch.setattr(results, "FOLDER", folder)
    return folder


@pytest.mark.parametrize(
    ("value", "but", "told"),
    [
        (0.75, "", None),
        (0.85, "", "made-up.mouth.auc is 0.85; published was 0.700 [0.600, 0.800]"),
        (0.7, ".but(folds=4)", "made-up.mouth.auc was published under recipe"),
    ],
)
def test_a_run_has_to_reproduce_what_is_published(
    make_book, published, former, capsys, value, but, told
):
    run = make_book(_01_one=notebook(SAVES.format(value=value, but=but)))
    assert run() == (1 if told else 0)
    if told:
        said = capsys.readouterr().err
        assert told in said
        assert "make results" in said
        assert former.read_text() == "the former page"


def test_a_number_that_nobody_published_is_told(make_book, published, capsys):
    shutil.rmtree(published / "demo")
    assert make_book(_01_one=notebook(SAVES.format(value=0.7, but="")))("--no-publish") == 1
    assert "made-up.mouth.auc is not published" in capsys.readouterr().err


def test_a_changed_record_stops_the_build(make_book, published, capsys):
    record = published / "demo" / "made-up.json"
    record.write_text(record.read_text().replace("0.7,", "0.8,"))
    assert make_book(_01_one=notebook(SAVES.format(value=0.7, but="")))("--no-publish") == 1
    assert "the result mouth.auc was changed" in capsys.readouterr().err


def test_what_does_not_verify_is_not_built(monkeypatch):
    bad = verification.Check("claims", 1, ("claims.yml, claim 'x': it was changed",))
    monkeypatch.setattr(verification, "offline", lambda: [bad])
    with pytest.raises(build.BuildError, match="claim 'x': it was changed"):
        build.check_published()


def test_results_are_published_on_request_only(make_book, published):
    run = make_book(_01_one=notebook(SAVES.format(value=0.75, but="")))
    assert run("--no-publish") == 0
    assert results.published(folder=published)["made-up.mouth.auc"].value == 0.7
    assert run("--no-publish", "--keep-results") == 0
    assert results.published(folder=published)["made-up.mouth.auc"].value == 0.75


def test_a_build_folder_that_cannot_be_replaced_keeps_the_former_page(former, tmp_path):
    with pytest.raises(OSError, match="missing"):
        build.publish(tmp_path / "missing", former.parent)
    assert former.read_text() == "the former page"
