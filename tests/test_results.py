"""Records: written once, read back, computed anew to the digit, and proof against change."""

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from seglib import recipe, results, scoretable
from seglib.evaluation import Scores
from seglib.metrics import Interval
from seglib.results import BadRecord

RECIPE = recipe.demo()


def made_up(seeds=2, people=8, each=5, seed=0):
    """Scores of two views by several probes; the second abstains on one picture."""
    rng = np.random.default_rng(seed)
    groups = np.tile(np.repeat(np.arange(people), each), 2)
    labels = np.repeat([0, 1], people * each)
    views = {
        "mouth": labels + rng.normal(size=(seeds, labels.size)),
        "random mouth": rng.normal(size=(seeds, labels.size)),
    }
    views["random mouth"][:, 3] = np.nan
    return Scores(
        labels,
        groups,
        views,
        probes=np.stack([groups % 2] * seeds),
        items=np.array([f"p{group}/ü{i}" for i, group in enumerate(groups)]),
        methods=np.where(labels == 0, "original", np.where(groups < 4, "A", "B b")),
        thresholds={view: np.full((seeds, 2), 0.25) for view in views},
        title="made up",
        seconds=1.23,
    )


@pytest.fixture
def record(tmp_path):
    return results.save("made-up", made_up(), RECIPE, chapter="03", folder=tmp_path)


# -- what is written ---------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    assert results.records(tmp_path) == [record]
    assert record.path == tmp_path / "demo" / "made-up.json"
    assert (record.mode, record.recipe, record.chapter) == ("demo", RECIPE.key, "03")
    assert (record.title, record.against, record.seconds) == ("made up", "mouth", 1.2)
    assert recipe.Recipe(**record.decisions | {"c_grid": RECIPE.c_grid}) == RECIPE


def test_every_number_has_its_origin(record, tmp_path):
    found = results.published(folder=tmp_path)
    assert set(found) == {f"made-up.{key}" for key in record.results}
    one = found["made-up.mouth.auc"]
    assert str(one) == f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
    assert (one.n, one.groups, one.coverage, one.method) == (80, 8, 1, "expanded")
    assert (one.mode, one.recipe, one.device) == ("demo", RECIPE.key, "cpu")
    assert re.fullmatch("[0-9a-f]{64}", one.data)
    assert (one.record, one.title, one.stale) == ("made-up", "made up", False)
    assert dataclasses.replace(one, recipe="another").stale


def test_views_metrics_leads_and_methods_have_keys(record):
    metrics = {"auc", "ap", "eer", "tpr@5%", "accuracy", "brier"}
    assert set(record.results) == {
        *(f"mouth.{metric}" for metric in metrics),
        *(f"random-mouth.{metric}" for metric in metrics - {"tpr@5%"}),  # 19 bona fide a probe
        "mouth-over-random-mouth.auc",
        "mouth@A.auc",
        "mouth@B-b.auc",
    }
    assert record.results["random-mouth.auc"]["coverage"] == 79 / 80
    lead = record.results["mouth-over-random-mouth.auc"]
    assert lead["n"] == 79


def test_a_records_table_is_that_of_its_scores(record):
    again = scoretable.read(record.path.with_suffix(".csv"), record.thresholds).table("mouth")
    again.index = ["mouth", "random-mouth"]
    found = record.table()
    assert found.attrs["part"] == "mouth"
    pd.testing.assert_frame_equal(found, again.astype(float).rename_axis("view"), rtol=0, atol=1e-6)


def test_numbers_that_come_from_no_table_are_kept_too(tmp_path):
    share = Interval(0.951, 0.936, 0.963, 1000, 1000, 1.0, "wilson")
    record = results.save("counts", {"a.covered": share, "b.count": 0}, RECIPE, folder=tmp_path)
    assert not record.path.with_suffix(".csv").exists()
    found = results.published(folder=tmp_path)
    assert str(found["counts.a.covered"]) == "0.951 [0.936, 0.963]"
    nothing = found["counts.b.count"]
    assert (str(nothing), nothing.low, nothing.data) == ("0", None, "")
    assert results.recomputed(record) == {}


def test_a_view_that_scored_one_class_has_no_result(tmp_path):
    scores = made_up()
    scores.views["random mouth"][:, scores.labels == 1] = np.nan
    record = results.save("half", scores, RECIPE, folder=tmp_path)
    assert {key.partition(".")[0] for key in record.results} == {"mouth", "mouth@A", "mouth@B-b"}


def test_a_run_keeps_its_numbers_apart_from_the_published(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEGLIB_RESULTS", raising=False)
    assert results.save("a", {"x.count": 1}, RECIPE).path.resolve() == (
        tmp_path / "my_results" / "demo" / "a.json"
    )
    monkeypatch.setenv("SEGLIB_RESULTS", str(tmp_path / "elsewhere"))
    assert results.save("a", {"x.count": 1}, RECIPE).path.parts[-3] == "elsewhere"


def test_one_mode_can_be_asked_for(record, tmp_path):
    results.save("other", {"x.count": 1}, recipe.paper(), folder=tmp_path)
    assert set(results.published("paper", tmp_path)) == {"other.x.count"}
    assert len(results.published(folder=tmp_path)) == len(record.results) + 1


# -- to the digit ------------------------------------------------------------------------------


def test_results_are_those_of_the_table_as_written(record):
    assert results.recomputed(record) == record.results
    scores = scoretable.read(record.path.with_suffix(".csv"), record.thresholds)
    exact = made_up()
    np.testing.assert_allclose(scores.views["mouth"], exact.views["mouth"], rtol=1e-4)
    np.testing.assert_array_equal(scores.probes, exact.probes)
    assert np.isnan(scores.views["random mouth"][:, 3]).all()


def test_the_same_scores_give_the_same_files(tmp_path):
    texts = [
        results.save("made-up", made_up(), RECIPE, folder=tmp_path / name).path.read_text()
        for name in "ab"
    ]
    assert texts[0] == texts[1]


# -- what was changed is named ------------------------------------------------------------------


def changed(path, old, new, count=1):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


@pytest.mark.parametrize("field", ["value", "low", "n"])
def test_one_digit_of_a_result(record, tmp_path, field):
    number = record.results["mouth.eer"][field]
    payload = json.loads(record.path.read_text(encoding="utf-8"))
    payload["results"]["mouth.eer"][field] = number + (1 if field == "n" else 1e-6)
    record.path.write_text(json.dumps(payload), encoding="utf-8")
    with pytest.raises(BadRecord, match=r"made-up\.json: the result mouth\.eer was changed"):
        results.published(folder=tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"device": "cpu"', '"device": "cuda"'),
        ('"incomplete": ""', '"incomplete": "half of it"'),
        ('"chapter": "03"', '"chapter": "04"'),
        ('"chapter": "03"', '"author": "me", "chapter": "03"'),
    ],
)
def test_something_else_in_a_record(record, tmp_path, old, new):
    changed(record.path, old, new)
    with pytest.raises(BadRecord, match="something beside the results"):
        results.published(folder=tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"digest": 1, "results": []}'])
def test_what_is_no_record(record, tmp_path, text):
    record.path.write_text(text)
    with pytest.raises(BadRecord, match=r"made-up\.json is no record .*make results"):
        results.records(tmp_path)


def test_a_removed_result_is_noticed(record, tmp_path):
    payload = json.loads(record.path.read_text(encoding="utf-8"))
    del payload["results"]["mouth.ap"]
    record.path.write_text(json.dumps(payload), encoding="utf-8")
    with pytest.raises(BadRecord, match="changed after it was written"):
        results.records(tmp_path)


@pytest.mark.parametrize("how", ["removed", "twice", "swapped"])
def test_rows_that_come_go_or_move_are_noticed(record, how):
    path = record.path.with_suffix(".csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    if how == "removed":
        del lines[5]
    elif how == "twice":
        lines.append(lines[5])
    else:
        lines[5], lines[6] = lines[6], lines[5]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(BadRecord, match=r"made-up\.csv: which rows there are, or their order"):
        results.recomputed(record)


# -- comparing ----------------------------------------------------------------------------------


def test_a_run_is_compared_with_published_intervals(record, tmp_path):
    ours = record.quoted()
    key = "made-up.mouth.auc"
    theirs = dict(ours)
    theirs[key] = dataclasses.replace(ours[key], value=0.2, low=0.1, high=0.3)
    theirs["made-up.mouth.eer"] = dataclasses.replace(ours["made-up.mouth.eer"], value=0.1)
    del theirs["made-up.mouth.ap"]
    found = results.compare(ours, theirs)
    assert list(found.index[~found.inside.astype(bool)]) == [key]
    assert "made-up.mouth.ap" not in found.index
    assert found.published["made-up.mouth.eer"] == 0.1


def test_a_number_without_an_interval_is_compared_to_the_digit(tmp_path):
    one, other = (
        results.save("n", {"x.count": count}, RECIPE, folder=tmp_path).quoted() for count in (0, 1)
    )
    assert results.compare(one, one).inside.tolist() == [True]
    assert results.compare(other, one).inside.tolist() == [False]


def test_a_key_of_two_records_is_refused(record, tmp_path):
    results.save("made-up", {"mouth.auc": 1}, recipe.paper(), folder=tmp_path)
    with pytest.raises(BadRecord, match=r"made-up\.mouth\.auc is another record's too"):
        results.published(folder=tmp_path)


def test_what_groups_are_called_does_not_change_a_result(tmp_path):
    """On disk they are text, and 10 comes before 2."""
    scores = made_up(people=12)
    record = results.save("made-up", scores, RECIPE, folder=tmp_path)
    rounded = scoretable.read(record.path.with_suffix(".csv"), record.thresholds)
    exact = dataclasses.replace(rounded, groups=scores.groups).auc("mouth")
    found = record.results["mouth.auc"]
    assert (found["low"], found["high"]) == (round(exact.low, 6), round(exact.high, 6))


def test_a_number_nobody_can_give_is_no_result(tmp_path):
    record = results.save("made-up", made_up(), RECIPE, folder=tmp_path)
    assert "mouth.tpr@1%" not in record.results  # 20 bona fide pictures a probe


def with_isolated(**more):
    """A view, and the same again with only its tokens encoded."""
    scores, rng = made_up(), np.random.default_rng(1)
    own = {f"isolated {view}": values + rng.normal(size=values.shape)
           for view, values in scores.views.items()}  # fmt: skip
    return dataclasses.replace(scores, views=scores.views | own | more, thresholds={})


@pytest.mark.parametrize(
    ("against", "leads"),
    [
        ("mouth", ["random-mouth-over-isolated-random-mouth"]),
        (
            "isolated mouth",
            ["mouth-over-isolated-mouth", "random-mouth-over-isolated-random-mouth"],
        ),
    ],
)
def test_a_view_leads_its_isolated_twin_too(tmp_path, against, leads):
    scores = with_isolated(**{"isolated eyes": made_up(seed=2).views["mouth"]})
    found = results.compute(scores, against)
    others = [results.slug(view) for view in scores.views if view != against]
    own = [f"{results.slug(against)}-over-{view}" for view in others]
    assert sorted(key for key in found if "-over-" in key) == sorted(
        f"{key}.auc" for key in [*own, *leads]
    )
    for key in leads:
        view, twin = key.replace("-", " ").split(" over ")
        assert found[f"{key}.auc"] == scores.lead(view, twin)
    record = results.save("twins", scores, RECIPE, against=against, folder=tmp_path)
    table = record.table()
    assert set(table.index) == {results.slug(view) for view in scores.views}
    assert [table.lead[view] for view in others] == [
        record.results[f"{key}.auc"]["value"] for key in own
    ]
    assert table.lead[results.slug(against)] == 0


def test_a_twin_that_shares_no_items_of_a_class_has_no_lead_and_keeps_its_numbers():
    scores = with_isolated()
    first, fake = np.arange(scores.labels.size) % 2 == 0, scores.labels == 1
    for view, absent in (("random mouth", first), ("isolated random mouth", ~first)):
        scores.views[view][:, absent & fake] = np.nan
    found = results.compute(scores, "mouth")
    assert "random-mouth-over-isolated-random-mouth.auc" not in found
    assert {"isolated-random-mouth.auc", "mouth-over-isolated-random-mouth.auc"} <= found.keys()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("mode", "dmeo", "unknown mode 'dmeo'; did you mean 'demo'"),
        ("title", "\ud800", r"title of the record is '\ud800', expected str"),
        ("seconds", 10**400, "seconds of the record is 1000"),
        ("seconds", "1", "seconds of the record is '1', expected int or float"),
        ("thresholds", [], "thresholds of the record"),
    ],
)
def test_who_signs_anew_can_still_not_write_anything(record, tmp_path, field, value, said):
    payload = json.loads(record.path.read_text())
    payload[field] = value
    payload["digest"] = results.digest(payload)
    record.path.write_text(json.dumps(payload))
    with pytest.raises(BadRecord, match=re.escape(said)):
        results.load(record.path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "0.5"}, "value of the result"),
        ({"n": True}, "n of the result"),
        ({"note": 1}, "has the fields"),
    ],
)
def test_nor_can_a_result_be_anything(record, change, said):
    payload = json.loads(record.path.read_text())
    key, numbers = next(iter(payload["results"].items()))
    numbers = {name: value for name, value in numbers.items() if name != "check"} | change
    payload["results"][key] = numbers | {"check": scoretable.check(key, *numbers.values())}
    payload["digest"] = results.digest(payload)
    record.path.write_text(json.dumps(payload))
    with pytest.raises(BadRecord, match=said):
        results.load(record.path)


def test_a_record_without_results_lists_none(tmp_path):
    record = results.save("nothing", {}, RECIPE, folder=tmp_path)
    assert len(results.load(record.path).listed()) == 0
