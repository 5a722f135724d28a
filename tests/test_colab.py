"""Colab, by a stub of its module `google.colab`: the real one exists there only."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

import seglib
from seglib import assets, colab, results

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").rglob("*.ipynb"))


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """A stub of google.colab, whose Drive is a folder; how often it was mounted."""
    mounted = []
    module, drive = ModuleType("google.colab"), ModuleType("google.colab.drive")
    drive.mount = mounted.append
    module.drive = drive
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)
    monkeypatch.setattr(colab, "DRIVE", tmp_path)
    for name in colab.KEPT:
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    return mounted


def test_a_session_says_what_it_runs_with(stub, capsys):
    colab.settle()
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["python"] == ".".join(map(str, sys.version_info[:3]))
    assert told["seglib"] == seglib.__version__
    assert told["torch"].startswith("2.")
    assert told["device"]
    assert stub == []


def test_what_should_outlast_a_session_goes_to_the_drive(stub, tmp_path):
    for _ in range(2):  # the second is the run after a restart
        colab.settle(drive=True)
    assert stub == [str(tmp_path)] * 2
    home = tmp_path / "MyDrive" / "look-only-there"
    assert assets.cache_dir() == home / "cache"
    assert results.run_folder() == home / "results"
    assert all(Path(os.environ[name]).is_dir() for name in colab.KEPT)


def test_elsewhere_there_is_no_drive(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", None)
    with pytest.raises(colab.NotColab, match="SEGLIB_CACHE and SEGLIB_RESULTS"):
        colab.settle(drive=True)


def cells():
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        yield from (c for c in notebook.cells if "colab" in c.metadata.get("tags", ()))


def test_all_notebooks_settle_in_the_same_way_at_the_tag_of_this_version():
    sources = {cell.source for cell in cells()}
    assert len(list(cells())) == len(NOTEBOOKS)
    (source,) = sources
    assert f"@v{seglib.__version__}" in source
    assert "colab.settle(" in source
    readme = (NOTEBOOKS[0].parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"git tag v{seglib.__version__} " in readme


@pytest.mark.parametrize("installed", [False, True])
def test_the_cell_installs_once_and_holds_what_colab_brings(stub, monkeypatch, tmp_path, installed):
    source = next(cells()).source
    assert re.search(r"%pip install -q -c kept\.txt ", source)
    here = re.sub(r"%pip .*", "ran.append(source)", source)  # no Python, and no pip in a test
    ran = []
    monkeypatch.chdir(tmp_path)
    found = (lambda name: object()) if installed else (lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", found)
    exec(here, {"ran": ran})
    assert len(ran) == (0 if installed else 1)
    if ran:
        held = Path("kept.txt").read_text().split()
        assert [one.split("==")[0] for one in held] == ["torch", "torchvision", "numpy"]
        assert ran[0].endswith(f"@v{seglib.__version__}")
