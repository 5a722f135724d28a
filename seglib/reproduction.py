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
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from seglib import datasets, evaluation, extraction, files, manifest, probing, results
from seglib.errors import SeglibError
from seglib.evaluation import Detector
from seglib.extraction import Extractor
from seglib.probing import Probe
from seglib.recipe import Recipe
from seglib.regions import PARTS
from seglib.store import NoStore, Store, StoreMismatch

TRAIN, TARGETS = "ffpp", ("celebdf", "dfd", "dfdc")
MASKED = ("dfd",)  # whose fakes show untouched faces too: both rules of choosing are reported
VIEWS = (*(part for part in PARTS if part != "face"), "cls")
RUN = "run"  # beside the records: manifests, probes, and what became of the run
ABLATION = {"backbone": "farl-b", "normalisation": "clip"}  # FaRL's features, ViT-B/16


class NothingToReproduce(SeglibError):
    """Neither data nor weights for a single number."""


def load(mode: str) -> dict | None:
    """What became of a run, as `Reproduction.save` wrote it; None where nobody ran it.

    It is looked for in ``results`` of the working folder, then among the published results.
    """
    for folder in (Path("results"), results.FOLDER):
        path = folder / mode / RUN / "reproduction.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
    return None


@dataclass(frozen=True)
class Test:
    """Videos that probes are tested on, and the rule by which the face was chosen in them."""

    name: str
    table: pd.DataFrame
    face_choice: str
    incomplete: str = ""  # how many videos of the official sets, FF++'s too, are not there

    @property
    def title(self) -> str:
        """Name and rule: ``"dfd, mask face"``."""
        return f"{self.name}, {self.face_choice} face"


@dataclass
class Reproduction:
    """What came out, and in `missing` what could not be done and why.

    out is the folder of results; the records of a mode lie in its folder ``MODE``. tests has an
    entry a test: ``coverage`` (frames by class and reason), ``incomplete`` (what of the data was
    not there), ``resampled_by``. networks are the digests of the weights of each backbone's chain.
    """

    recipe: Recipe
    out: Path
    tests: dict[str, dict[str, object]] = field(default_factory=dict)
    networks: dict[str, dict] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def run(self) -> Path:
        """Where manifests, probes and ``reproduction.json`` are kept."""
        return self.out / self.recipe.mode / RUN

    def records(self) -> list[results.Record]:
        """What was measured, in the order of the tests."""
        paths = [self.run.parent / f"{results.slug(title)}.json" for title in self.tests]
        return [results.load(path) for path in paths if path.exists()]

    def save(self) -> None:
        """Write ``reproduction.json``: how the records came about, and what is missing."""
        record = {
            "note": str(self.recipe),
            "recipe": dataclasses.asdict(self.recipe),
            "networks": self.networks,
            "made": f"{datetime.now(UTC):%Y-%m-%d}",
            "tests": {
                title: {key: _plain(value) for key, value in test.items()}
                for title, test in self.tests.items()
            },
            "missing": self.missing,
        }
        with files.replacing(self.run / "reproduction.json") as part:
            text = json.dumps(record, indent=1, ensure_ascii=False)
            part.write_text(text + "\n", encoding="utf-8")


def reproduce(
    root: Path, recipe: Recipe, stores: Path, out: Path, device: str | None = None
) -> Reproduction:
    """Do all of the protocol that data and weights allow.

    Interrupted, it goes on from the last complete video.

    Parameters
    ----------
    root : path-like
        Where the data sets lie, side by side or one of them.
    recipe : Recipe
        ``recipe.paper()``, or the demo's for trying the path.
    stores : path-like
        Where descriptor stores are kept.
    out : path-like
        Where results are kept, a folder a mode.

    Raises
    ------
    NothingToReproduce
        No data set lies under `root`.
    """
    done = Reproduction(recipe, out)
    training, tests = _data(root, done)
    detectors: dict[str, dict[str, Detector]] = {test.title: {} for test in tests}
    for prefix, variant, names in _variants(recipe):
        filled = _fill(training, tests, variant, stores, device, done)
        probes = {}
        for name in names if filled and training is not None else ():
            label = f"{prefix}{name}"
            try:
                probe = _train(training, filled["largest"], name, variant, done, label)
                probes[label] = name, probe
            except SeglibError as error:
                done.missing.append(f"{label}: {error}")
        for test in tests if filled else ():
            try:
                _score(test, filled[test.face_choice], probes, detectors[test.title], done)
            except SeglibError as error:
                done.missing.append(f"{test.title}: {error}")
        done.save()  # the next variant may take days
    return done


def _score(
    test: Test, store: Store, probes: dict, detectors: dict[str, Detector], done: Reproduction
) -> None:
    """Add the scores of one variant's probes to a test, and measure anew."""
    uids = test.table.video_uid
    outcomes = evaluation.coverage(test.table, store.ledger(uids))
    done.tests.setdefault(test.title, {"coverage": outcomes, "incomplete": test.incomplete})
    for label, (view, probe) in probes.items():
        detectors[label] = evaluation.detect(probe, store, view, uids)
    if detectors:
        _measure(test, detectors, done)


def _train(
    table: pd.DataFrame, store: Store, view: str, recipe: Recipe, done: Reproduction, name: str
) -> tuple[Probe, ...]:
    """Train a probe and keep it."""
    probe = evaluation.train(table, store, view, recipe)
    card = evaluation.card(table, store, view, recipe)
    path = done.run / "probes" / f"{results.slug(name)}.safetensors"
    probing.save(probe, path, card)
    return probe


def _variants(recipe: Recipe) -> Iterator[tuple[str, Recipe, Sequence[str]]]:
    """Prefix of a view's name, recipe, views: the recipe itself, and the encoder's ablation."""
    yield "", recipe, (*VIEWS, f"random {recipe.region}")
    yield "farl-b ", recipe.but(**ABLATION), (recipe.region, "all", "cls")


def _data(root: Path, done: Reproduction) -> tuple[pd.DataFrame | None, list[Test]]:
    """Training videos and tests; manifests and what is missing from them are written."""
    places, tables, incomplete = datasets.find(root), {}, {}
    for name in (TRAIN, *TARGETS):
        if name not in places:
            adapter = datasets.ADAPTERS[name]
            done.missing.append(f"{adapter.title} is not under {root}; request it: {adapter.page}")
            continue
        try:
            found = datasets.scan(places[name], name)
            incomplete[name] = _incomplete(name, found.expected)
            if incomplete[name]:
                done.missing.append(f"{name}: {incomplete[name]}")
        except SeglibError as error:
            done.missing.append(f"{name}: {error}")
            continue
        tables[name] = found.table
        manifest.write(found.table, done.run / f"{name}.csv")
        if len(found.problems):
            file = done.run / f"{name}-problems.csv"
            with files.replacing(file) as part:
                found.problems.to_csv(part, index=False)
            done.missing.append(f"{name}: {len(found.problems)} lines of missing or extra files, "
                                f"see {file}")  # fmt: skip
    if not tables:
        raise NothingToReproduce("\n".join([f"no data set under {root}:", *done.missing]))
    training = tables.pop(TRAIN, None)
    tests = []
    if training is not None:
        own = training[training.split == "test"]
        tests.append(Test(TRAIN, own, "largest"))
        training = training[training.split == "train"]
    for rule in ("largest", "mask"):
        for name, table in tables.items():
            if rule == "largest" or name in MASKED:
                own = table[table.split == "test"]
                tests.append(Test(name, own, rule))
    for test in tests:
        if test.table.label.nunique() < 2:
            done.missing.append(f"{test.title}: no fakes and bona fide videos in the split 'test'")
    return training, [
        replace(test, incomplete=_both(incomplete.get(TRAIN, ""), incomplete[test.name]))
        for test in tests
        if test.table.label.nunique() == 2
    ]


def _both(training: str, test: str) -> str:
    """What is not there to train on and to test on, told once."""
    return "; ".join(dict.fromkeys(filter(None, (training, test))))


def _incomplete(name: str, expected: pd.DataFrame) -> str:
    """What the official numbers of a data set say is not there, in words; empty if nothing."""
    read = expected.split.isin(("train", "test") if name == TRAIN else ("test",))
    short = expected[read & (expected.difference != 0)]
    return "; ".join(
        f"{row.found} of {row.expected} videos of {row.method}, {row.split}"
        for row in short.itertuples()
    )


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
        except (NoStore, StoreMismatch):
            done.missing.append(f"{error}")
            return None
    filled, done.networks[recipe.backbone] = {}, extractor.networks
    for test in asked:
        print(f"{test.title}, {recipe.backbone}: {len(test.table)} videos", file=sys.stderr)
        choosing = extractor.choosing(face_choice=test.face_choice)
        done_now = extraction.extract(test.table, choosing, stores)
        if done_now.elsewhere:
            done.missing.append(
                f"{test.title}: {done_now.elsewhere} videos are being described by another "
                "process; run this again when it is done"
            )
        filled[test.face_choice] = Store(stores, choosing.recipe, choosing.networks)
    return filled


def _measure(test: Test, detectors: dict[str, Detector], done: Reproduction) -> None:
    """Write the records of a test: its videos, and its frames."""
    scores, drawn = evaluation.together(test.table, detectors, test.title)
    region = done.recipe.region
    same = {"chapter": "06", "incomplete": test.incomplete, "folder": done.out}
    against = region if region in detectors else next(iter(detectors))
    name = results.slug(test.title)
    results.save(name, scores, done.recipe, against=against, **same)
    frames = {
        f"{results.slug(label)}.auc": evaluation.frame_auc(scores, one)
        for label, one in detectors.items()
    }
    title = f"{test.title}, frames one by one"
    results.save(f"{name}-frames", frames, done.recipe, title=title, **same)
    done.tests[test.title]["resampled_by"] = drawn


def _plain(value: object) -> object:
    """A table as a list of rows; anything else as it is."""
    if not isinstance(value, pd.DataFrame):
        return value
    return json.loads(value.reset_index().to_json(orient="records"))
