"""The ledger of claims: a grammar without surprises, and verdicts that can go against us."""

import dataclasses
import operator
import re

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seglib import claims, published, recipe, results
from seglib.claims import BadLedger
from seglib.errors import UnknownName
from seglib.metrics import Interval

COMPARED = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
MOUTH, COUNT = "orl-mouth.mouth.auc", "token-counts.mouth.auc"
AUC = "celebdf-largest-face.mouth.auc"
ENTRY = {
    "key": "mouth-sees",
    "sentence": "The mouth is seen.",
    "mode": "demo",
    "holds_if": [f"{MOUTH}.value >= 0.70", f"{MOUTH}.low > 0.5"],
    "controls": [{"sentence": "Counting is not enough.", "holds_if": [f"{COUNT}.low <= 0.5"]}],
}
PAPER = ENTRY | {
    "mode": "paper",
    "holds_if": [f"{AUC}.high >= 0.905"],
    "controls": [],
    "needs": "It takes Celeb-DF v2.",
}


@pytest.fixture
def ledger(tmp_path):
    """Write entries as a ledger; return what is read of it."""

    def read(*entries):
        path = tmp_path / "claims.yml"
        path.write_text(yaml.safe_dump(list(entries)), encoding="utf-8")
        return claims.load(path)

    return read


@pytest.fixture
def measured(tmp_path):
    """Publish numbers, each a value or ``(value, low, high)``, by their full keys."""

    def measure(numbers, decisions=None, **said):
        decisions = decisions or recipe.demo()
        for key, number in numbers.items():
            name, _, rest = key.partition(".")
            if isinstance(number, tuple):
                number = Interval(*number, 346, 15, 1.0, "expanded")
            results.save(name, {rest: number}, decisions, folder=tmp_path, **said)
        return results.published(folder=tmp_path)

    return measure


FOUND = {MOUTH: (0.71, 0.66, 0.75), COUNT: (0.49, 0.46, 0.52)}


# -- the grammar -------------------------------------------------------------------------------

words = st.from_regex(r"[a-z][a-z0-9]*(-{1,2}[a-z0-9]+)*", fullmatch=True)
keys = st.tuples(words, words, st.sampled_from(["auc", "tpr@1%", "brier"])).map(".".join)
fields = st.sampled_from(["value", "low", "high"])
numbers = st.integers(0, 10**6).map(lambda n: n / 10**6)
values = st.floats(0, 1).map(lambda number: round(number, 6))


def result(key, value, low=None, high=None):
    origin = ("demo", recipe.demo().key, "0.1.0", "", "cpu", 0.0, "2026-11-23", "name", "title")
    return results.Result(key, value, low, high, "expanded", 9, 3, 1.0, *origin)


@settings(max_examples=40)
@given(keys, fields, st.sampled_from(list(COMPARED)), numbers, values)
def test_a_field_is_compared_with_a_number(key, field, sign, number, value):
    predicate = claims.parse(f"{key}.{field} {sign} {number:.6f}")
    assert predicate.operands == ((key, field),)
    found = {key: result(key, **{"value": 0.0, field: value})}
    assert predicate.holds(found) is COMPARED[sign](value, number)


@settings(max_examples=40)
@given(keys, keys, fields, fields, st.sampled_from(list(COMPARED)), values, values)
@pytest.mark.parametrize(("offset", "added"), [("", 0), (" + 0.05", 0.05), ("-0.05", -0.05)])
def test_a_field_is_compared_with_another_result(
    offset, added, key, other, field, theirs, sign, value, rival
):
    predicate = claims.parse(f"{key}.{field}{sign}{other}.{theirs}{offset}")
    assert predicate.operands == ((key, field), (other, theirs))
    if key != other:
        found = {
            key: result(key, **{"value": 0.0, field: value}),
            other: result(other, **{"value": 0.0, theirs: rival}),
        }
        assert predicate.holds(found) is COMPARED[sign](value, round(rival + added, 6))


NEAR_MISSES = [
    "a.b > 0", "a.value > 0", "a.b.mean > 0", "a.b.value = 0", "a.b.value == 0", "0 < a.b.value",
    "a.b.value > c.d", "a.b.value > c.d.value * 2", "a.b.value > c.d.value + c.d.low",
    "a.b.value > 0 + 1", "a.b.value > .5", "a.b.value > 1e3", "A.b.value > 0", "a.b.value > 0;",
    "a.b.value >", "__import__('os').value > 0", "a.b.value > 0 and a.b.low > 0",
]  # fmt: skip


@settings(max_examples=20)
@given(st.text().filter(lambda text: not any(f".{name}" in text for name in claims.FIELDS)))
@example("")
@pytest.mark.parametrize("near", ["", *NEAR_MISSES])
def test_any_other_text_is_refused_with_the_form_that_was_expected(near, text):
    told = re.escape(f"found the predicate {near or text!r}; expected KEY.value >= 0.70")
    with pytest.raises(BadLedger, match=f"claims.yml, claim 'x': {told}"):
        claims.parse(near or text, "claims.yml, claim 'x'")


def test_a_sum_of_decimals_is_compared_in_decimals():
    found = {"a.b": result("a.b", 0.3), "c.d": result("c.d", 0.1)}  # 0.1 + 0.2 > 0.3 in binary
    assert claims.parse("a.b.value >= c.d.value + 0.2").holds(found)


# -- numbers that nobody published -------------------------------------------------------------

HERE = """
sentence: The mouth is seen.
holds_if: [mouth.auc.low > 0.5]
controls:
  - sentence: Of labels dealt anew nothing is found.
    holds_if: [dealt.auc.low <= 0.5, dealt.auc.high >= 0.5]
  - sentence: Nobody is on both sides.
    holds_if: [people.shared.value <= 0]
"""


@pytest.mark.parametrize(
    ("mouth", "dealt", "shared", "said"),
    [
        ((0.7, 0.6, 0.8), (0.5 + 1e-9, 0.5 + 1e-9, 0.5 + 1e-9), 0, "holds"),
        ((0.5, 0.4, 0.6), (0.5, 0.4, 0.6), 0, "does not hold: asked: `mouth.auc.low > 0.5`, found"),
        ((0.7, 0.6, 0.8), (0.9, 0.8, 1.0), 3, "control failed: this control failed: Of labels"),
        ((0.7, 0.6, 0.8), (0.5, 0.4, 0.6), 3, "Asked: `people.shared.value <= 0`, found 3"),
    ],
)
def test_a_claim_of_ones_own_numbers_is_judged_as_those_of_the_ledger(mouth, dealt, shared, said):
    intervals = {"mouth.auc": Interval(*mouth, 9, 3, 1.0), "dealt.auc": Interval(*dealt, 9, 3, 1.0)}
    found = claims.judge_here(HERE, intervals | {"people.shared": np.int64(shared)})
    assert said in str(found)
    assert (str(found) == said) is (found.status == claims.HOLDS)


def test_a_claim_of_ones_own_numbers_names_what_is_missing_or_malformed():
    with pytest.raises(UnknownName, match="did you mean 'people'"):
        claims.judge_here(
            HERE.replace("people", "poeple"),
            dict.fromkeys(["mouth.auc", "dealt.auc", "people.shared"], 0.0),
        )
    with pytest.raises(BadLedger, match="this claim: found 'holds'"):
        claims.judge_here("holds", {})
    with pytest.raises(BadLedger, match=r"this claim \('here'\) has no 'controls'"):
        claims.judge_here("sentence: It is so.\nholds_if: []", {})


# -- the ledger --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (ENTRY | {"holds_if": [f"{MOUTH} > 0.5"]}, "found the predicate 'orl-mouth.mouth.auc > 0"),
        (ENTRY | {"holds_if": [True]}, "found the predicate True; expected KEY.value"),
        (ENTRY | {"holds_if": f"{MOUTH}.low > 0.5"}, "holds_if is 'orl-mouth.*expected a list"),
        (ENTRY | {"holds_if": []}, "holds_if is empty"),
        (ENTRY | {"controls": [{"sentence": "So.", "holds_if": []}]}, "of a control is empty"),
        (ENTRY | {"controls": ["So."]}, "found 'So.'; expected the fields sentence, holds_if"),
        (ENTRY | {"sentense": "x"}, "unknown field 'sentense'; did you mean 'sentence'"),
        ({k: v for k, v in ENTRY.items() if k != "controls"}, "has no 'controls'; expected"),
        (ENTRY | {"mode": "papre"}, "unknown mode 'papre'; did you mean 'paper'"),
        (ENTRY | {"key": "Mouth sees"}, "expected a key of small letters"),
        (ENTRY | {"paper": {"value": "much", "source": "x"}}, "value is 'much'; expected a number"),
        (ENTRY | {"paper": {"value": 1}}, "has no 'source'"),
        ({k: v for k, v in PAPER.items() if k != "needs"}, "has no 'needs'"),
        ("a sentence", "found 'a sentence'; expected the fields key"),
    ],
)
def test_a_malformed_entry_is_named(ledger, entry, told):
    with pytest.raises(BadLedger, match=rf"claims.yml, claim 2.*{told}"):
        ledger(ENTRY | {"key": "another"}, entry)


def test_a_key_that_stands_twice_is_refused(ledger):
    with pytest.raises(BadLedger, match=r"claims.yml: the key 'mouth-sees' stands there twice"):
        ledger(ENTRY, ENTRY)


@pytest.mark.parametrize("text", ["a: b", "- [", ""])
def test_what_is_no_list_is_refused(tmp_path, text):
    path = tmp_path / "claims.yml"
    path.write_text(text)
    with pytest.raises(BadLedger, match=r"claims.yml (cannot be read|holds \w+; expected a list)"):
        claims.load(path)
    with pytest.raises(BadLedger, match=r"nowhere.yml cannot be read"):
        claims.load(tmp_path / "nowhere.yml")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("celebd-largest-face.mouth.auc", "test 'celebd-largest-face'; did you mean 'celebdf-l"),
        ("celebdf-biggest-face.mouth.auc", "test 'celebdf-biggest-face'; did you mean"),
        ("celebdf-largest-face.moth.auc", "view 'moth'; did you mean 'mouth'"),
        ("celebdf-largest-face.mouth-over-csl.auc", "view 'csl'; did you mean 'cls'"),
        ("celebdf-largest-face.mouth.acc", "metric 'acc'; did you mean"),
        ("celebdf-largest-face.auc", "unknown key 'celebdf-largest-face.auc'"),
    ],
)
def test_a_typing_error_in_a_result_that_nobody_has_run_is_noticed(ledger, key, told):
    with pytest.raises(BadLedger, match=told):
        ledger(PAPER | {"holds_if": [f"{key}.value > 0.5"]})


@pytest.mark.parametrize("view", ["mouth", "random-mouth", "mouth-over-farl-b-mouth", "cls"])
def test_the_keys_of_the_papers_protocol_are_known(ledger, view):
    (claim,) = ledger(PAPER | {"holds_if": [f"dfd-mask-face.{view}.tpr@5%.low > 0"]})
    assert claim.operands == [(f"dfd-mask-face.{view}.tpr@5%", "low")]


# -- the verdict -------------------------------------------------------------------------------


def test_a_claim_holds_when_all_of_it_and_its_controls_do(ledger, measured):
    found = claims.judge(*ledger(ENTRY), measured(FOUND))
    assert (found.status, found.reason) == ("holds", "")
    assert {key: str(figure) for key, figure in found.figures.items()} == {
        MOUTH: "0.710 [0.660, 0.750]",
        COUNT: "0.490 [0.460, 0.520]",
    }


@pytest.mark.parametrize("number", [(0.699, 0.66, 0.75), (0.71, 0.49, 0.75)])
def test_one_predicate_that_is_not_so_and_it_does_not_hold(ledger, measured, number):
    found = claims.judge(*ledger(ENTRY), measured(FOUND | {MOUTH: number}))
    assert found.status == "does not hold"
    assert f"found {number[0]:.3f} [{number[1]:.3f}, 0.750]" in found.reason


@pytest.mark.parametrize("mouth", [(0.71, 0.66, 0.75), (0.3, 0.2, 0.4)])
def test_a_failed_control_decides_whatever_the_claims_own_numbers_say(ledger, measured, mouth):
    found = claims.judge(*ledger(ENTRY), measured({MOUTH: mouth, COUNT: (0.53, 0.51, 0.55)}))
    assert found.status == "control failed"
    assert "Counting is not enough." in found.reason
    assert f"`{COUNT}.low <= 0.5`, found 0.530 [0.510, 0.550]" in found.reason


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("orl-mouht.mouth.auc", "unknown result 'orl-mouht'; did you mean 'orl-mouth'"),
        ("orl-mouth.moth.auc", "unknown result 'orl-mouth.moth'; did you mean 'orl-mouth.mouth'"),
        ("orl-mouth.mouth.aux", "'orl-mouth.mouth.aux'; did you mean 'orl-mouth.mouth.auc'"),
        ("orl-mouth.mouth", "Known: orl-mouth.mouth.auc"),
        ("orl-mouth.mouth.auc.more", "Known: orl-mouth.mouth.auc"),
    ],
)
def test_a_claim_of_the_demo_whose_result_is_unknown_is_an_error(ledger, measured, key, told):
    with pytest.raises(UnknownName, match=told):
        claims.judge(*ledger(ENTRY | {"holds_if": [f"{key}.value > 0"]}), measured(FOUND))


def test_a_claim_that_nobody_ran_says_what_it_takes(ledger, measured):
    found = claims.judge(*ledger(PAPER), measured(FOUND))
    assert found.status == "not run here"
    assert found.reason == f"`{AUC}` is not published. It takes Celeb-DF v2."


def test_a_claim_without_a_predicate_is_never_run(ledger, measured):
    found = claims.judge(*ledger(PAPER | {"holds_if": []}), measured(FOUND))
    assert found.status == "not run here"
    assert found.reason == "nothing here measures it yet. It takes Celeb-DF v2."


def test_a_stale_an_incomplete_and_a_bare_result_are_not_run(ledger, measured):
    (claim,) = ledger(ENTRY)
    stale = measured(FOUND, recipe.demo().but(folds=4))
    assert f"`{MOUTH}` is stale" in claims.judge(claim, stale).reason
    part = measured(FOUND, incomplete="3 of 5 videos")
    assert "of incomplete data: 3 of 5 videos" in claims.judge(claim, part).reason
    bare = measured(FOUND | {COUNT: 0.5})
    assert f"`{COUNT}` has no low" in claims.judge(claim, bare).reason
    for found in (stale, part, bare):
        assert claims.judge(claim, found).status == "not run here"


def test_the_papers_claims_are_answered_by_its_own_recipe_only(ledger, measured):
    (claim,) = ledger(PAPER)
    paper, found = recipe.paper(), {AUC: (0.9, 0.87, 0.93)}
    timm = paper.but(backbone="timm/vit_large_patch16_dinov3.lvd1689m")  # the same weights
    assert claims.judge(claim, measured(found, paper)).status == "holds"
    assert claims.judge(claim, measured(found, timm)).status == "holds"
    assert claims.judge(claim, measured(found, paper.but(frames=8))).status == "not run here"


def test_a_demo_never_answers_for_the_paper(ledger, measured):
    assert claims.judge(*ledger(PAPER), measured({AUC: (0.95, 0.9, 1.0)})).status == "not run here"


# -- the book's own ledger ---------------------------------------------------------------------

OWN = {claim.key: claim for claim in claims.load()}
ABSTRACT = {
    key: claim.paper
    for key, claim in OWN.items()
    if claim.paper is not None and claim.paper.source == "arXiv 2606.00098, abstract"
}


def test_every_claim_of_the_abstract_has_a_row():
    assert {key: figure.value for key, figure in ABSTRACT.items()} == {
        "celebdf-mouth": 0.905,
        "over-lipforensics": 8.1,
        "over-xception": 16.9,
        "cls-instead-of-region": 26.4,
        "farl-instead-of-dinov3": 20.9,
        "no-fine-tuning": None,
        "no-target-data": None,
        "linear-probe-suffices": None,
        "attribution-is-structural": None,
    }
    assert all(OWN[key].mode == "paper" for key in ABSTRACT)


def test_the_papers_claims_agree_with_its_published_numbers():
    table = pd.DataFrame(published.detectors()).set_index(["detector", "dataset"])
    known = table.auc.astype(float)
    mouth = ABSTRACT["celebdf-mouth"].value
    assert mouth == known["Al-Zyoud & El Saddik", "Celeb-DF v2"]
    assert OWN["dfd-mouth"].paper.value == known["Al-Zyoud & El Saddik", "DFD"]
    for claim, rival in (("over-lipforensics", "LipForensics"), ("over-xception", "Xception")):
        lead = 100 * (mouth - known[rival, "Celeb-DF v2"])
        assert lead == pytest.approx(ABSTRACT[claim].value, abs=0.06)


def test_the_papers_figures_stand_in_their_predicates():
    for claim in OWN.values():
        if claim.paper and claim.paper.value and claim.holds_if:
            scale = 100 if claim.paper.unit == "percentage points" else 1
            asked = [one.number for one in claim.holds_if if one.left[1] == "high"]
            assert asked == pytest.approx([claim.paper.value / scale])


def test_a_claim_of_the_demo_has_a_control():
    assert [key for key, claim in OWN.items() if claim.mode == "demo" and not claim.controls] == []


def test_every_claim_can_be_judged_by_what_is_published():
    found = results.published()
    judged = {key: claims.judge(claim, found) for key, claim in OWN.items()}
    ran = [key for key, one in judged.items() if one.status != claims.NOT_RUN]
    assert ran == [key for key, claim in OWN.items() if claim.mode == "demo"]


def test_a_figure_is_told_with_its_unit_and_source():
    figure = claims.Figure("the abstract", 8.1, "percentage points")
    assert str(figure) == "8.1 percentage points, the abstract"
    assert str(dataclasses.replace(figure, value=None)) == "the abstract"
