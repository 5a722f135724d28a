"""The page of receipts: machines, spread and failures, and no page with an edited receipt."""

import json
import shutil
from pathlib import Path

import pytest
from sphinxpages import built_page, cells

from book import replicating
from seglib import receipts, recipe, results
from seglib.metrics import Interval

RECIPE = recipe.demo()
PAGE = "# Replications\n\n```{replications}\n```\n"


def save(folder, value=0.5, interval=(0.4, 0.6)):
    numbers = {"n.count": 0.0, "spread.auc": Interval(value, *interval, 9, 3, 1.0)}
    results.save("orl", numbers, RECIPE, chapter="04", folder=folder)


@pytest.fixture
def published(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    save(folder)
    monkeypatch.setattr(results, "FOLDER", folder)
    return folder


def hand_in(published, value=0.5):
    """A receipt of a run that got this value."""
    run = published.parent / "run"
    save(run, value)
    path = receipts.write("04", RECIPE, run).path
    (published / "replications").mkdir(exist_ok=True)
    return Path(shutil.copy(path, published / "replications"))


@pytest.fixture
def build(tmp_path):
    """Build the page; return it and the warnings."""

    def built(folder):
        source, out = tmp_path / "source", tmp_path / "out"
        (source / "book").mkdir(parents=True, exist_ok=True)
        (source / "book" / "replications.md").write_text(PAGE)
        settings = {
            "extensions": ["myst_parser", "book.replicating"],
            "root_doc": "book/replications",
            "seglib_results": str(folder),
        }
        return built_page(source, out, settings, "book/replications")

    return built


def test_without_a_receipt_the_page_says_so(published, build):
    page, told = build(published)
    assert replicating.NONE in page.text
    assert page("table") == []
    assert told == ""


def test_the_page_shows_machines_spread_and_failures(published, build):
    names = [hand_in(published, value).stem for value in (0.5, 0.55, 0.7)]
    page, told = build(published)
    assert told == ""
    machines, spread = map(cells, page("table"))
    assert machines[0][:3] == ["receipt", "chapter", "mode"]
    assert sorted(row[0] for row in machines[1:]) == sorted(names)
    assert sorted(row[-1] for row in machines[1:]) == ["1 of 2", "2 of 2", "2 of 2"]
    row = next(row for row in spread if row[0] == "spread.auc")
    assert row[1:] == ["0.500", "0.550", "0.700", "0.500", "0.400 to 0.600", "2 of 3"]
    (failure,) = page.find(id="outside-and-missing")("li")
    assert failure.text == (
        f"{names[2]}: orl.spread.auc: 0.700 here, published 0.500 [0.400, 0.600]"
    )


def test_every_number_inside_is_said_too(published, build):
    hand_in(published)
    page, _ = build(published)
    assert "None: every number of every receipt lies inside." in page.text


def test_what_was_not_made_again_is_spelled_out(published, build):
    results.save("nose", {"n.count": 1.0}, RECIPE, chapter="04", folder=published)
    hand_in(published)
    page, _ = build(published)
    (failure,) = page.find(id="outside-and-missing")("li")
    assert failure.text.endswith("nose.n.count missing, the record nose was not saved in this run")


def test_receipts_of_an_earlier_publication_have_their_own_table(published, build):
    hand_in(published)
    save(published, 0.8, (0.7, 0.9))
    hand_in(published, 0.8)
    page, _ = build(published)
    _, *spreads = page("table")
    tables = {table.caption.find(class_="caption-text").text: cells(table) for table in spreads}
    now, earlier = sorted(tables)
    assert now == "orl"
    assert earlier.startswith("orl, of an earlier publication, ")
    assert ["spread.auc", *["0.800"] * 4, "0.700 to 0.900", "1 of 1"] in tables[now]
    assert ["spread.auc", *["0.500"] * 4, "0.400 to 0.600", "1 of 1"] in tables[earlier]


def test_an_edited_receipt_is_a_warning_that_names_its_file(published, build):
    path = hand_in(published)
    payload = json.loads(path.read_text())
    path.write_text(json.dumps(payload | {"seconds": 5.5}))
    page, told = build(published)
    assert "replications.md:3: WARNING:" in told
    assert f"{path}: found a text that hashes to" in told
    assert replicating.NONE in page.text


def test_what_a_stranger_wrote_is_text_and_no_markup(published, build, monkeypatch):
    monkeypatch.setattr(receipts.platform, "system", lambda: "<script>alert(1)</script>")
    hand_in(published)
    page, _ = build(published)
    assert page.find("script", string="alert(1)") is None
    assert "<script>alert(1)</script>" in page.text
