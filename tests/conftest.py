"""What several tests share: the option --runslow, one build of the real book, and a browser."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import hypothesis
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from seglib import assets, demo, devices, panel, recipe, stacking

ROOT = Path(__file__).parent.parent
CHROMIUM = next(
    filter(
        None,
        [
            os.environ.get("CHROMIUM"),
            *map(
                shutil.which,
                ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
            ),
        ],
    ),
    None,
)
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")  # a time says nothing about a result
BUILD = pytest.StashKey()  # the folder of the book and of what builds it
BUILDING = pytest.StashKey()  # the process that does, and who waits for it


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow too")


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # one of several processes that are given tests
        config.stash[BUILD] = Path(config.workerinput["build"])
        os.environ["LOKY_MAX_CPU_COUNT"] = "2"  # or each would start as many as there are cores
    else:
        config.stash[BUILD] = Path(tempfile.mkdtemp(prefix="seglib-book-"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    """Tell a process that runs tests where the book will be."""
    node.workerinput["build"] = str(node.config.stash[BUILD])


def pytest_unconfigure(config):
    if hasattr(config, "workerinput"):
        return
    if BUILDING in config.stash:
        building, waiting = config.stash[BUILDING]
        building.terminate()
        waiting.join()
    shutil.rmtree(config.stash[BUILD], ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    # Last, since it takes long to build. What pytest-xdist hands out are whole modules, as they
    # come: first those that can go on longest without it.
    every = Counter(item.path for item in items)
    late = Counter(item.path for item in items if "book" in item.fixturenames)
    share = {path: late[path] / count for path, count in every.items()}
    items.sort(key=lambda item: ("book" in item.fixturenames, share[item.path]))
    if not config.getoption("--runslow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: add --runslow"))


@pytest.hookimpl(tryfirst=True)  # before it is told that the collection is finished
def pytest_collection_finish(session):
    """Have the real book built by another process, while the tests run that do not need it."""
    needed = any("book" in one.fixturenames for one in session.items)
    if needed and not session.config.option.collectonly:
        (session.config.stash[BUILD] / "wanted").touch()
    if not hasattr(session.config, "workerinput"):
        build(session.config)
    # One thread for the tests: several would wait for whichever shares its core with the build.
    os.environ["OMP_NUM_THREADS"] = "1"  # of those processes that tests start
    torch.set_num_threads(1)
    threadpool_limits(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node):
    build(node.config)


def build(config):
    """Start what builds the book, once, if a test wants it."""
    folder = config.stash[BUILD]
    if BUILDING in config.stash or not (folder / "wanted").exists():
        return
    # What waits for work must not spin: the tests want the cores as well.
    passive = os.environ | {"OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, ROOT / "book" / "build.py", "--out", folder / "out"]
    with open(folder / "log.txt", "w") as log:
        building = subprocess.Popen(command, stdout=log, stderr=log, env=passive)
    # A file's name tells all processes that run tests how it ended.
    waiting = Thread(target=lambda: (folder / f"ended {building.wait()}").touch(), daemon=True)
    waiting.start()
    config.stash[BUILDING] = building, waiting


@pytest.fixture(scope="session")
def book(request):
    """Wait for the real book, demo mode; return the folder with html/ and stage/."""
    folder = request.config.stash[BUILD]
    while not (ended := [one.name for one in folder.glob("ended *")]):
        assert folder.exists(), f"{folder} is gone, and the book in it"
        time.sleep(0.5)
    log = (folder / "log.txt").read_text()
    assert ended == ["ended 0"], f"the book does not build:\n{log[-5000:]}"
    return folder / "out"


@contextmanager
def chromium():
    """The system's Chromium, or a skipped test that says what is missing."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium (Debian), or set CHROMIUM to a browser")
    reason = "the page tests need playwright: pip install playwright"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser(book):  # after the book: papermill cannot run beside playwright's event loop
    """A browser for a module's tests of the book's pages and slides."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def lone_browser():
    """A browser for pages that a test makes itself."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is pip's only source, and a cache of its own."""
    monkeypatch.setenv("SEGLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


@pytest.fixture
def four_people(tmp_path, monkeypatch):
    """Four of ORL's people, so two couples, one picture each; a cache beside the real assets."""
    for name in assets.ASSETS:
        (tmp_path / name).symlink_to(assets.fetch(name))
    monkeypatch.setenv("SEGLIB_CACHE", str(tmp_path))
    few = assets.pictures("orl")[:40:10]
    monkeypatch.setattr(assets, "pictures", lambda name: few)
    return tmp_path / "demo"


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """The demo's recipe with few frames and a small random DINOv2 through the real class.

    A stub of the encoder, for tests of everything around it: its AUCs mean nothing.
    """
    devices.let_torchvision_import()
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("small") / "dinov2"
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=70
    )
    Dinov2Model(config).save_pretrained(folder)
    return recipe.demo().but(backbone=str(folder), input_size=140, frames=4)


@pytest.fixture(scope="session")
def probes(small):
    """A panel on the small encoder, trained on its descriptors of noise: a stub that knows nothing.

    Half of the rows are called fake, and moved a little, so that something is learned.
    """
    rng, labels = np.random.default_rng(0), np.tile([0, 1], 60)
    groups = np.repeat(np.arange(20), 6)
    views = {
        part: (rng.normal(size=(120, 32)) + 0.5 * labels[:, None]).astype(np.float32)
        for part in panel.PARTS
    }
    decided = small.but(input_size=small.crop_size)  # fine enough for patches of the eyes
    networks = demo.networks(decided).networks
    card = {"networks": networks, "training": "noise"}
    found = stacking.fit(views, labels, groups, decided, card, 24)
    # Their references come from noise: given room, so that no face lies outside.
    wide = {part: replace(one, limit=one.limit * 1e4) for part, one in found.references.items()}
    return replace(found, references=wide)
