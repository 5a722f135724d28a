"""Claims that can fail: a sentence, what must be so for it to hold, and the controls it needs.

The ledger, ``book/claims.yml``, keeps one entry a claim. What must be so is written as
*predicates* over published results, ``"orl-mouth-poisson.mouth-over-cls.auc.low > 0"``, and judged
anew whenever the book is built: nobody can publish a sentence that the numbers have left. A claim
whose control fails is not known to hold, whatever its own numbers say. Taught in chapter 04.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from seglib import files, metrics, results
from seglib import recipe as recipes
from seglib.descriptors import VIEWS
from seglib.errors import SeglibError, UnknownName, unknown_name
from seglib.metrics import Interval
from seglib.results import Result

# The book's own in a checkout; an installed package has a copy beside the published results.
LEDGER = results.FOLDER.parent / ("book" if results.CHECKOUT else "") / "claims.yml"
STATUSES = HOLDS, FAILS, CONTROL_FAILED, NOT_RUN = (
    "holds", "does not hold", "control failed", "not run here",
)  # fmt: skip
RERUN = "run `make results`"  # what running a claim of the demo takes

COMPARED = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
FIELDS = ("value", "low", "high")
_KEY = r"([a-z][\w-]*(?:\.[\w@%-]+)+)"
_OPERAND = rf"{_KEY}\.({'|'.join(FIELDS)})"
_PREDICATE = re.compile(
    rf"\s*{_OPERAND}\s*({'|'.join(COMPARED)})\s*"
    rf"(?:{_OPERAND}\s*(?:([+-])\s*(\d+(?:\.\d+)?))?|(-?\d+(?:\.\d+)?))\s*",
    re.ASCII,
)
EXPECTED = "KEY.value >= 0.70, KEY.low > 0, or KEY.value > OTHER.value + 0.05"

# What `reproduction` may publish in paper mode: test, view or lead of one over another, metric.
TESTS = tuple(
    f"{dataset}-{rule}-face"
    for dataset in ("ffpp", "celebdf", "dfd", "dfdc")
    for rule in recipes.CHOICES["face_choice"]
)
PAPER_VIEWS = tuple(
    results.slug(f"{encoder}{view}") for encoder in ("", "farl-b ") for view in VIEWS
)


class BadLedger(SeglibError):
    """The ledger is no list of well-formed claims."""


@dataclass(frozen=True)
class Predicate:
    """One comparison of a field of a result with a number, or with a field of another result.

    left and right are pairs ``(key, field)``, right None where there is only a number. number is
    what left is compared with, or what is added to right.
    """

    text: str
    left: tuple[str, str]
    operator: str
    right: tuple[str, str] | None
    number: float

    def __str__(self) -> str:
        return self.text

    @property
    def operands(self) -> tuple[tuple[str, str], ...]:
        """The pairs of key and field that it speaks of."""
        return (self.left,) if self.right is None else (self.left, self.right)

    def holds(self, found: Mapping[str, Result]) -> bool:
        """Whether it is so. Both sides are compared to as many digits as results are kept in."""
        left, *right = (getattr(found[key], field) for key, field in self.operands)
        limit = round(sum(right, self.number), results.DIGITS)
        return COMPARED[self.operator](left, limit)


@dataclass(frozen=True)
class Control:
    """What has to be so if the numbers of a claim are to mean what the claim says."""

    sentence: str
    holds_if: tuple[Predicate, ...]


@dataclass(frozen=True)
class Figure:
    """What the paper says of a claim: a number with its unit, where it gives one, and where."""

    source: str
    value: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        return self.source if self.value is None else f"{self.value:g} {self.unit}, {self.source}"


@dataclass(frozen=True)
class Claim:
    """A sentence, and all that must be so for it to hold.

    An empty holds_if says that nothing here measures the claim yet. needs tells what running it
    takes. check changes with anything else of the claim.
    """

    key: str
    sentence: str
    mode: str
    holds_if: tuple[Predicate, ...]
    controls: tuple[Control, ...]
    needs: str
    paper: Figure | None = None
    check: str = ""

    @property
    def operands(self) -> list[tuple[str, str]]:
        """The pairs of key and field that it stands on, those of its controls too."""
        needed = [*self.holds_if, *(one for control in self.controls for one in control.holds_if)]
        return [operand for predicate in needed for operand in predicate.operands]


@dataclass(frozen=True)
class Judgement:
    """One of `STATUSES`, why (empty where the claim holds), and the results behind it by key."""

    status: str
    reason: str
    figures: dict[str, Result]

    def __str__(self) -> str:
        return f"{self.status}: {self.reason}" if self.reason else self.status


@dataclass(frozen=True)
class Plain:
    """A number without an interval and without an origin, as predicates read it."""

    value: float

    def __str__(self) -> str:
        return f"{self.value:g}"


# -- judging ----------------------------------------------------------------------------------


def judge(claim: Claim, published: Mapping[str, Result]) -> Judgement:
    """Hold a claim against published results of its mode.

    Parameters
    ----------
    published : mapping of str to Result
        As `results.published` returns it.

    Raises
    ------
    UnknownName
        A claim of the demo, whose results are all published, names one that is not.
    """
    found = {key: result for key, result in published.items() if result.mode == claim.mode}
    if claim.mode == "demo":
        for key, _ in claim.operands:
            find(key, found)
    figures = {key: found[key] for key, _ in claim.operands if key in found}

    if not claim.holds_if:
        return Judgement(NOT_RUN, f"nothing here measures it yet. {claim.needs}", figures)
    for key, field in claim.operands:
        if missing := _missing(key, field, found):
            return Judgement(NOT_RUN, f"{missing}. {claim.needs}", figures)
    return _held_against(claim, found, figures)


def judge_here(text: str, numbers: Mapping[str, Interval | float]) -> Judgement:
    """Hold a claim against numbers that were just computed, and are published nowhere.

    Taught in the sabotaged chapters, where a control says what the numbers hide.

    Parameters
    ----------
    text : str
        The claim in YAML, as in the ledger; key and mode may be left out.
    numbers : mapping
        An interval or a plain number for each key, say ``"dealt.auc"``.

    Raises
    ------
    BadLedger, UnknownName
    """
    said = yaml.safe_load(text)
    if isinstance(said, dict):
        said = {"key": "here", "mode": "demo"} | said
    claim = _claim(said, "this claim")
    found = {key: _rounded(number) for key, number in numbers.items()}
    for key, _ in claim.operands:
        find(key, found)
    return _held_against(claim, found, found)


def _rounded(number: Interval | float) -> Interval | Plain:
    """To as many digits as results are kept in."""
    if not isinstance(number, Interval):
        return Plain(round(float(number), results.DIGITS))
    ends = {name: round(getattr(number, name), results.DIGITS) for name in FIELDS}
    return dataclasses.replace(number, **ends)


def _held_against(claim: Claim, found: Mapping, figures: dict) -> Judgement:
    """The judgement where all that the claim stands on was found: its controls come first."""
    for control in claim.controls:
        if not_so := _not_so(control.holds_if, found):
            return Judgement(
                CONTROL_FAILED, f"this control failed: {control.sentence} Asked: {not_so}", figures
            )
    if not_so := _not_so(claim.holds_if, found):
        return Judgement(FAILS, f"asked: {not_so}", figures)
    return Judgement(HOLDS, "", figures)


def find(key: str, published: Mapping[str, Result]) -> Result:
    """The published result of that key.

    Raises
    ------
    UnknownName
        There is none. Named is the first part of the key that is wrong, not hundreds of keys.
    """
    if key in published:
        return published[key]
    names, others = key.split("."), [other.split(".") for other in published]
    for end in range(1, len(names) + 2):
        beside = [other for other in others if other[: end - 1] == names[: end - 1]]
        known = dict.fromkeys(".".join(other[:end]) for other in beside)
        if ".".join(names[:end]) not in known:
            break
    raise unknown_name("result", ".".join(names[:end]), known)


def _missing(key: str, field: str, found: Mapping[str, Result]) -> str:
    """Why a field of a result cannot be compared; empty if it can."""
    if key not in found:
        return f"`{key}` is not published"
    result = found[key]
    if result.stale:
        return f"`{key}` is stale: it was made by recipe {result.recipe}, which has changed since"
    if result.incomplete:
        return f"`{key}` is of incomplete data: {result.incomplete}"
    return "" if getattr(result, field) is not None else f"`{key}` has no {field}"


def _not_so(predicates: Iterable[Predicate], found: Mapping[str, Result]) -> str:
    """The predicates that do not hold, each with its figures; empty where all do."""
    return "; ".join(
        f"`{predicate}`, found " + " and ".join(str(found[key]) for key in dict(predicate.operands))
        for predicate in predicates
        if not predicate.holds(found)
    )


# -- reading ----------------------------------------------------------------------------------

CLAIM = {"key": str, "sentence": str, "mode": str, "holds_if": list, "controls": list}
OPTIONAL = {"needs": str, "paper": dict, "check": str}
CONTROL = {"sentence": str, "holds_if": list}
PAPER, PAPER_OPTIONAL = {"source": str}, {"value": (int, float), "unit": str}


def load(path: Path | None = None) -> list[Claim]:
    """Every claim of a ledger (default: the book's), in its order.

    Raises
    ------
    BadLedger
        It cannot be read, an entry is malformed, a key stands there twice, or a claim of the
        paper names a result that its protocol does not have.
    """
    path = LEDGER if path is None else Path(path)
    try:
        rows = yaml.safe_load(files.plain(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise BadLedger(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list):
        raise BadLedger(f"{path} holds {type(rows).__name__}; expected a list of claims.")
    claims: dict[str, Claim] = {}
    for number, row in enumerate(rows, 1):
        claim = _claim(row, f"{path}, claim {number}")
        if claim.key in claims:
            raise BadLedger(f"{path}: the key {claim.key!r} stands there twice; rename one.")
        claims[claim.key] = claim
    return list(claims.values())


def parse(text: object, where: str = "") -> Predicate:
    """A predicate as it is written in the ledger.

    Raises
    ------
    BadLedger
        It is malformed; `where` says whose it is.
    """
    match = _PREDICATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise BadLedger(f"{where}: found the predicate {text!r}; expected {EXPECTED}.")
    key, field, comparison, other, theirs, sign, offset, number = match.groups()
    right = (other, theirs) if other else None
    number = float(f"{sign or ''}{offset or 0}" if right else number)
    return Predicate(" ".join(text.split()), (key, field), comparison, right, number)


def _claim(row: object, where: str) -> Claim:
    known = row if isinstance(row, dict) else {}
    where = f"{where} ({known['key']!r})" if "key" in known else where
    # Whoever has the repository can run the demo; what running the paper takes has to be told.
    required = CLAIM | ({"needs": str} if known.get("mode") == "paper" else {})
    row = _fields(row, where, required, OPTIONAL)
    paper = _fields(row["paper"], where, PAPER, PAPER_OPTIONAL) if "paper" in row else None
    controls = [_fields(control, where, CONTROL) for control in row["controls"]]
    claim = Claim(
        key=row["key"],
        sentence=row["sentence"],
        mode=row["mode"],
        holds_if=_predicates(row, where),
        controls=tuple(Control(one["sentence"], _predicates(one, where)) for one in controls),
        needs=row.get("needs", RERUN),
        paper=paper and Figure(**paper),
        check=row.get("check", ""),
    )
    rest = {name: value for name, value in row.items() if name != "check"}
    content = results.digest(rest)[:8]
    if claim.check and claim.check != content:
        raise BadLedger(
            f"{where}: it was changed: its check is {claim.check}, its content's is {content}. "
            f"Restore it; or if the change was meant, write check: '{content}'."
        )
    _check(claim, where)
    return claim


def _predicates(row: Mapping, where: str) -> tuple[Predicate, ...]:
    return tuple(parse(text, where) for text in row["holds_if"])


def _fields(row: object, where: str, required: Mapping, optional: Mapping | None = None) -> dict:
    """A mapping of the ledger whose fields are the known ones, each of its kind."""
    known = {**required, **(optional or {})}
    if not isinstance(row, dict):
        raise BadLedger(f"{where}: found {row!r}; expected the fields {', '.join(known)}.")
    for name in row:
        if name not in known:
            raise BadLedger(f"{where}: {unknown_name('field', name, known)}")
    for name in required:
        if name not in row:
            raise BadLedger(f"{where} has no {name!r}; expected the fields {', '.join(required)}.")
    for name, value in row.items():
        if not isinstance(value, known[name]):
            kind = getattr(known[name], "__name__", "number")
            raise BadLedger(f"{where}: {name} is {value!r}; expected a {kind}.")
    return row


def _check(claim: Claim, where: str) -> None:
    """Refuse odd keys, what could never fail, and results that no run of the paper publishes."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", claim.key):
        raise BadLedger(f"{where}: expected a key of small letters, digits and hyphens.")
    if claim.mode not in recipes.MODES:
        raise BadLedger(f"{where}: {unknown_name('mode', claim.mode, recipes.MODES)}")
    if claim.mode == "demo" and not claim.holds_if:
        raise BadLedger(f"{where}: holds_if is empty; expected a predicate, as the demo is run.")
    if not all(control.holds_if for control in claim.controls):
        raise BadLedger(f"{where}: holds_if of a control is empty; expected a predicate.")
    for key, _ in claim.operands if claim.mode == "paper" else ():
        try:
            _check_paper_key(key)
        except UnknownName as error:
            raise BadLedger(f"{where}: in {key}: {error}") from error


def _check_paper_key(key: str) -> None:
    names = key.split(".")
    if len(names) != 3:
        raise unknown_name("key", key, ["TEST.VIEW.METRIC", "TEST.VIEW-over-VIEW.METRIC"])
    test, view, metric = names
    views = [("view", one, PAPER_VIEWS) for one in view.split("-over-")]
    for kind, name, choices in (("test", test, TESTS), *views, ("metric", metric, metrics.METRICS)):
        if name not in choices:
            raise unknown_name(kind, name, choices)
