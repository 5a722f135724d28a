"""What several tests share: the option --runslow, and one build of the real book."""

import os

import pytest
import torch

from book import build
from seglib import assets, devices, recipe


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow too")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(config, items):
    for item in items:  # one process builds the book, the others test what does not need it
        if "book" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group("book"))
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
