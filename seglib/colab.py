"""A session on Colab: what it runs with, and where it keeps what should outlast it.

The first cell of every chapter calls `settle` there; elsewhere nothing of this is used.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from types import ModuleType

from seglib import __version__, devices, receipts
from seglib.errors import SeglibError

DRIVE = Path("/content/drive")
KEPT = {  # the variable that names a folder, and what that folder is called on the Drive
    "SEGLIB_CACHE": "cache",  # the demo's weights and faces, and all descriptors
    "SEGLIB_RESULTS": "results",
    "SEGLIB_WEIGHTS": "weights",  # the paper's, by release
    "HF_HUB_CACHE": "hub",  # the paper's, from the hub
}


class NotColab(SeglibError):
    """Something was asked for that only Colab has."""


def settle(drive: bool = False) -> None:
    """Say which versions and which device this session has; run it again after a restart.

    Parameters
    ----------
    drive : bool
        Mount your Google Drive, which asks for permission, and keep weights, descriptors and
        results in its folder ``look-only-there``. Without it they are gone when the session ends.

    Raises
    ------
    NotColab
        There is no Drive to mount.
    """
    if drive:
        _keep(_mounted() / "look-only-there")
    for name, version in ({"seglib": __version__} | receipts.versions()).items():
        print(f"{name:22} {version}")
    print(f"{'device':22} {_device()}")


def upload() -> list[Path]:
    """Ask for files from your own disk; return where they are now, in order of name.

    They go into a new folder of this session and not to the Drive: pictures of people should not
    stay anywhere unasked.

    Raises
    ------
    NotColab
    """
    files = _colab("files")
    folder = Path(tempfile.mkdtemp(prefix="upload-", dir=Path.cwd()))
    try:
        with chdir(folder):  # Colab saves into the working folder
            files.upload()
    except BaseException:  # interrupted too: half an upload stays nowhere
        shutil.rmtree(folder)
        raise
    return sorted(folder.iterdir())


def _mounted() -> Path:
    _colab("drive").mount(str(DRIVE))  # does nothing where it is mounted already
    return DRIVE / "MyDrive"


def _colab(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"google.colab.{name}")
    except ImportError:
        raise NotColab(
            f"found no google.colab.{name}; expected Colab. On your own machine files stay where "
            f"they are: pass their paths, and set {', '.join(KEPT)} to move a folder."
        ) from None


def _keep(folder: Path) -> None:
    for variable, name in KEPT.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(folder / name)
    print(f"Weights, descriptors and results are kept in {folder}.")


def _device() -> str:
    import torch

    chosen = devices.choose()
    return "CPU" if chosen == "cpu" else torch.cuda.get_device_name(chosen)
