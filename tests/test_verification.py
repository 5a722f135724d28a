"""What is published verifies; one digit, one word, one row that was changed is found and named."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from seglib import cli, experiments, receipts, recipe, results, verification
from seglib.evaluation import Scores
from seglib.metrics import Interval
from seglib.verification import NotReproduced

RECIPE = recipe.demo()
LEDGER = """\
- key: mouth-tells
  sentence: The mouth's tokens tell fakes.
  mode: demo
  holds_if: ["orl.mouth.auc.low > 0.5"]
  controls:
    - sentence: Nobody is on both sides.
      holds_if: ["protocol.people.count.value <= 0"]
"""
PAGE = """\
# Numbers

The mouth reaches {result}`orl.mouth.auc`, a {claim}`mouth-tells`.
Written ``{result}`KEY` ``.

```{results}
:caption: All of it: two
mouth: orl.mouth.auc
orl.mouth-over-cls.auc
```
"""


def scores(seed=0):
    rng = np.random.default_rng(seed)
    labels, groups = np.tile([0, 1], 40), np.repeat(np.arange(20), 4)
    views = {view: labels + rng.normal(size=80) for view in ("mouth", "cls")}
    views["cls"][3] = np.nan
    items = np.array([f"s{i}/1.pgm" for i in range(80)])
    thresholds = {view: np.array([[0.5]]) for view in views}
    return Scores(labels, groups, views, items=items, thresholds=thresholds)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made-up project: records, a receipt, a ledger, pages."""
    project = tmp_path_factory.mktemp("made") / "project"
    for folder in (project / "results", project / "run"):
        results.save("orl", scores(), RECIPE, chapter="04", folder=folder)
        numbers = {"people.count": 0.0, "spread.auc": Interval(0.5, 0.4, 0.6, 9, 3, 1.0)}
        results.save("protocol", numbers, RECIPE, chapter="04", folder=folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(results, "FOLDER", project / "results")
        receipts.write("04", RECIPE, project / "run")
    shutil.move(project / "run" / "replications", project / "results")
    shutil.rmtree(project / "run")
    for folder in ("book", "notebooks"):
        (project / folder).mkdir()
    check = results.digest(yaml.safe_load(LEDGER)[0])[:8]
    (project / "book" / "claims.yml").write_text(f"{LEDGER}  check: '{check}'\n")
    (project / "book" / "page.md").write_text(PAGE)
    (project / "README.md").write_text("It {holds}`mouth-tells`: {value}`orl.cls.auc`.")
    cells = [("code", "'{result}`no.such.auc`'"), ("markdown", "{result}`orl.cls.eer`")]
    cells = [{"cell_type": kind, "source": [text]} for kind, text in cells]
    (project / "notebooks" / "04.ipynb").write_text(json.dumps({"cells": cells}))
    return project


@pytest.fixture
def project(made, tmp_path):
    return shutil.copytree(made, tmp_path / "project")


def checked(project):
    return verification.offline(project / "results", project)


def problems(project):
    return [problem for one in checked(project) for problem in one.problems]


def one_problem(project, *said):
    """The only problem that there is, which says all of this."""
    (problem,) = problems(project)
    for text in said:
        assert text in problem
    assert re.search(r"[Rr]estore|[Hh]and it in|make results|did you mean|Known", problem)
    return problem


def replaced(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def resigned(path, change):
    """A record that somebody changed, and whose every check sum they made anew."""
    record = results.load(path)
    change(record)
    results._write(record)


def test_what_was_saved_verifies(project):
    found = {one.what: one.count for one in checked(project)}
    assert problems(project) == []
    assert found == {
        "records and their check sums": 2,
        "numbers, recomputed from their scores": 13,
        "claims: 1 holds": 1,
        "quotes on pages": 7,
        "receipts": 1,
    }


# -- records and scores ------------------------------------------------------------------------


def test_one_digit_of_a_result_is_seen_and_its_key_named(project):
    path = project / "results" / "demo" / "orl.json"
    value = results.load(path).results["mouth.auc"]["value"]
    replaced(path, f'"value": {value}', f'"value": {round(value + 1e-6, 6)}')
    assert any(str(path) in one and "mouth.auc" in one for one in problems(project))


def test_a_digit_is_seen_even_if_every_check_sum_was_made_anew(project):
    path = project / "results" / "demo" / "orl.json"
    low = results.load(path).results["cls.eer"]["low"]
    resigned(path, lambda record: record.results["cls.eer"].update(low=low + 0.1))
    (project / "results" / "replications").rename(project / "away")
    one_problem(project, str(path), "orl.cls.eer: found low", f"expected low {low}, as the scores")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.pop("cls.ap"), ("orl.cls.ap: found nothing", "expected the result")),
        (
            lambda found: found.update({"nose.ap": found["cls.ap"]}),
            ("orl.nose.ap: found the result", "expected nothing"),
        ),
    ],
)
def test_a_result_too_few_or_too_many_is_named(project, change, said):
    resigned(project / "results" / "demo" / "orl.json", lambda record: change(record.results))
    (project / "results" / "replications").rename(project / "away")
    one_problem(project, *said)


def lines(change):
    def apply(table):
        rows = table.read_text().splitlines(keepends=True)
        change(rows)
        table.write_text("".join(rows))

    return apply


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: replaced(table, "s3/1.pgm,1", "s3/1.pgm,0"), "line 5, item 's3/1.pgm'"),
        (lines(lambda rows: rows.pop(7)), "rows"),
        (lines(lambda rows: rows.insert(7, rows[9])), "rows"),
        (lines(lambda rows: rows.insert(7, rows.pop(9))), "rows"),
        (lambda table: table.unlink(), "is no table of scores"),
    ],
    ids=["changed", "removed", "added", "swapped", "deleted"],
)
def test_one_row_of_the_scores_is_seen(project, change, said):
    table = project / "results" / "demo" / "orl.csv"
    change(table)
    one_problem(project, str(table), said)


def test_scores_whose_record_went_missing_are_seen(project):
    (project / "results" / "demo" / "orl.json").unlink()
    assert any(
        "orl.csv: found scores without a record; expected orl.json" in problem
        for problem in problems(project)
    )


def test_a_record_under_another_name_is_seen(project):
    folder = project / "results" / "demo"
    (folder / "protocol.json").rename(folder / "control.json")
    one_problem(project, "control.json: found the record demo/protocol; expected demo/control")


def test_a_folder_without_records_is_a_problem(tmp_path, project):
    shutil.rmtree(project / "results" / "demo")
    assert any("found no record" in problem for problem in problems(project))


# -- claims, quotes, receipts ------------------------------------------------------------------


def amended(project, old, new):
    """A change of the ledger whose check was written anew."""
    path = project / "book" / "claims.yml"
    replaced(path, old, new)
    entry = yaml.safe_load(path.read_text())[0]
    entry["check"] = results.digest({k: v for k, v in entry.items() if k != "check"})[:8]
    path.write_text(yaml.safe_dump([entry]))


def test_a_claim_of_another_key_is_missed_where_it_is_quoted(project):
    amended(project, "key: mouth-tells", "key: mouth-told")
    found = problems(project)
    assert len(found) == 2
    assert "README.md, line 1: unknown claim 'mouth-tells'; did you mean 'mouth-told'" in found[0]
    assert "page.md, line 3: unknown claim" in found[1]


def test_one_word_of_a_key_in_a_claim_is_seen(project):
    amended(project, "orl.mouth.auc", "orl.month.auc")
    found = problems(project)
    assert "claims.yml, claim 'mouth-tells'" in found[0]
    assert "orl.month" in found[0]
    assert "did you mean" in found[0]
    assert "asserts mouth-tells: found a result that is not published" in found[1]


def test_a_ledger_that_cannot_be_read_is_a_problem(project):
    (project / "book" / "claims.yml").write_text("- key: [")
    assert "claims.yml cannot be read" in problems(project)[0]


@pytest.mark.parametrize(
    ("file", "old", "place"),
    [
        ("README.md", "{value}`orl.cls.auc", "README.md, line 1"),
        ("book/page.md", "{result}`orl.mouth.auc", "page.md, line 3"),
        ("book/page.md", "mouth: orl.mouth.auc", "page.md, line 8"),
        ("book/page.md", "\norl.mouth-over-cls.auc", "page.md, line 9"),
        ("notebooks/04.ipynb", "orl.cls.eer", "04.ipynb, cell 2"),
    ],
)
def test_one_word_of_a_quoted_key_is_seen_on_its_line(project, file, old, place):
    replaced(project / file, old, f"{old[:-1]}d")
    one_problem(project, place, "unknown result", "did you mean")


def test_a_quote_in_a_folder_of_pages_is_seen_too(project):
    (project / "book" / "inner").mkdir()
    (project / "book" / "inner" / "page.md").write_text("It is {value}`orl.cls.auk`.")
    one_problem(project, "inner/page.md, line 1", "unknown result", "did you mean")


def test_a_stale_quote_is_seen(project):
    other = RECIPE.but(seed=1)
    folder = project / "results"
    results.save("old", {"n.count": 1.0}, other, chapter="04", folder=folder)
    replaced(project / "README.md", "orl.cls.auc", "old.n.count")
    one_problem(project, "README.md, line 1: old.n.count is stale", other.key, RECIPE.key)


def test_one_digit_of_a_receipt_is_seen(project):
    (path,) = receipts.paths(project / "results" / "replications")
    seconds = json.loads(path.read_text())["seconds"]
    replaced(path, f'"seconds": {seconds}', f'"seconds": {seconds + 0.1}')
    one_problem(project, str(path), "found a text that hashes to")


def test_a_receipt_that_tells_another_published_number_is_seen(project):
    (path,) = receipts.paths(project / "results" / "replications")
    payload = json.loads(path.read_text())
    (row,) = (row for row in payload["rows"] if row["key"] == "protocol.spread.auc")
    row["published"] = 0.55
    payload["digest"] = results.digest(payload)
    path.unlink()
    fresh = path.with_name(f"04-{payload['digest'][:8]}.json")
    fresh.write_text(json.dumps(payload))
    one_problem(
        project, str(fresh), "protocol.spread.auc: found 0.550", "expected 0.500 [0.400, 0.600]"
    )


def test_a_receipt_of_an_earlier_publication_is_left_alone(project):
    numbers = {"people.count": 0.0, "spread.auc": Interval(0.6, 0.4, 0.7, 9, 3, 1.0)}
    results.save("protocol", numbers, RECIPE, chapter="04", folder=project / "results")
    assert problems(project) == []


# -- the projects's own ------------------------------------------------------------------------


def test_the_published_results_verify():
    found = verification.offline()
    assert [problem for one in found for problem in one.problems] == []
    assert all(one.count for one in found if one.what != "receipts")


# -- once more ---------------------------------------------------------------------------------


@pytest.fixture
def rerun(project, monkeypatch):
    """Re-runs of the made-up experiments, whose outcome a test may choose."""
    found = {
        "orl": scores(),
        "protocol": {"people.count": 0.0, "spread.auc": Interval(0.5, 0.4, 0.6, 9, 3, 1.0)},
    }
    monkeypatch.setattr(experiments, "EXPERIMENTS", found)
    monkeypatch.setattr(experiments, "run", lambda name, recipe: found[name])
    return found


def again(project):
    return verification.again(results.records(project / "results"))


def test_the_same_numbers_have_not_moved(project, rerun):
    table = again(project)
    assert len(table) == 15
    assert table.inside.all()
    assert (table.moved == 0).all()


def test_what_moved_is_told_with_how_far(project, rerun):
    rerun["protocol"] = {"people.count": 2.0, "spread.auc": Interval(0.55, 0.4, 0.6, 9, 3, 1.0)}
    table = again(project)
    assert table[table.moved != 0].moved.round(6).to_dict() == {
        "protocol.people.count": 2.0,
        "protocol.spread.auc": 0.05,
    }
    assert table.index[~table.inside.astype(bool)].tolist() == ["protocol.people.count"]


def test_a_number_that_does_not_come_out_again_is_not_inside(project, rerun):
    del rerun["protocol"]["spread.auc"]
    row = again(project).loc["protocol.spread.auc"]
    assert not row.inside
    assert np.isnan(row.here)
    assert np.isnan(row.moved)


def test_nothing_to_run_again_is_an_error(project, monkeypatch):
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"csu": None})
    with pytest.raises(NotReproduced, match=r"none of 2 records .* expected some of csu"):
        again(project)


def test_records_of_another_recipe_are_not_run_again(project, rerun):
    numbers = {"people.count": 0.0}
    results.save("orl", numbers, RECIPE.but(seed=1), folder=project / "results")
    with pytest.raises(NotReproduced, match=f"of the recipe {RECIPE.but(seed=1).key}; expected"):
        again(project)


# -- the command -------------------------------------------------------------------------------


@pytest.fixture
def here(project, monkeypatch):
    """The made-up project in place of this one."""
    monkeypatch.setattr(verification.claims, "LEDGER", project / "book" / "claims.yml")
    monkeypatch.setattr(results, "FOLDER", project / "results")
    monkeypatch.setattr(verification, "__file__", str(project / "seglib" / "verification.py"))
    return str(project / "results")


def test_the_command_prints_what_was_checked(here, capsys):
    assert cli.main(["verify", "--results", here]) == cli.OK
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["what", "checked", "found"]
    assert len(rows) == 5
    assert all(row.endswith("  ok") for row in rows)


def test_the_command_fails_and_says_where(here, capsys):
    replaced(Path(here, "demo", "orl.csv"), "s3/1.pgm,1", "s3/1.pgm,0")
    replaced(Path(here).parent / "README.md", "cls", "clss")
    assert cli.main(["verify", "--full", "--results", here]) == cli.FAILED
    told = capsys.readouterr().out
    assert told.count("1 problem\n") == 2
    assert f"\n{Path(here, 'demo', 'orl.csv')}: line 5, item 's3/1.pgm'" in told
    assert "README.md, line 1: unknown result" in told
    assert "to the digit" not in told  # --full does not run on what is damaged


def test_the_full_command_lists_what_moved(here, capsys, rerun):
    command = ["verify", "--full", "--results", here]
    assert cli.main(command) == cli.OK
    assert capsys.readouterr().out.endswith(
        "nothing moved\n\n15 numbers: 15 to the digit, 0 inside their published intervals, "
        "0 outside\n"
    )
    rerun["protocol"]["spread.auc"] = Interval(0.55, 0.4, 0.6, 9, 3, 1.0)
    assert cli.main(command) == cli.OK
    assert "protocol.spread.auc  0.500000 [0.400, 0.600]  0.550000  +0.050000  yes" in (
        capsys.readouterr().out
    )
    rerun["protocol"]["people.count"] = 1.0
    assert cli.main(command) == cli.FAILED
    told = capsys.readouterr().out
    assert re.search(r"protocol.people.count +0.000000 +1.000000 +\+1.000000 +no\n", told)
    assert told.endswith("13 to the digit, 1 inside their published intervals, 1 outside\n")


# -- what a fresh reading found ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("key: mouth-tells", "key: mouth-told"),
        ("The mouth's tokens tell", "The mouth's tokens always tell"),
        ("low > 0.5", "low > 0.4"),
        ("Nobody is on", "Few are on"),
    ],
)
def test_one_word_of_a_claim_is_seen_and_the_claim_named(project, old, new):
    replaced(project / "book" / "claims.yml", old, new)
    (problem,) = (one for one in problems(project) if "it was changed" in one)
    assert "mouth-t" in problem
    assert "write check: " in problem


def test_a_claim_without_its_check_is_seen(project):
    path = project / "book" / "claims.yml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert "claim 'mouth-tells': found no check" in "".join(problems(project))


def test_a_page_that_asserts_what_does_not_hold_is_seen(project):
    amended(project, "low > 0.5", "low > 0.99")
    one_problem = "README.md, line 1: asserts mouth-tells: found does not hold"
    assert one_problem in "".join(problems(project))


def resigned_receipt(project, change):
    """A receipt that somebody changed, signed anew and named after its new digest."""
    (path,) = (project / "results" / "replications").iterdir()
    payload = json.loads(path.read_text())
    change(payload)
    payload["digest"] = results.digest(payload)
    path.unlink()
    name = f"{payload['chapter']}-{payload['digest'][:8]}.json"
    (path.parent / name).write_text(json.dumps(payload))


def test_a_receipt_that_hides_a_failure_is_seen(project):
    def move(payload):
        (row,) = (row for row in payload["rows"] if row["key"] == "orl.mouth.auc")
        row["here"] = 0.111

    resigned_receipt(project, move)
    assert "orl.mouth.auc: found inside True; its own numbers say otherwise" in "".join(
        problems(project)
    )


def test_a_receipt_that_leaves_numbers_out_is_seen(project):
    resigned_receipt(project, lambda payload: payload["rows"].pop())
    assert "found nothing of" in "".join(problems(project))


def test_the_records_of_another_run_are_checked_for_themselves(project):
    """No page speaks of them, no claim is judged by them."""
    found = verification.offline(project / "results")
    assert [one.what for one in found] == [
        "records and their check sums", "numbers, recomputed from their scores", "receipts"
    ]  # fmt: skip
    assert [problem for one in found for problem in one.problems] == []
