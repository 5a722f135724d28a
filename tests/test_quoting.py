"""The pages quote results and claims: real Sphinx builds of small books, good ones and bad ones."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from nbformat import v4
from sphinx.application import Sphinx
from sphinx.util.console import strip_colors
from sphinx.util.docutils import docutils_namespace, patch_docutils

from seglib import published, recipe, results
from seglib.metrics import Interval

ROOT = Path(__file__).parent.parent
MOUTH = "orl-mouth--csu-mouth.mouth.auc"  # two hyphens, which typography would make a dash
LEAD, COUNT = "orl-mouth--csu-mouth.mouth-over-cls.auc", "protocol.people.count"

CONTROL = {"sentence": "Nobody is on both sides.", "holds_if": [f"{COUNT}.value <= 0"]}
CLAIM = {"mode": "demo", "controls": [CONTROL]}
LEDGER = [
    CLAIM | {"key": "sees", "sentence": "It sees.", "holds_if": [f"{MOUTH}.low > 0.5"]},
    CLAIM | {"key": "leads", "sentence": "It leads.", "holds_if": [f"{LEAD}.low > 0.1"]},
    CLAIM
    | {
        "key": "celebdf",
        "sentence": "It reaches 0.905.",
        "mode": "paper",
        "paper": {"value": 0.905, "unit": "AUC", "source": "the abstract"},
        "holds_if": ["celebdf-largest-face.mouth.auc.high >= 0.905"],
        "controls": [],
        "needs": "It takes `seglib reproduce`.",
    },
]
INTRO = f"""# A book

Mouth {{result}}`{MOUTH}`, alone {{value}}`{MOUTH}`; lead {{result}}`{LEAD}`,
at 1 % {{result}}`orl-mouth--csu-mouth.mouth.tpr@1%`; nobody: {{result}}`{COUNT}`.

It sees: {{holds}}`sees`. It leads: {{claim}}`leads`. The paper: {{claim}}`celebdf`.

```{{results}}
:caption: Some of them
the mouth: {MOUTH}
{LEAD}
```
"""
CHAPTER = f"# A chapter\n\nMouth {{result}}`{MOUTH}`, and the paper {{claim}}`celebdf`."
PAGES = {
    "book/intro.md": INTRO + "\n```{toctree}\n../notebooks/01_one\nnumbers\nclaims\n```\n",
    "book/numbers.md": "# Numbers\n\n```{all-results}\n```\n",
    "book/claims.md": "# Claims\n\n```{claims}\n```\n",
}


def publish(folder, mouth=0.705, decisions=None):
    """Two records: probes with intervals, and a count without."""
    decisions = decisions or recipe.demo()
    found = {
        "mouth.auc": Interval(mouth, 0.668, 0.745, 346, 15, 0.97, "expanded"),
        "mouth.tpr@1%": Interval(0.25, 0.2, 0.3, 346, 15, 0.97, "expanded"),
        "mouth-over-cls.auc": Interval(0.12, 0.09, 0.16, 346, 15, 0.97, "expanded"),
    }
    results.save("orl-mouth--csu-mouth", found, decisions, title="Mouths", folder=folder)
    results.save("protocol", {"people.count": 0}, decisions, title="Protocol", folder=folder)


def write(folder, pages, ledger=LEDGER):
    """A book of these pages, with a notebook, a ledger and published results."""
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "notebooks").mkdir(exist_ok=True)
    chapter = v4.new_notebook(cells=[v4.new_markdown_cell(CHAPTER)])
    nbformat.write(chapter, folder / "notebooks" / "01_one.ipynb")
    (folder / "book" / "claims.yml").write_text(yaml.safe_dump(ledger), encoding="utf-8")
    publish(folder / "results")
    return folder


def build(folder, builder="html", extension="book.quoting"):
    """Build it, or what of it is out of date; return the pages and the warnings."""
    out, told = folder / "_build" / builder, io.StringIO()
    settings = {
        "extensions": ["myst_nb", extension],
        "root_doc": "book/intro",
        # Said here, as Sphinx would add to a default that all builds of a process share.
        "source_suffix": {".md": "myst-nb", ".ipynb": "myst-nb"},
        "nb_execution_mode": "off",
        "html_theme": "basic",
        "exclude_patterns": ["_build"],
    }
    if extension == "book.quoting":
        settings["seglib_results"] = str(folder / "results")
    with patch_docutils(folder), docutils_namespace():
        app = Sphinx(
            folder, None, out, folder / "_build" / "doctrees", builder, settings,
            status=None, warning=told,
        )  # fmt: skip
        app.build()
    return out, strip_colors(told.getvalue())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of a good book, parsed, by their path."""
    out, told = build(write(tmp_path_factory.mktemp("good"), PAGES))
    assert told == ""
    return {
        path.relative_to(out).as_posix(): BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in sorted(out.glob("*/*.html"))
    }


def quoted(site, page, text):
    (found,) = (one for one in site[page].select(".quoted") if one.a.text == text)
    return found


# -- a good book -------------------------------------------------------------------------------


def test_a_result_is_quoted_with_its_interval_or_alone(site):
    shown = [one.a.text for one in site["book/intro.html"].select("p .quoted")]
    assert shown[:5] == [
        "0.705 [0.668, 0.745]", "0.705", "0.120 [0.090, 0.160]", "0.250 [0.200, 0.300]", "0",
    ]  # fmt: skip


def test_every_quotation_leads_to_a_row_that_is_there(site):
    found = {name: page.select(".quoted > a") for name, page in site.items()}
    assert {name for name, links in found.items() if links} == {
        "book/intro.html", "book/claims.html", "notebooks/01_one.html",
    }  # fmt: skip
    for name, links in found.items():
        for link in links:
            page, _, row = link["href"].partition("#")
            target = Path(os.path.normpath(Path(name).parent / page)).as_posix()
            assert target in ("book/numbers.html", "book/claims.html")
            assert site[target].find(id=row), f"{name} leads to {link['href']}"


def test_the_tooltip_is_reached_with_the_link_and_tells_the_origin(site):
    for page in site.values():
        ids = [tag["id"] for tag in page.select("[id]")]
        assert len(ids) == len(set(ids))
        for tip in page.select("[role=tooltip]"):
            link = tip.parent.a
            assert link["aria-describedby"] == tip["id"]
            assert "tabindex" not in link.attrs  # a link with an address is in the order of Tab
    told = quoted(site, "notebooks/01_one.html", "0.705 [0.668, 0.745]").find(role="tooltip").text
    for fact in (
        "value: 0.705", "95 % interval: 0.668 to 0.745 (expanded)", "346 in 15 groups",
        "coverage: 97.0%", "mode: demo", f"recipe: {recipe.demo().key}", "by seglib",
    ):  # fmt: skip
        assert fact in told.replace("\u00a0", " ")


def test_the_tooltip_opens_under_the_pointer_and_under_the_keyboard():
    style = (ROOT / "book" / "_style" / "quoting.css").read_text(encoding="utf-8")
    assert '.quoted:is(:hover, :focus-within) [role="tooltip"] {\n  display: block;' in style


def test_the_page_of_numbers_has_each_result_once_under_its_record(site):
    page = site["book/numbers.html"]
    assert [h.text.rstrip("¶") for h in page.select("h2")] == ["Mouths", "Protocol"]
    rows = {cell["id"]: cell.text.split() for cell in page.select("td[id^=result-]")}
    assert rows == {
        "result-orl-mouth-csu-mouth-mouth-auc": ["0.705", "0.668", "to", "0.745"],
        "result-orl-mouth-csu-mouth-mouth-tpr-1": ["0.250", "0.200", "to", "0.300"],
        "result-orl-mouth-csu-mouth-mouth-over-cls-auc": ["0.120", "0.090", "to", "0.160"],
        "result-protocol-people-count": ["0"],
    }
    assert "demo/orl-mouth--csu-mouth.json" in page.text


def test_a_table_of_results_has_a_row_a_line(site):
    table = site["book/intro.html"].select_one("table.quotations")
    assert table.caption.select_one(".caption-text").text == "Some of them"
    rows = [[cell.text.strip() for cell in row.select("th, td")] for row in table.select("tr")]
    rest = ["346", "15", "demo", "orl-mouth--csu-mouth"]
    assert rows[1:] == [
        ["the mouth", "0.705", "0.668\u00a0to\u00a00.745", *rest],
        [LEAD, "0.120", "0.090\u00a0to\u00a00.160", *rest],
    ]


def test_a_badge_says_in_words_how_a_claim_stands(site):
    badges = [badge.a.text for badge in site["book/intro.html"].select(".status")]
    assert badges == ["holds", "does not hold", "not run here"]
    told = quoted(site, "book/intro.html", "not run here").find(role="tooltip").text
    assert "claim: It reaches 0.905." in told
    assert "It takes `seglib reproduce`." in told


def test_the_page_of_claims_shows_what_was_asked_and_found(site):
    sees, leads, celebdf = site["book/claims.html"].select(".claim")
    assert [one["id"] for one in (sees, leads, celebdf)] == [
        "claim-sees", "claim-leads", "claim-celebdf",
    ]  # fmt: skip
    rows = [[cell.text.strip() for cell in row.select("th, td")] for row in leads.select("tr")]
    assert [row[-1] for row in rows] == ["met?", "no", "yes"]
    assert rows[1][1] == f"{LEAD}.low > 0.1"
    assert quoted(site, "book/claims.html", "0.120 [0.090, 0.160]") in leads.select(".quoted")
    assert rows[2][0] == "Control: Nobody is on both sides."
    assert "In print: 0.905 AUC, the abstract." in celebdf.text
    assert "is not published. It takes seglib reproduce." in celebdf.text
    assert celebdf.select_one("tbody td:last-child").text == "open"
    assert "Why" not in sees.text


def test_every_record_leads_to_what_it_cannot_show(tmp_path):
    pages = {"book/limitations.md": "# Limits\n\n(limits-demo)=\n\n## The demo\n"}
    intro = {"book/intro.md": INTRO + "\n```{toctree}\nnumbers\nclaims\nlimitations\n```\n"}
    out, told = build(write(tmp_path, PAGES | intro | pages))
    assert [line for line in told.splitlines() if "01_one" not in line] == []
    numbers = BeautifulSoup((out / "book" / "numbers.html").read_text("utf-8"), "html.parser")
    limits = BeautifulSoup((out / "book" / "limitations.html").read_text("utf-8"), "html.parser")
    links = numbers.select("section > section a[href^=limitations]")
    assert [link["href"] for link in links] == ["limitations.html#limits-demo"] * 2
    assert limits.find(id="limits-demo")


def test_what_others_report_is_a_table_with_every_detector(tmp_path):
    others = dict.fromkeys(number["detector"] for number in published.detectors())
    lines = "\n".join(f"{name} | *faces* of {name} | source {name}" for name in others)
    page = f"---\norphan: true\n---\n\n# Others\n\n```{{published}}\n{lines}\n```\n"
    out, told = build(write(tmp_path, PAGES | {"book/others.md": page}))
    assert told == ""
    found = BeautifulSoup((out / "book" / "others.html").read_text("utf-8"), "html.parser")
    rows = [[cell.text.strip() for cell in row.select("th, td")] for row in found.select("tr")]
    assert len(rows) == len(published.detectors()) + 1
    assert rows[1] == [
        "Xception", "faces of Xception", "Celeb-DF v2", "AUC of frames", "0.7365",
        "DeepfakeBench", "source Xception",
    ]  # fmt: skip
    assert rows[2] == ["DFD", "AUC of frames", "0.8163", "DeepfakeBench"]
    assert found.em.text == "faces"
    # A number further down would name its row wrongly: the first cell there is the collection.
    assert found.select("tbody th") == []


def test_plain_text_keeps_the_numbers_and_leaves_the_tooltips_out(tmp_path):
    out, told = build(write(tmp_path, PAGES), "text")
    assert told == ""
    text = (out / "book" / "intro.txt").read_text(encoding="utf-8")
    assert "Mouth 0.705 [0.668, 0.745], alone 0.705" in text
    assert "recipe" not in text


def test_a_page_is_written_anew_when_a_result_has_changed(tmp_path):
    out, _ = build(write(tmp_path, PAGES))
    publish(tmp_path / "results", mouth=0.715)
    _, told = build(tmp_path)
    assert told == ""
    for page in ("book/intro.html", "notebooks/01_one.html", "book/numbers.html"):
        assert "0.715" in (out / page).read_text(encoding="utf-8")


# -- bad books ---------------------------------------------------------------------------------

BAD = {
    f"A {{result}}`{MOUTH.replace('auc', 'auk')}`.": (
        "unknown result 'orl-mouth--csu-mouth.mouth.auk'; "
        "did you mean 'orl-mouth--csu-mouth.mouth.auc'?"
    ),
    f"A {{value}}`{MOUTH.replace('orl', 'old')}`.": "did you mean 'orl-mouth--csu-mouth'?",
    f"```{{results}}\nit: {MOUTH}\nit: protocol.poeple.count\n```": (
        "unknown result 'protocol.poeple'; did you mean 'protocol.people'?"
    ),
    "A {claim}`seas`.": "unknown claim 'seas'; did you mean 'sees'?",
    "A {holds}`leads`.": (
        "book/bad asserts the claim 'leads'; expected one that holds, but its status is "
        f"'does not hold': asked: `{LEAD}.low > 0.1`, found 0.120 [0.090, 0.160]. Change what"
    ),
    "B {holds}`celebdf`.": "asserts the claim 'celebdf'; expected one that holds, but its status "
    "is 'not run here'",
    "A {claim}`lost`.": "claim 'lost': unknown result 'orl-nose'",
    "```{claims} papre\n```": "unknown mode 'papre'; did you mean 'paper'?",
    "```{published}\nXceptoin | faces | it\n```": "unknown detector 'Xceptoin'; did you mean 'Xcep",
    "```{published}\n:caption: Others\nSBI\n```": "found 'SBI'; expected DETECTOR | trained on |",
}
LOST = CLAIM | {"key": "lost", "sentence": "It is lost.", "holds_if": ["orl-nose.nose.auc.low > 0"]}


def test_whatever_cannot_be_quoted_is_a_warning_that_names_page_and_line(tmp_path):
    text = "---\norphan: true\n---\n\n# Bad\n\n" + "\n\n".join(BAD)
    _, told = build(write(tmp_path, PAGES | {"book/bad.md": text}, [*LEDGER, LOST]))
    for source, message in BAD.items():
        line = text[: text.index(source)].count("\n") + 1
        assert re.search(rf"bad\.md:{line}: WARNING: .*{re.escape(message)}", told), (
            f"{source}\n\n{told}"
        )
    elsewhere = [line for line in told.splitlines() if "bad.md" not in line]
    assert ["claims.md:3" in line and "'lost'" in line for line in elsewhere] == [True]
    left_out = [line for line in told.splitlines() if "the table leaves out Xception, Lip" in line]
    assert len(left_out) == 2
    # `{claim}` shows any status without a word.
    assert len(told.splitlines()) == len(BAD) + 1 + len(left_out)


def test_a_stale_result_is_a_warning(tmp_path):
    write(tmp_path, PAGES)
    publish(tmp_path / "results", decisions=recipe.demo().but(folds=4))
    _, told = build(tmp_path)
    now = f"{recipe.demo().key} or {recipe.panel().key}"
    then = recipe.demo().but(folds=4).key
    why = f"is stale: made by recipe {then}, but mode demo is {now} now; run `make results`"
    assert f"intro.md:3: WARNING: {MOUTH} {why}" in told
    assert re.search(rf"01_one\.ipynb:\d+: WARNING: {re.escape(f'{MOUTH} {why}')}", told)
    assert f"orl-mouth--csu-mouth.json {why}" in told
    assert "asserts the claim 'sees'; expected one that holds, but its status is 'not run" in told


def test_a_digit_changed_in_a_record_is_a_warning_that_names_file_and_key(tmp_path):
    write(tmp_path, PAGES)
    path = tmp_path / "results" / "demo" / "orl-mouth--csu-mouth.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["results"]["mouth.auc"]["value"] = 0.905
    path.write_text(json.dumps(record), encoding="utf-8")
    out, told = build(tmp_path)
    assert told.count("WARNING") == 1
    assert "orl-mouth--csu-mouth.json: the result mouth.auc was changed" in told
    assert "0.905 [" not in (out / "book" / "intro.html").read_text(encoding="utf-8")


def test_a_malformed_ledger_is_a_warning_that_names_file_and_claim(tmp_path):
    ledger = [LEDGER[0] | {"holds_if": [f"{MOUTH} > 0.5"]}]
    _, told = build(write(tmp_path, PAGES, ledger))
    assert told.count("WARNING") == 1
    assert f"claims.yml, claim 1 ('sees'): found the predicate '{MOUTH} > 0.5'" in told


def test_a_quotation_without_its_page_is_a_warning(tmp_path):
    _, told = build(write(tmp_path, {"book/intro.md": f"# A\n\nB {{result}}`{MOUTH}`.\n"}))
    assert "intro.md:3: WARNING: '0.705 [0.668, 0.745]' leads to the page book/numbers" in told


@pytest.mark.slow
@pytest.mark.parametrize(("word", "fails"), [("sees", False), ("seas", True)])
def test_one_letter_in_a_claims_key_fails_jupyter_book(tmp_path, word, fails):
    intro = f"# A book\n\nIt sees: {{holds}}`{word}`.\n"
    write(tmp_path, PAGES | {"book/intro.md": intro})
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["seglib_results"] = str(tmp_path / "results")
    (tmp_path / "book" / "references.bib").write_text("")
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    chapters = [{"file": name} for name in ("notebooks/01_one", "book/numbers", "book/claims")]
    toc = {"format": "jb-book", "root": "book/intro", "chapters": chapters}
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump(toc), encoding="utf-8")
    book = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", book, "build", str(tmp_path), "-W", "-n", "--keep-going"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    told = strip_colors(done.stdout + done.stderr)
    assert bool(done.returncode) is fails, told
    assert ("unknown claim 'seas'; did you mean 'sees'?" in told) is fails
