"""The exercises: every solution passes, every stub fails, and so does what one first thinks of."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest

from book import exercising
from seglib import exercises
from seglib.errors import UnknownName

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "book" / "exercises").glob("*.py"))
ALL = [exercise for path in SOURCES for exercise in exercising.read(path)]
NUMBERS = [exercise.number for exercise in ALL]
SABOTAGED = [one.path.stem[:2].upper() for one in exercising.sabotages()]
SLOW = {"01-3"}  # needs the networks


def verdict(code):
    """What the block's last line, its check, says."""
    *body, last = ast.parse(code).body
    chapter = {"np": np}
    exec("from seglib import indexing, exercises", chapter)
    exec(compile(ast.Module(body, []), "exercise", "exec"), chapter)
    return eval(compile(ast.Expression(last.value), "exercise", "eval"), chapter)


def test_every_chapter_has_three_and_every_checker_an_exercise():
    chapters = [path.name[:2] for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    assert [path.stem for path in SOURCES] == chapters
    assert [f"{chapter}-{n}" for chapter in chapters for n in (1, 2, 3)] == NUMBERS
    assert list(exercises._known()) == [*NUMBERS, *SABOTAGED]


@pytest.mark.parametrize("exercise", ALL, ids=NUMBERS)
def test_the_solution_passes_its_check(exercise):
    assert verdict(exercise.solution).message == "right."


@pytest.mark.parametrize("exercise", ALL, ids=NUMBERS)
def test_the_stub_is_not_answered_yet(exercise):
    assert "solution" not in exercise.stub
    found = verdict(exercise.stub)
    assert not found.passed
    assert found.message == "not answered yet: your function gives nothing back."


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_has_the_stubs_of_today(path):
    (notebook,) = (ROOT / "notebooks").glob(f"{path.stem}_*.ipynb")
    now = nbformat.read(notebook, as_version=4)
    assert exercising.derived(nbformat.from_dict(now), path) == nbformat.read(
        notebook, as_version=4
    )
    assert sum("exercise" in cell.metadata.get("tags", ()) for cell in now.cells) == 6


ALWAYS_OTHER = np.random.default_rng(0)


WRONG = {
    "01-1": (lambda labels: (labels == 7).mean(), "miss pixels"),
    "01-2": (lambda m: np.degrees(np.arctan2(m[0, 1], m[0, 0])), "other way round"),
    "01-3": (lambda: [78, 95, 88, 178, 87, 14, 317, 402], "some face"),
    "02-1": (lambda m, grid, part, rules: dict.fromkeys(rules, 0), "'"),
    "02-2": (lambda m, s, r, c: m[r * s : r * s + s, c * s : c * s + s].max(), "same number"),
    "02-3": (lambda parts: (0, 0), "itself"),
    "03-1": (lambda y, s: (s[y == 0][:, None] > s[y == 1]).mean(), "one minus"),
    "03-2": (
        lambda g, n, seed: np.random.default_rng(seed).permutation(len(g)) % n,
        "in two folds",
    ),
    "03-3": (lambda y, s, g, seed: (0.6, 0.62), "too narrow"),
    "04-1": (lambda kept, rng: rng.random(kept.shape) < kept.mean(), "as many"),
    "04-2": (
        lambda s, n, i: np.nanmean(s[i] / np.where(n[i], n[i], np.nan)[:, None], 0),
        "mean of means",
    ),
    "04-3": (lambda low, high: ((low >= 0) | (high <= 0)).mean(), "holds it"),
    "05-1": (lambda table: table.stack().idxmax(), "detection"),
    "05-2": (lambda t, c, w: (t - c) @ w, "too much"),
    "05-3": (lambda s: [list(s)[i] for i in np.argmax(list(s.values()), 0)], "nothing can"),
    "06-1": (lambda lines: [int(line[0]) for line in lines], "at its word"),
    "06-2": (lambda paths: [Path(path).stem for path in paths], "one name"),
    "06-3": (lambda s, rate: s.max(), "lower threshold"),
    "07-1": (lambda image, f: np.repeat(image.mean(-1, keepdims=True), 3, -1), "Expected uint8"),
    "07-2": (
        lambda *pair: [one + ALWAYS_OTHER.normal(0, pair[2], one.shape) for one in pair[:2]],
        "another one",
    ),
    "07-3": (lambda y, s: (0.7, 0.7), "of those that have a score"),
    "08-1": (lambda score, share: share / (1 + np.exp(-score)), "even odds"),
    "08-2": (lambda p, t, d: "above" if p > t else "below", "unlike"),
    "08-3": (lambda frames: frames.mean(), "vanish"),
}


@pytest.mark.parametrize("number", NUMBERS)
def test_what_one_first_thinks_of_is_told_what_is_wrong(number):
    answer, hint = WRONG[number]
    found = exercises.check(number, answer)
    assert not found.passed
    assert hint in found.message


def test_an_answer_that_breaks_is_told_how():
    found = exercises.check("03-1", lambda labels, scores: 1 / 0)
    assert repr(found) == "03-1: not yet. Your function raised ZeroDivisionError: division by zero"
    assert "one number" in exercises.check("03-1", lambda labels, scores: "high").message
    assert "the function itself" in exercises.check("03-1", 0.5).message


def test_an_exercise_that_is_not_there_is_named():
    with pytest.raises(UnknownName, match="did you mean '02-1'"):
        exercises.check("2-1", None)
