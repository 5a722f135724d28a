"""The same recipe and seed: the same store, probe and table, bit for bit.

In processes of their own, with another hash seed, working folder, place and order of the files.
Other numbers of threads and other batches move numbers a little: by how much at most stands in
`seglib.verification`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from seglib import (
    assets,
    clips,
    datasets,
    evaluation,
    faces,
    manifest,
    media,
    probing,
    recipe,
    training,
    trials,
)
from seglib.demo import Sample
from seglib.descriptors import Descriptors
from seglib.extraction import Extractor
from seglib.regions import LABELS
from seglib.store import Store
from seglib.verification import AUC_TOLERANCE, DESCRIPTOR_TOLERANCE, LOG_ODDS_TOLERANCE
from tests import layouts

ROOT = Path(__file__).parent.parent
MODE = ("--mode", "demo", "--set", "frames=3", "--set", "inner_folds=2")
RECIPE = recipe.demo().but(frames=3, inner_folds=2)
VIEWS = ("mouth", "eyes", "all", "cls", "random mouth")
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # torch, its BLAS, NumPy's


def started(home, *arguments, seed=0, threads=1):
    """A command of seglib in a process and a working folder of its own."""
    home.mkdir(parents=True, exist_ok=True)
    shared = dict.fromkeys(POOLS, str(threads))
    return subprocess.Popen(
        [sys.executable, "-m", "seglib", *map(str, arguments)],
        cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | shared | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def said(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Three people, a clip of each and one with a forged mouth, and their manifest."""
    detector, root = faces.load("mesh"), tmp_path_factory.mktemp("here")

    def write(path, person, forged, seed):
        clips.write(path, person, detector, "mouth" if forged else None, frames=6)

    return listed(layouts.table(root, write))


@pytest.fixture(scope="module")
def there(here, tmp_path_factory):
    """Copies elsewhere, made later and in another order, which is that of their rows too."""
    root = tmp_path_factory.mktemp("there")
    rows = pd.read_csv(here / "videos.csv", dtype=str)[::-1]
    rows.to_csv(root / "videos.csv", index=False)
    (root / "clips").mkdir()
    for name in rows.file:
        shutil.copy(here / name, root / name)
    return listed(root)


def listed(root):
    manifest.write(datasets.scan(root, split="train").table, root / "manifest.csv")
    return root


def timeless(path):
    """The bytes of a file of a store, but for when the videos that it was made from were written.

    Written anew without that, what else it holds must come out byte for byte.
    """
    if path.suffix != ".parquet":
        return path.read_bytes()
    table, anew = pq.read_table(path), pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"stamp": b""}), anew)
    return anew.getvalue().to_pybytes()


def stored(root):
    """The files of a store by their names, without locks."""
    return {
        path.relative_to(root): path
        for path in sorted(Path(root).rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


# -- bit for bit -------------------------------------------------------------------------------


def test_two_processes_make_the_same_files_of_the_same_clips(here, small, tmp_path):
    stub = ("--mode", "demo", "--set", f"backbone={small.backbone}", "--set", "input_size=140",
            "--set", "frames=3", "--tokens")  # fmt: skip
    runs = [
        started(tmp_path / str(n), "extract", here / "manifest.csv", *stub, seed=n) for n in (1, 2)
    ]
    assert "6 videos described" in said(runs[0])
    said(runs[1])
    one, other = (stored(tmp_path / str(n)) for n in (1, 2))
    assert list(one) == list(other)
    assert len(one) == 1 + 2 * 6
    for name in one:
        assert one[name].read_bytes() == other[name].read_bytes(), name


@pytest.fixture(scope="module")
def extracted(here, there, tmp_path_factory):
    """Run the real chain: in what folder the store lies, by the number of threads, or elsewhere."""
    root, known = tmp_path_factory.mktemp("extracted"), {}

    def extract(case):
        if case not in known:
            known[case] = root / str(case)
            source, threads = (there, 1) if case == "there" else (here, case)
            arguments = ("extract", source / "manifest.csv", *MODE, "--tokens")
            run = started(known[case], *arguments, seed=len(known), threads=threads)
            assert "6 videos described" in said(run)
        return known[case] / "descriptors"

    return extract


@pytest.mark.slow
def test_neither_place_nor_order_nor_time_of_the_files_changes_a_store(extracted):
    one, other = stored(extracted(1)), stored(extracted("there"))
    assert list(one) == list(other)
    for name in one:
        assert timeless(one[name]) == timeless(other[name]), name


def trained_and_measured(home, source, descriptors, seed):
    """What `evaluate` prints, and the bytes of a probe, of its card and of the table."""
    there = source / "manifest.csv", "--store", descriptors
    said(started(home, "train", *there, *MODE, "--seeds", 2, "--set", "folds=3", seed=seed))
    scored = ("--probe", "mouth.safetensors", "--split", "train", "--out", "table.csv")
    told = said(started(home, "evaluate", *there, *scored, seed=seed))
    files = [home / name for name in ("mouth.safetensors", "mouth.json", "table.csv")]
    return told, *(file.read_bytes() for file in files)


@pytest.mark.slow
def test_training_and_measuring_again_gives_the_same_bytes(here, extracted, tmp_path):
    """A card holds no times: it is compared whole."""
    one = trained_and_measured(tmp_path / "1", here, extracted(1), seed=1)
    assert trained_and_measured(tmp_path / "2", here, extracted(1), seed=2) == one


# -- threads and batches -----------------------------------------------------------------------


def deviation(store, uids):
    """Of each feature over all tokens, ``(D,)``."""
    tokens = [store.tokens(uid)[2].astype(float) for uid in uids]
    return np.concatenate([one.reshape(-1, one.shape[-1]) for one in tokens]).std(0)


@pytest.mark.slow
def test_another_thread_moves_no_number_beyond_what_is_stated(here, extracted):
    uids = manifest.read(here / "manifest.csv").video_uid
    one, other = (Store.find(extracted(n), RECIPE) for n in (1, 2))
    pd.testing.assert_frame_equal(one.ledger(uids), other.ledger(uids))
    within = DESCRIPTOR_TOLERANCE * deviation(one, uids)
    for view in VIEWS:
        values, moved = (store.view(view, uids)[1] for store in (one, other))
        assert (abs(values - moved) <= within).all(), view
    table, odds = manifest.read(here / "manifest.csv"), []
    for store, number in ((one, 1), (other, 2)):
        with threadpool_limits(number):
            (probe,) = evaluation.train(table, store, "mouth", RECIPE)
        odds.append(probing.score(probe, store.view("mouth", uids)[1]))
    assert abs(odds[0] - odds[1]).max() <= LOG_ODDS_TOLERANCE
    labels = np.repeat(table.label, RECIPE.frames)
    assert abs(np.subtract(*(roc_auc_score(labels, one) for one in odds))) <= AUC_TOLERANCE


@pytest.mark.slow
def test_company_in_a_batch_moves_no_descriptor_beyond_what_is_stated():
    """Eight faces at once, and each by itself; under an isolated encoding padding differs too."""
    decided = recipe.demo().but(region="mouth")
    both = decided, decided.but(encoding="isolated")
    chain = Extractor(decided, "cpu")
    paths = [picture.path for picture in assets.pictures("orl")[::50]]
    pictures = [image for _, image in media.read_all(paths)]
    together = chain.several(pictures, both)
    chain.batch = 1
    alone = chain.several(pictures, both)
    tokens = chain.backbone([chain.crop(image) for image in pictures]).patches
    within = DESCRIPTOR_TOLERANCE * tokens.flatten(0, 2).std(0).numpy()
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
        for view in ("mouth", "cls", "random mouth"):
            assert (abs(one.view(view) - other.view(view)) <= within).all(), view


@pytest.fixture(scope="module")
def sample():
    """As many rows and features as the demo has; a tenth of the features tells a little."""
    rng, people = np.random.default_rng(0), 20
    labels, groups = np.tile([0, 1], 200), np.repeat(np.arange(people), 20)
    values = rng.normal(size=(400, 1, 384))
    values[labels == 1, :, :38] += 0.15
    pools = np.repeat(values, len(LABELS), axis=1).astype(np.float32)
    counts, reasons = np.ones(pools.shape[:2], np.int64), np.full(400, "")
    found = Descriptors(pools, counts, pools, pools[:, 0], np.ones(400, np.float32), reasons)
    return Sample("made up", "mouth", found, labels, groups, np.arange(400).astype(str))


def test_a_probe_is_the_same_whoever_shares_the_work(sample):
    """One core after the other, threads, or processes; and more BLAS threads than one."""
    found, decided = [], RECIPE.but(folds=2, c_grid=(1e-2, 1.0))
    for backend, limit in (("sequential", 1), ("loky", 2), ("threading", 2)):
        with joblib.parallel_config(backend), threadpool_limits(limit):
            found.append(trials.within(sample, ["mouth", "cls"], decided, (0,)))
    for one in found[1:]:
        for view, scores in one.views.items():
            assert abs(scores - found[0].views[view]).max() <= LOG_ODDS_TOLERANCE
            change = one.auc(view).value - found[0].auc(view).value
            assert abs(change) <= AUC_TOLERANCE


def test_what_moves_a_descriptor_within_its_tolerance_moves_a_score_within_its_own(sample):
    """Also another order of the rows, in which sums are taken."""
    rows, rng = sample.descriptors.view("mouth"), np.random.default_rng(1)
    known = sample.labels, sample.groups
    plain = training.fit(rows, *known, RECIPE)
    odds = probing.score(plain, rows)
    noise = rng.choice([-1, 1], rows.shape) * DESCRIPTOR_TOLERANCE * rows.std(0)
    order = rng.permutation(len(rows))
    moved = [training.fit(rows + noise, *known, RECIPE)]
    moved += [training.fit(rows[order], *(one[order] for one in known), RECIPE)]
    for probe in moved:
        assert probe.C == plain.C
        anew = probing.score(probe, rows)
        assert abs(anew - odds).max() <= LOG_ODDS_TOLERANCE
        areas = [roc_auc_score(sample.labels, scores) for scores in (odds, anew)]
        assert abs(areas[0] - areas[1]) <= AUC_TOLERANCE
