"""One command from data to table: train on FaceForensics++, test on what was never trained on.

The protocol of the paper as far as its abstract and the companion paper (arXiv 2603.26387) fix
it, our decisions for the rest (`recipe.paper`): probes on the ``train`` split of FaceForensics++,
tested without any target data on its own ``test`` split, on Celeb-DF v2, on DFD with both rules
of choosing the face, and on DFDC where it lies there. Two ablations: the CLS token, and the
features of FaRL in place of DINOv3's. What is not there is listed, and the rest is done. Taught
in chapter 06.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from seglib import datasets, evaluation, extraction, manifest, probing, published
from seglib.errors import SeglibError
from seglib.evaluation import Scores
from seglib.extraction import Extractor
from seglib.recipe import Recipe
from seglib.regions import PARTS
from seglib.store import NoStore, Store

TRAIN, TARGETS = "ffpp", ("celebdf", "dfd", "dfdc")
# Where a claim of the paper is found in a record: test, view, column.
CLAIMED = {
    "celebdf-mouth": ("celebdf, largest face", "mouth", "auc"),
    "dfd": ("dfd, largest face", "mouth", "auc"),
    "cls-instead-of-region": ("celebdf, largest face", "cls", "lead"),
    "farl-instead-of-dinov3": ("celebdf, largest face", "farl-b mouth", "lead"),
}
NOT_RUN = "not run here"
MASKED = ("dfd",)  # whose fakes show untouched faces too: both rules of choosing are reported
VIEWS = (*(part for part in PARTS if part != "face"), "cls")
RESULTS, RECORD = Path(__file__).parents[1] / "results", "reproduction.json"
ABLATION = {"backbone": "farl-b", "normalisation": "clip"}  # FaRL's features, ViT-B/16


class NothingToReproduce(SeglibError):
    """Neither data nor weights for a single number."""


def load(mode: str) -> dict | None:
    """The committed record of a run, as `Reproduction.save` wrote it; None where nobody ran it."""
    path = RESULTS / mode / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def beside_claims(record: dict | None) -> pd.DataFrame:
    """The paper's claims, and what a record of `load` says of each, with its interval.

    Returns
    -------
    DataFrame with the columns claim, paper, unit, here
    """
    claims = published.claims()
    here = [
        _said(record, claim, unit) for claim, unit in zip(claims.claim, claims.unit, strict=True)
    ]
    return pd.DataFrame(
        {"claim": claims.sentence, "paper": claims.value, "unit": claims.unit, "here": here}
    )


def _said(record: dict | None, claim: str, unit: str) -> str:
    test, view, column = CLAIMED.get(claim, (None, None, None))
    rows = {} if record is None else record["tests"].get(test, {}).get("rows", [])
    for row in rows:
        if row["view"] == view and row[column] is not None:
            prefix = "" if column == "auc" else f"{column}_"
            value = [row[column], row[f"{prefix}low"], row[f"{prefix}high"]]
            percent = unit == "percentage points"
            value, low, high = ("?" if v is None else f"{100 * v:.1f}" if percent else f"{v:.3f}"
                                for v in value)  # fmt: skip
            return f"{value} [{low}, {high}]"
    return NOT_RUN


@dataclass(frozen=True)
class Test:
    """Videos that probes are tested on, and the rule by which the face was chosen in them."""

    name: str
    table: pd.DataFrame
    face_choice: str

    @property
    def title(self) -> str:
        """Name and rule: ``"dfd, mask face"``."""
        return f"{self.name}, {self.face_choice} face"


@dataclass
class Reproduction:
    """What came out, and in `missing` what could not be done and why.

    results has an entry a test: ``resampled_by``, ``rows`` (a row a view, see
    `evaluation.Scores.table`), ``methods`` (the region's AUC for each kind of fake), ``coverage``
    (frames by class and reason). scores has a table a test, a row a video and a column a view.
    """

    recipe: Recipe
    results: dict[str, dict[str, object]] = field(default_factory=dict)
    scores: dict[str, pd.DataFrame] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def save(self, out: Path) -> None:
        """Write ``reproduction.json`` and the scores of every video beside it."""
        record = {
            "note": str(self.recipe),
            "recipe": dataclasses.asdict(self.recipe),
            "made": f"{datetime.now(UTC):%Y-%m-%d}",
            "tests": {
                title: {key: _plain(value) for key, value in result.items()}
                for title, result in self.results.items()
            },
            "missing": self.missing,
        }
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (out / RECORD).write_text(text + "\n", encoding="utf-8")
        for title, table in self.scores.items():
            name = f"scores-{title.replace(', ', '-').replace(' ', '-')}.csv"
            table.to_csv(out / name, index=False)


def reproduce(
    root: Path, recipe: Recipe, stores: Path, out: Path, device: str | None = None
) -> Reproduction:
    """Do all of the protocol that data and weights allow.

    Interrupted, it goes on from the last complete video. Manifests and probes are kept in `out`.

    Parameters
    ----------
    root : path-like
        Where the data sets lie, side by side or one of them.
    recipe : Recipe
        ``recipe.paper()``, or the demo's for trying the path.
    stores : path-like
        Where descriptor stores are kept.

    Raises
    ------
    NothingToReproduce
        No data set lies under `root`.
    """
    done = Reproduction(recipe)
    training, tests = _data(root, out, done)
    scores: dict[str, dict[str, np.ndarray]] = {test.title: {} for test in tests}
    for prefix, variant, views in _variants(recipe):
        filled = _fill(training, tests, variant, stores, device, done)
        if filled is None:
            continue
        if not prefix:
            for test in tests:
                ledger = filled[test.face_choice].ledger(test.table.video_uid)
                done.results[test.title] = {"coverage": evaluation.coverage(test.table, ledger)}
        for view in () if training is None else views:
            name = f"{prefix}{view}"
            try:
                probe = _train(training, filled["largest"], view, variant, out / "probes", name)
            except SeglibError as error:
                done.missing.append(f"{name}: {error}")
                continue
            for test in tests:
                store = filled[test.face_choice]
                found = evaluation.score_videos(probe, store, view, test.table.video_uid)
                scores[test.title][name] = found
    for test in tests:
        if scores[test.title]:
            _measure(test, scores[test.title], done)
    return done


def _train(
    table: pd.DataFrame, store: Store, view: str, recipe: Recipe, folder: Path, name: str
) -> Pipeline:
    """Train a probe and keep it."""
    probe = evaluation.train(table, store, view, recipe)
    card = evaluation.card(table, store, view, recipe)
    probing.save(probe, folder / f"{name.replace(' ', '-')}.safetensors", card)
    return probe


def _variants(recipe: Recipe) -> Iterator[tuple[str, Recipe, Sequence[str]]]:
    """Prefix of a view's name, recipe, views: the recipe itself, and the encoder's ablation."""
    yield "", recipe, (*VIEWS, f"random {recipe.region}")
    yield "farl-b ", recipe.but(**ABLATION), (recipe.region, "all", "cls")


def _data(root: Path, out: Path, done: Reproduction) -> tuple[pd.DataFrame | None, list[Test]]:
    """Training videos and tests; manifests and what is missing from them go to `out`."""
    places, tables = datasets.find(root), {}
    for name in (TRAIN, *TARGETS):
        if name not in places:
            adapter = datasets.ADAPTERS[name]
            done.missing.append(f"{adapter.title} is not under {root}; request it: {adapter.page}")
            continue
        try:
            found = datasets.scan(places[name], name)
        except SeglibError as error:
            done.missing.append(f"{name}: {error}")
            continue
        tables[name] = found.table
        manifest.write(found.table, out / f"{name}.csv")
        if len(found.problems):
            file = out / f"{name}-problems.csv"
            found.problems.to_csv(file, index=False)
            done.missing.append(f"{name}: {len(found.problems)} lines of missing or extra files, "
                                f"see {file}")  # fmt: skip
    if not tables:
        raise NothingToReproduce("\n".join([f"no data set under {root}:", *done.missing]))
    training = tables.pop(TRAIN, None)
    tests = [Test(name, table, "largest") for name, table in tables.items()]
    tests += [Test(name, table, "mask") for name, table in tables.items() if name in MASKED]
    if training is not None:
        own = training[training.split == "test"]
        tests.insert(0, Test(TRAIN, own, "largest"))
        training = training[training.split == "train"]
    return training, tests


def _fill(
    training: pd.DataFrame | None,
    tests: Sequence[Test],
    recipe: Recipe,
    stores: Path,
    device: str | None,
    done: Reproduction,
) -> dict[str, Store] | None:
    """A store for each rule of choosing a face, filled; None without weights and descriptors."""
    asked = [*tests] if training is None else [Test(TRAIN, training, "largest"), *tests]
    rules = sorted({test.face_choice for test in asked})
    try:
        extractor = Extractor(recipe, device)
    except SeglibError as error:
        try:  # descriptors that were made elsewhere are as good
            return {rule: Store.find(stores, recipe.but(face_choice=rule)) for rule in rules}
        except NoStore:
            done.missing.append(f"{error}")
            return None
    for test in asked:
        print(f"{test.title}, {recipe.backbone}: {len(test.table)} videos", file=sys.stderr)
        extraction.extract(test.table, extractor.choosing(test.face_choice), stores)
    return {rule: Store.find(stores, recipe.but(face_choice=rule)) for rule in rules}


def _measure(test: Test, views: dict[str, np.ndarray], done: Reproduction) -> None:
    table, region = test.table, done.recipe.region
    groups, drawn = evaluation.resampled_by(table)
    scores = Scores(table.label.to_numpy(), groups, views)
    rows = scores.table(region if region in views else next(iter(views)))
    done.results.setdefault(test.title, {}).update(
        resampled_by=drawn,
        fakes=int((table.label == 1).sum()),
        bona_fide=int((table.label == 0).sum()),
        rows=rows,
        methods=evaluation.by_method(table, scores.views[rows.attrs["part"]], groups),
    )
    done.scores[test.title] = table[["video_uid", "label", "method", "group"]].assign(**views)


def _plain(value: object) -> object:
    """A table as a list of rows; anything else as it is."""
    if not isinstance(value, pd.DataFrame):
        return value
    return json.loads(value.reset_index().to_json(orient="records"))
