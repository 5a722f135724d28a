"""Exercises that check themselves.

A checker tries what a student wrote on inputs that the page does not show, and says what is wrong
without saying how it is done. The solutions, which the notebooks' stubs are derived from, lie in
``book/exercises``. Used in every chapter.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pkgutil import iter_modules
from typing import Any

from seglib.errors import unknown_name

CHECKERS: dict[str, Callable[[Callable], None]] = {}


class Wrong(Exception):
    """What is wrong with an answer."""


class Missing(Wrong):
    """Nothing was answered yet."""


@dataclass(frozen=True)
class Verdict:
    """Whether an answer passed, and what to tell the student."""

    exercise: str
    passed: bool
    message: str

    def __repr__(self) -> str:
        return f"{self.exercise}: {self.message}"


def check(exercise: str, answer: Any) -> Verdict:
    """Try an answer.

    Parameters
    ----------
    exercise : str
        Chapter and number, say ``"02-3"``.
    answer : callable
        What the exercise asks for, a function.

    Raises
    ------
    seglib.errors.UnknownName
        There is no such exercise.
    """
    known = _known()
    if exercise not in known:
        raise unknown_name("exercise", exercise, known)
    try:
        if not callable(answer):
            raise Missing(f"found {type(answer).__name__}; expected the function itself.")
        known[exercise](answer)
    except Missing as missing:
        return Verdict(exercise, False, f"not answered yet: {missing}")
    except Wrong as wrong:
        return Verdict(exercise, False, f"not yet. {wrong}")
    return Verdict(exercise, True, "right.")


def checker(exercise: str) -> Callable:
    """Enter a function as the checker of an exercise: it raises `Wrong`, or all is well."""

    def enter(function: Callable[[Callable], None]) -> Callable[[Callable], None]:
        CHECKERS[exercise] = function
        return function

    return enter


def ask(answer: Callable, *arguments: Any) -> Any:
    """What the student's function gives back.

    Raises
    ------
    Missing
        It gives nothing back.
    Wrong
        It raises an error.
    """
    try:
        found = answer(*arguments)
    except Exception as error:
        raise Wrong(f"Your function raised {type(error).__name__}: {error}") from error
    if found is None or found is ...:
        raise Missing("your function gives nothing back.")
    return found


def number(answer: Callable, *arguments: Any) -> float:
    """The same, where one number is expected."""
    found = ask(answer, *arguments)
    try:
        return float(found)
    except (TypeError, ValueError) as error:
        raise Wrong(f"Found {type(found).__name__}; expected one number.") from error


def expect(holds: Any, hint: str) -> None:
    """Raise `Wrong` with the hint unless it holds."""
    if not holds:
        raise Wrong(hint)


@cache
def _known() -> dict[str, Callable[[Callable], None]]:
    for module in sorted(one.name for one in iter_modules(__path__)):
        importlib.import_module(f"seglib.exercises.{module}")
    return dict(sorted(CHECKERS.items()))
