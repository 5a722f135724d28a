"""Colab, by a stub of its module `google.colab`: the real one exists there only."""

import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

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
    module.drive, module.files = drive, ModuleType("google.colab.files")
    module.files.upload = lambda: Path("mine.jpg").write_bytes(b"a picture")
    monkeypatch.setitem(sys.modules, "google.colab.files", module.files)
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


def test_files_of_your_own_stay_in_the_session(stub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (found,) = colab.upload()
    assert found.read_bytes() == b"a picture"
    assert found.parent.parent == tmp_path
    assert Path.cwd() == tmp_path


def test_nobody_else_may_look_at_them(stub, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (found,) = colab.upload()
    assert found.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_upload_that_is_interrupted_leaves_nothing(stub, monkeypatch, tmp_path, error):
    def breaks():
        Path("half.jpg").write_bytes(b"half a picture")
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["google.colab.files"], "upload", breaks)
    with pytest.raises(error):
        colab.upload()
    assert Path.cwd() == tmp_path
    assert not list(tmp_path.glob("upload-*"))


@pytest.mark.parametrize("act", [lambda: colab.settle(drive=True), colab.upload])
def test_elsewhere_there_is_no_drive_and_no_upload(monkeypatch, tmp_path, act):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "google.colab", None)
    with pytest.raises(colab.NotColab, match="SEGLIB_CACHE, SEGLIB_RESULTS"):
        act()
    assert not list(tmp_path.iterdir())


def cells():
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        yield from (c for c in notebook.cells if "colab" in c.metadata.get("tags", ()))


def test_all_notebooks_settle_in_the_same_way_at_the_tag_of_this_version():
    sources = {cell.source for cell in cells()}
    assert len(list(cells())) == len(NOTEBOOKS)
    (source,) = sources
    assert f"@v{seglib.__version__}" in source
    assert f'if "{seglib.__version__}" not in' in source
    assert "colab.settle(" in source
    readme = (NOTEBOOKS[0].parent.parent / "README.md").read_text(encoding="utf-8")
    assert f"git tag v{seglib.__version__} " in readme


HELD = ("torch==2.8.0+cu126", "torchvision==0.23.0", "torchaudio==2.8.0", "numpy==2.0.2")


@pytest.mark.parametrize("installed", [None, "0.0.9", seglib.__version__])
def test_the_cell_installs_once_and_holds_what_colab_brings(stub, monkeypatch, installed):
    source = next(cells()).source
    assert re.search(r"!pip list .*\{held\}. > held\.txt\n +%pip install -q -c held\.txt ", source)
    here = re.sub(r"!pip .*", "ran.append(held)", source)  # no Python, and no pip in a test
    here = re.sub(r"%pip .*", "ran.append(source)", here)
    found = [SimpleNamespace(version=installed)] if installed else []
    monkeypatch.setattr("importlib.metadata.distributions", lambda name: found)
    ran = []
    exec(here, {"ran": ran})
    assert len(ran) == (0 if installed == seglib.__version__ else 2)
    if ran:
        held, source = ran
        assert all(re.search(held, line) for line in (*HELD, "protobuf==5.29.5"))
        assert not any(re.search(held, line) for line in ("torchmetrics==1.8", "numpy-stl==3.2"))
        assert source.endswith(f"@v{seglib.__version__}")
