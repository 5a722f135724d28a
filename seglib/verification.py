"""Whether what is published is what was measured: records, claims, receipts and quotes.

`offline` needs no weights and no network: it recomputes every number from the committed scores
and compares to the digit. `again` re-runs the demo and compares with the published intervals.
Taught in chapter 03.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from seglib import claims, receipts, results
from seglib import recipe as recipes
from seglib.claims import BadLedger, Claim
from seglib.errors import SeglibError, UnknownName, unknown_name
from seglib.receipts import BadReceipt, Receipt
from seglib.results import BadRecord, Record, Result

PAGES = ("README.md", "book/**/*.md", "notebooks/*.ipynb")
# A role of MyST. One inside double backticks shows how to write it, and quotes nothing.
ROLE = re.compile(r"(?<!`)\{(result|value|claim|holds)\}`([^`]+)`")
TABLE = re.compile(r"^(`{3,}|:{3,})\{results\}.*\n((?:.*\n)*?)\1", re.MULTILINE)
ANEW = "Restore it (git checkout), or make it anew (`make results`)."
PATIENCE = 2  # seconds without a progress bar
# One machine, as many threads, the same batches: the same bits. Other numbers of threads, or other
# crops in a batch, have sums taken in another order; how far that may move what a CPU computes.
# With 1 to 8 threads and batches of 1, 3 and 8 on a Xeon of two cores, descriptors moved by 2e-5;
# where they were moved by the whole tolerance, log-odds moved by 6e-4 and an AUC by 3e-5.
DESCRIPTOR_TOLERANCE = 1e-4  # in standard deviations of each feature over the tokens
LOG_ODDS_TOLERANCE = 1e-2
AUC_TOLERANCE = 1e-3


class NotReproduced(SeglibError):
    """The demo cannot be re-run against what is published."""


@dataclass(frozen=True)
class Check:
    """What was looked at, how much of it there is, and a sentence for each problem."""

    what: str
    count: int
    problems: tuple[str, ...] = ()


def offline(folder: Path | None = None, project: Path | None = None) -> list[Check]:
    """Check all that is published, in seconds.

    Parameters
    ----------
    folder : path-like, optional
        The results (default: the published ones).
    project : path-like, optional
        Where README, ``book`` and ``notebooks`` lie, which quote them (default: this project).
    """
    folder = results.FOLDER if folder is None else Path(folder)
    records, whole = _records(folder)
    own = [whole, _numbers(records), _receipts(folder / receipts.REPLICATIONS, records)]
    if project is None and folder != results.FOLDER:  # another run's, of which no page speaks
        return own
    ledger = claims.LEDGER if project is None else Path(project, "book", claims.LEDGER.name)
    project = Path(__file__).parents[1] if project is None else Path(project)
    found = {key: result for record in records for key, result in record.quoted().items()}
    known, judged = _claims(ledger, found)
    return [*own, judged, _quotes(project, found, known)]


def again(records: Sequence[Record]) -> pd.DataFrame:
    """Run the demo's experiments anew, and compare each number with the published one.

    Parameters
    ----------
    records : sequence of Record
        Those of `experiments.EXPERIMENTS` are re-run, the others left out.

    Returns
    -------
    DataFrame with the index ``key`` and the columns of `results.compare` and ``moved``
        moved: how far ours is from the published value. A number that did not come out again has
        NaN here, and does not lie inside.

    Raises
    ------
    NotReproduced
        No record is of an experiment of the demo, or one is of another recipe than today's.
    """
    from seglib import experiments  # torch and transformers

    recipe, known = recipes.demo(), experiments.EXPERIMENTS
    chosen = [one for one in records if one.mode == "demo" and one.name in known]
    if not chosen:
        raise NotReproduced(
            f"none of {len(records)} records is of an experiment of the demo; expected some of "
            f"{', '.join(known)}. Make them with `make results`."
        )
    for record in chosen:
        if record.recipe != recipe.key:
            raise NotReproduced(
                f"{record.path} is of the recipe {record.recipe}; expected {recipe.key}, that of "
                "the demo today. Make the results anew (`make results`)."
            )
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for record in tqdm(chosen, "experiments", unit="record"):
            found = experiments.run(record.name, recipe)
            made = results.save(
                record.name, found, recipe, against=record.against, folder=Path(folder)
            )
            theirs = record.quoted()
            gone = {key: dataclasses.replace(theirs[key], value=None) for key in theirs}
            tables.append(results.compare(gone | made.quoted(), theirs))
    table = pd.concat(tables)
    return table.assign(moved=(table.here - table.published).astype(float))


# -- what is checked --------------------------------------------------------------------------


def _records(folder: Path) -> tuple[list[Record], Check]:
    """Those that are whole; each file, its check sums, its name, its table."""
    found, problems = [], []
    files = [path for mode in recipes.MODES for path in sorted((folder / mode).glob("*.json"))]
    for path in files:
        try:
            record = results.load(path)
        except BadRecord as error:
            problems.append(str(error))
            continue
        if (record.mode, record.name) != (path.parent.name, path.stem):
            problems.append(f"{path}: found the record {record.mode}/{record.name}; expected "
                            f"{path.parent.name}/{path.stem}. {ANEW}")  # fmt: skip
        found.append(record)
    for table in (path for mode in recipes.MODES for path in (folder / mode).glob("*.csv")):
        if table.with_suffix(".json") not in files:
            problems.append(f"{table}: found scores without a record; expected "
                            f"{table.stem}.json beside them. {ANEW}")  # fmt: skip
    if not files:
        problems.append(f"{folder}: found no record; expected demo/*.json in it. Name another "
                        "folder with --results, or make them with `make results`.")  # fmt: skip
    return found, Check("records and their check sums", len(files), tuple(problems))


def _numbers(records: Sequence[Record]) -> Check:
    """Every number of a record that has a table of scores, computed anew from it."""
    count, problems = 0, []
    jobs = Parallel(n_jobs=-1, return_as="generator")(delayed(_anew)(one) for one in records)
    bar = tqdm(jobs, "recomputing", len(records), unit="record", delay=PATIENCE, leave=False)
    for record, anew in zip(records, bar, strict=True):
        if isinstance(anew, BadRecord):
            problems.append(str(anew))
        elif record.data:
            count += len(anew)
            problems += _differences(record, anew)
    return Check("numbers, recomputed from their scores", count, tuple(problems))


def _anew(record: Record) -> dict[str, dict] | BadRecord:
    try:
        return results.recomputed(record)
    except BadRecord as error:
        return error


def _differences(record: Record, anew: Mapping[str, dict]) -> Iterator[str]:
    for key in anew | record.results:
        found, expected = record.results.get(key), anew.get(key)
        if found != expected:
            yield (
                f"{record.path}: {record.name}.{key}: found {_fields(found, expected)}; "
                f"expected {_fields(expected, found)}, as the scores beside it give. {ANEW}"
            )


def _fields(numbers: dict | None, other: dict | None) -> str:
    """What of a result differs from another one."""
    if numbers is None or other is None:
        return "nothing" if numbers is None else f"the result {numbers['value']}"
    return ", ".join(f"{name} {value}" for name, value in numbers.items() if other[name] != value)


def _receipts(folder: Path, records: Sequence[Record]) -> Check:
    """Each receipt, its hash, and that it tells truly what it was compared with."""
    problems, files = [], receipts.paths(folder)
    for path in files:
        try:
            problems += _misquoted(receipts.load(path), records)
        except BadReceipt as error:
            problems.append(str(error))
    return Check("receipts", len(files), tuple(problems))


def _misquoted(receipt: Receipt, records: Sequence[Record]) -> Iterator[str]:
    present = {one.name: one.quoted() for one in records
               if receipt.published.get(one.name) == receipts.publication(one)}  # fmt: skip
    told = {row.key for row in receipt.rows} | set(receipt.missing)
    for key in (key for numbers in present.values() for key in numbers if key not in told):
        yield (f"{receipt.path}: found nothing of {key}, which is published; expected a row, or "
               "that it is missing. Hand it in as the chapter wrote it.")  # fmt: skip
    for row in receipt.rows:
        if row.inside != results.inside(row.here, row.published, row.low, row.high):
            yield (f"{receipt.path}: {row.key}: found inside {row.inside}; its own numbers say "
                   "otherwise. Hand it in as the chapter wrote it.")  # fmt: skip
        numbers = present.get(receipts.record_of(row.key))
        if numbers is None:  # of an earlier publication
            continue
        there = numbers.get(row.key)
        if there is None or (row.published, row.low, row.high) != (
            there.value, there.low, there.high,
        ):  # fmt: skip
            yield (f"{receipt.path}: {row.key}: found {row.expected} as published; expected "
                   f"{there}. Hand it in as the chapter wrote it.")  # fmt: skip


def _claims(path: Path, found: Mapping[str, Result]) -> tuple[list[Claim], Check]:
    """The claims, which are judged; whether each is as it was written, and knows its results."""
    try:
        ledger = claims.load(path)
    except BadLedger as error:
        return [], Check("claims", 0, (str(error),))
    statuses, problems = Counter(), []
    for claim in ledger:
        if not claim.check:
            problems.append(f"{path}, claim {claim.key!r}: found no check; expected the one that "
                            "its content gives. Write check: '?', you will be told.")  # fmt: skip
        try:
            statuses[claims.judge(claim, found).status] += 1
        except UnknownName as error:
            problems.append(f"{path}, claim {claim.key!r}: {error}")
    told = ", ".join(f"{count} {status}" for status, count in statuses.items())
    what = f"claims: {told}" if told else "claims"
    return ledger, Check(what, len(ledger), tuple(problems))


def _quotes(project: Path, found: Mapping[str, Result], ledger: Sequence[Claim]) -> Check:
    """Whether what the pages quote exists, is of today's recipe, and holds where they say so."""
    quotes, problems = list(_quoted(project)), []
    known = {claim.key: claim for claim in ledger}
    for place, role, key in quotes:
        if role in ("claim", "holds"):
            if key not in known:
                problems.append(f"{place}: {unknown_name('claim', key, known)}")
            elif role == "holds" and (status := _status(known[key], found)) != claims.HOLDS:
                problems.append(f"{place}: asserts {key}: found {status}; expected that it holds. "
                                "Say what is so, or quote it with {claim}.")  # fmt: skip
            continue
        try:
            result = claims.find(key, found)
        except UnknownName as error:
            problems.append(f"{place}: {error}")
            continue
        if result.stale:
            today = results.standing(result.mode)
            problems.append(f"{place}: {key} is stale: found the recipe {result.recipe}; expected "
                            f"{today}, of its mode today. Run `make results`; "
                            "what that leaves as it is, `make probes` or `make robustness` "
                            "measures.")  # fmt: skip
    return Check("quotes on pages", len(quotes), tuple(problems))


def _status(claim: Claim, found: Mapping[str, Result]) -> str:
    try:
        return claims.judge(claim, found).status
    except UnknownName:
        return "a result that is not published"


def _quoted(project: Path) -> Iterator[tuple[str, str, str]]:
    """Place, role and key of each quote."""
    for path in (path for pattern in PAGES for path in sorted(project.glob(pattern))):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".md":
            yield from _quotes_of(text, f"{path}, line ")
            continue
        for number, cell in enumerate(json.loads(text)["cells"], 1):
            if cell["cell_type"] == "markdown":
                for _, role, key in _quotes_of("".join(cell["source"]), ""):
                    yield f"{path}, cell {number}", role, key


def _quotes_of(text: str, place: str) -> Iterator[tuple[str, str, str]]:
    """The same of one text; to the place the number of its line is added."""
    for match in ROLE.finditer(text):
        yield f"{place}{text.count(chr(10), 0, match.start()) + 1}", match[1], match[2]
    for match in TABLE.finditer(text):
        first = text.count("\n", 0, match.start(2)) + 1
        for number, line in enumerate(match[2].splitlines(), first):
            if line.strip() and not line.startswith(":"):
                yield f"{place}{number}", "results", line.rpartition(": ")[2].strip()
