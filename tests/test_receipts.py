"""Receipts: what is compared, what is kept, and what is refused when it comes back."""

import dataclasses
import getpass
import json
import platform
import socket
from pathlib import Path

import numpy as np
import pytest

from seglib import receipts, recipe, results
from seglib.evaluation import Scores
from seglib.metrics import Interval
from seglib.receipts import BadReceipt, NothingSaved

RECIPE = recipe.demo()


def scores(seed=0, views=("mouth", "cls")):
    rng = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 40), np.repeat(np.arange(20), 4)
    noise = np.random.default_rng(seed)
    found = {view: labels + rng.normal(size=80) + 0.05 * noise.normal(size=80) for view in views}
    return Scores(labels, groups, found)


def save(folder, seed=0, views=("mouth", "cls"), changes=None, name="orl", changed=RECIPE):
    """A record of chapter 04, and a second one of a number without an interval."""
    results.save(name, scores(seed, views), changed, chapter="04", folder=folder)
    numbers = {"people.count": 0.0, "spread.auc": Interval(0.5, 0.4, 0.6, 9, 3, 1.0)}
    results.save("protocol", numbers | (changes or {}), changed, chapter="04", folder=folder)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A made-up publication in place of the project's own."""
    folder = tmp_path / "published"
    save(folder)
    results.save("other", {"n.count": 1.0}, RECIPE, chapter="03", folder=folder)
    monkeypatch.setattr(results, "FOLDER", folder)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of this run's results."""
    monkeypatch.setenv("SEGLIB_RESULTS", str(tmp_path / "run"))
    return tmp_path / "run"


def edited(path, change, sign=True):
    """A receipt that somebody changed, and signed anew so that only its form is wrong."""
    payload = json.loads(path.read_text())
    change(payload)
    if sign:
        payload["digest"] = results.digest(payload)
    fresh = path.with_name(f"{payload['chapter']}-{payload['digest'][:8]}.json")
    path.unlink()
    fresh.write_text(json.dumps(payload))
    return fresh


# -- writing -----------------------------------------------------------------------------------


def test_the_same_numbers_lie_inside_and_come_back_as_written(published, run):
    save(run)
    receipt = receipts.write("04", RECIPE)
    assert receipt.inside == len(receipt.rows) == len(results.published()) - 1  # not chapter 03's
    assert receipt.missing == {}
    assert receipt.path == run / "replications" / receipt.name
    assert receipts.read(run / "replications") == [receipt]
    assert str(receipt).endswith(f"{receipt.inside} of {receipt.inside} inside their published "
                                 "intervals.")  # fmt: skip


def test_a_number_outside_is_told_first_and_stops_nothing(published, run):
    save(run, changes={"spread.auc": Interval(0.61, 0.5, 0.7, 9, 3, 1.0), "people.count": 1e-6})
    receipt = receipts.write("04", RECIPE)
    assert receipt.inside == len(receipt.rows) - 2
    table = receipt.table()
    assert table.inside.tolist() == ["no", "no", *["yes"] * receipt.inside]
    rows = table.set_index("what").loc[["protocol.people.count", "protocol.spread.auc"]]
    assert rows.here.tolist() == ["0.000", "0.610"]
    assert rows.published.tolist() == ["0.000, no interval: must be equal", "0.500 [0.400, 0.600]"]
    assert "<td>no</td>" in receipt._repr_html_()


def test_the_ends_of_an_interval_are_inside(published, run):
    save(run, changes={"spread.auc": Interval(0.6, 0.5, 0.7, 9, 3, 1.0)})
    assert receipts.write("04", RECIPE).table().inside.eq("yes").all()


def test_an_interval_of_one_point_asks_for_that_point(published, run):
    point = {"spread.auc": Interval(1.0, 1.0, 1.0, 9, 3, 1.0)}
    save(published, changes=point)
    save(run, changes=point)
    rows = {row.key: row for row in receipts.write("04", RECIPE).rows}
    assert rows["protocol.spread.auc"].inside
    assert rows["protocol.spread.auc"].expected == "1.000, no interval: must be equal"


def test_what_was_not_made_again_is_missing_with_its_reason(published, run):
    results.save("orl", scores(views=("mouth",)), RECIPE, chapter="04", folder=run)
    receipt = receipts.write("04", RECIPE)
    assert receipt.missing["protocol.people.count"] == (
        "the record protocol was not saved in this run"
    )
    assert receipt.missing["orl.cls.auc"] == "the record orl of this run has no such number"
    assert {row.key for row in receipt.rows}.isdisjoint(receipt.missing)
    assert f"published but not made in this run: {len(receipt.missing)}." in str(receipt)
    assert set(receipt.table().inside[: len(receipt.missing)]) == {"missing"}


@pytest.mark.parametrize("changed", [RECIPE.but(seed=1), recipe.paper()])
def test_without_anything_published_the_receipt_says_so(published, run, changed):
    save(run, changed=changed)
    receipt = receipts.write("04", changed)
    assert (receipt.published, receipt.rows, receipt.missing) == ({}, (), {})
    assert str(receipt).endswith("nothing is published to compare with.")
    assert receipts.read(run / "replications") == [receipt]


def test_a_chapter_that_saved_nothing_is_told_to_run(published, run):
    save(run, changed=RECIPE.but(seed=1))  # another run's
    with pytest.raises(NothingSaved, match=r"no record of chapter 04 .* Run the chapter from"):
        receipts.write("04", RECIPE)


def test_the_publication_is_not_compared_with_itself(published):
    receipt = receipts.write("04", RECIPE, published)
    assert receipt.path == Path()
    assert not (published / "replications").exists()
    assert "Receipt: " not in receipt._repr_html_()


def test_a_receipt_names_libraries_and_machine_but_nobody(published, run, monkeypatch):
    monkeypatch.setattr(receipts, "LIBRARIES", ("numpy", "no-such-library"))
    save(run)
    receipt = receipts.write("04", RECIPE)
    assert receipt.versions == {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "no-such-library": "not installed",
    }
    assert receipt.platform["system"] == platform.system()
    text = receipt.path.read_text()
    for private in (socket.gethostname(), str(run), str(Path.home()), f'"{getpass.getuser()}"'):
        assert private not in text


def test_a_publication_made_anew_with_the_same_numbers_is_the_same(published):
    before, _, other = results.records(published)
    again = dataclasses.replace(before, made="2030-01-01", seconds=9.0, device="cuda")
    assert receipts.publication(again) == receipts.publication(before)
    assert receipts.publication(other) != receipts.publication(before)


# -- reading -----------------------------------------------------------------------------------


@pytest.fixture
def receipt(published, run):
    save(run)
    return receipts.write("04", RECIPE).path


def refused(path, message):
    with pytest.raises(BadReceipt, match=message) as caught:
        receipts.load(path)
    assert str(path) in str(caught.value)
    assert "expected" in str(caught.value)


def test_one_digit_changed_is_seen(receipt):
    text = receipt.read_text()
    digits = [i for i, letter in enumerate(text) if letter.isdigit()]
    for place in digits[:: len(digits) // 60]:
        receipt.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
        with pytest.raises(BadReceipt):
            receipts.load(receipt)


def test_an_edit_names_both_hashes(receipt):
    fresh = edited(receipt, lambda payload: payload["rows"][0].update(here=0.9), sign=False)
    refused(fresh, r"found a text that hashes to \w{64}; expected its digest \w{64}\. Hand it in")


@pytest.mark.parametrize("text", ["", "{", "\udc80", '{"chapter": '])
def test_what_is_no_json_is_refused(receipt, text):
    receipt.write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(receipt, "found no JSON")


@pytest.mark.parametrize("text", ["[4, 5]", "null", "3"])
def test_what_is_no_object_is_refused(receipt, text):
    receipt.write_text(text)
    refused(receipt, r"found .* as a receipt; expected a JSON object")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda r: r.update(sekonds=1),
            "in a receipt an unknown field 'sekonds'; did you",
        ),
        (lambda r: r.pop("mode"), "a receipt without the field mode"),
        (lambda r: r.update(seconds="1"), "seconds = '1' in a receipt; expected int or float"),
        (lambda r: r["rows"][0].update(where=1), "in row 1 an unknown field 'where'"),
        (
            lambda r: r["rows"][1].update(here="0.9"),
            "here = '0.9' in row 2; expected int",
        ),
        (lambda r: r["rows"][1].update(here=10**400), "here = 1000"),
        (lambda r: r["rows"][1].update(inside=1), "inside = 1 in row 2; expected bool"),
        (lambda r: r["rows"].append(3), r"found 3 as row \d+"),
        (lambda r: r["platform"].update(host="ada"), "unknown field 'host'"),
        (
            lambda r: r["platform"].update(processors=True),
            "processors = True in platform; ",
        ),
        (lambda r: r["versions"].update(torch=2), "torch = 2 in versions; expected str"),
        (lambda r: r["missing"].update(a=None), "a = None in missing; expected str"),
        (lambda r: r["published"].pop("protocol"), "found rows of protocol; expected"),
    ],
)
def test_a_receipt_of_another_form_is_refused(receipt, change, message):
    refused(edited(receipt, change), message)


def test_a_receipt_under_another_name_is_refused(receipt):
    fresh = receipt.rename(receipt.with_name("04.json"))
    refused(fresh, r"file name 04\.json; expected 04-\w{8}\.json")


def test_the_projects_own_receipts_can_be_read():
    receipts.read()


# -- several of them ---------------------------------------------------------------------------


def test_the_spread_counts_machines_and_those_inside(published, run):
    found = []
    for value in (0.5, 0.7, 0.55):
        save(run, changes={"spread.auc": Interval(value, 0.0, 1.0, 9, 3, 1.0)})
        found.append(receipts.write("04", RECIPE))
    table = receipts.spread(found, results.records(published))
    row = table.loc["present", "protocol.spread.auc"]
    assert row.tolist() == [3, 0.5, 0.55, 0.7, 0.5, 0.4, 0.6, 2]
    count = table.loc["present", "protocol.people.count"]
    assert count[["receipts", "inside", "published"]].tolist() == [3, 3, 0]
    assert np.isnan(count.low)


def test_receipts_of_an_earlier_publication_stand_apart(published, run):
    save(run)
    old = receipts.write("04", RECIPE)
    save(published, changes={"spread.auc": Interval(0.8, 0.7, 0.9, 9, 3, 1.0)})
    table = receipts.spread([old, receipts.write("04", RECIPE)], results.records(published))
    earlier = old.published["protocol"][:8]
    assert table.loc["present", "protocol.spread.auc"][["receipts", "inside"]].tolist() == [1, 0]
    assert table.loc[earlier, "protocol.spread.auc"][["receipts", "inside"]].tolist() == [1, 1]
    assert table.loc["present", "orl.mouth.auc"].receipts == 2


def test_without_receipts_the_spread_is_an_empty_table():
    table = receipts.spread([], [])
    assert len(table) == 0
    assert list(table) == receipts.SPREAD
