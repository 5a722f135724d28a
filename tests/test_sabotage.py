"""The sabotaged chapters: what is right passes its control and its check, the fault fails both."""

import ast
import contextlib
import io
import re

import nbformat
import pytest

from book import exercising
from seglib import claims

ALL = exercising.sabotages()
NUMBERS = [one.path.stem[:2].upper() for one in ALL]
sabotages = pytest.mark.parametrize("sabotage", ALL, ids=NUMBERS)

# What a claim is worth when its controls hold. The fault had carried that of S1. Few couples bear
# that of S3, and x264 does not always write the same bytes.
STANDS = {
    "S1": claims.FAILS,
    "S2": claims.HOLDS,
    "S3": (claims.HOLDS, claims.FAILS),
    "S4": claims.HOLDS,
}
FAILED = {
    "S1": "Of labels dealt anew nothing is found.",
    "S2": "On labels dealt anew it is right as often as a coin.",
    "S3": "The AUC is of as many videos as the manifest has.",
    "S4": "Where nothing was forged nothing is found.",
}
CHECKED = {
    "S1": "The control of labels dealt anew fails",
    "S2": "The control of labels dealt anew fails",
    "S3": "The control of the count fails",
    "S4": "The control of nothing forged fails",
}
# Repairs that one thinks of first: what stands in place of the fault, and what the check says.
WRONG = {
    "by person, and lenders are forgotten": (
        "S1", "apart = table.person.to_numpy()", CHECKED["S1"]),
    "all of them kept together": (
        "S1", "apart = np.zeros(len(table), int)", "your function raised TooFewGroups"),
    "no threshold at all": ("S2", "threshold = np.inf", "a trace that nobody could miss"),
    "half from training": (
        "S2",
        "threshold = (probe.threshold + training.best_threshold(labels[test], odds)) / 2",
        "on that couple changed",
    ),
    "by method and stem": (
        "S3", "video = frames.method + frames.path.map(lambda p: Path(p).stem)", CHECKED["S3"]),
    "by frame": ("S3", "video = frames.index", CHECKED["S3"]),
    "saved twice as well, but otherwise": (
        "S4",
        "return perturbation.jpeg(forge(taken) if forge else taken, WEB if forge else WEB + 5)",
        CHECKED["S4"],
    ),
    "nobody forges": (
        "S4", "return perturbation.jpeg(taken, WEB)", "cannot be seen any more"),
}  # fmt: skip


def code(text):
    """The code cells of a source."""
    return [cell.source for cell in exercising.cells(text, "s") if cell.cell_type == "code"]


def verdict(text):
    """What the check at the end says, without the measurements before it."""
    body = ast.parse("\n".join(code(text))).body
    needed = [
        one
        for one in body
        if isinstance(one, ast.Import | ast.ImportFrom | ast.FunctionDef) or _is_decision(one)
    ]
    student = {}
    exec(compile(ast.Module(needed, []), "sabotaged", "exec"), student)
    return eval(compile(ast.Expression(body[-1].value), "check", "eval"), student)


def _is_decision(one):
    names = [target.id for target in getattr(one, "targets", ()) if isinstance(target, ast.Name)]
    if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Tuple):
        names = [target.id for target in one.targets[0].elts]
    return any(name.isupper() or name == "decisions" for name in names)


def run(text):
    """What all cells print, and what the last one shows."""
    student, printed = {}, io.StringIO()
    *cells, last = code(text)
    with contextlib.redirect_stdout(printed):
        for cell in cells:
            exec(compile(cell, "sabotaged", "exec"), student)
    return printed.getvalue(), eval(last, student)


def repaired(sabotage, line):
    """A source with another line in place of the fault."""
    indent = re.search(r"^( *)# honest\n", sabotage.text, flags=re.M)[1]
    return exercising.PLANTED.sub(lambda _: f"{indent}{line}\n", sabotage.text)


def test_there_are_four_of_them():
    assert list(STANDS) == NUMBERS
    assert {number for number, *_ in WRONG.values()} == set(NUMBERS)


@sabotages
def test_the_notebook_is_todays(sabotage):
    chapter = nbformat.read(exercising.CHAPTER, as_version=4)
    assert nbformat.read(sabotage.target, as_version=4) == sabotage.notebook(chapter)


def test_there_is_no_other_notebook():
    found = (exercising.ROOT / "notebooks" / "sabotage").glob("*")
    assert sorted(one.target for one in ALL) == sorted(
        path for path in found if path.suffix == ".ipynb"
    )


@sabotages
def test_fault_and_honest_source_differ_in_one_cell_of_code(sabotage):
    right, wrong = (exercising.cells(text, "s") for text in (sabotage.honest, sabotage.sabotaged))
    differ = [one for one, other in zip(right, wrong, strict=True) if one != other]
    assert [one.cell_type for one in differ] == ["code"]


@sabotages
def test_nothing_in_the_notebook_tells_where_the_fault_is(sabotage):
    text = sabotage.target.read_text(encoding="utf-8")
    for told in ("# honest", "# planted", "# end", "leak", "shortcut", "stem-keyed"):
        assert told not in text


@sabotages
def test_a_notebook_is_of_eight_to_fourteen_steps(sabotage):
    cells = exercising.cells(sabotage.sabotaged, "s")
    assert 8 <= sum(cell.cell_type == "code" for cell in cells) <= 14


@sabotages
def test_the_honest_source_passes_its_check(sabotage):
    assert verdict(sabotage.honest).message == "right."


@sabotages
def test_the_sabotaged_one_is_told_which_control_fails(sabotage):
    found = verdict(sabotage.sabotaged)
    assert not found.passed
    assert CHECKED[found.exercise] in found.message


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_repair_fails(name):
    number, line, hint = WRONG[name]
    found = verdict(repaired(ALL[NUMBERS.index(number)], line))
    assert not found.passed
    assert hint.lower() in found.message.lower()


@pytest.mark.slow
@sabotages
@pytest.mark.usefixtures("book")  # it leaves the descriptors in the cache
def test_as_delivered_the_control_fails_and_repaired_it_holds(sabotage):
    number = sabotage.path.stem[:2].upper()
    for text, status in ((sabotage.sabotaged, claims.CONTROL_FAILED), (sabotage.honest, None)):
        printed, found = run(text)
        said = printed.strip().splitlines()[-1]
        assert said.startswith(status or STANDS[number]), printed
        assert found.passed == (status is None), found
        if status:
            assert FAILED[number] in said
