"""What several tests share: the option --runslow, and one build of the real book."""

import os

import pytest

from book import build


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--runslow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: add --runslow"))


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """Build the real book, demo mode, once; return the folder with html/ and stage/."""
    out = tmp_path_factory.mktemp("book")
    assert build.main(["--out", str(out)]) == 0, "the book does not build: see the output above"
    return out


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is pip's only source, and a cache of its own."""
    monkeypatch.setenv("SEGLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"
