"""A session on Colab: what it runs with, and where it keeps what should outlast it.

The first cell of every chapter calls `settle` there; elsewhere nothing of this is used.
"""

from __future__ import annotations

import os
from pathlib import Path

from seglib import __version__, devices, receipts
from seglib.errors import SeglibError

DRIVE = Path("/content/drive")
KEPT = {"SEGLIB_CACHE": "cache", "SEGLIB_RESULTS": "results"}  # folders on the Drive


class NotColab(SeglibError):
    """Something was asked for that only Colab has."""


def settle(drive: bool = False) -> None:
    """Say which versions and which device this session has; run it again after a restart.

    Parameters
    ----------
    drive : bool
        Mount your Google Drive, and keep weights, descriptors and results in its folder
        ``look-only-there``. Without it they are gone when the session ends.

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


def _mounted() -> Path:
    try:
        from google.colab import drive
    except ImportError:
        raise NotColab(
            "drive=True mounts Google Drive, and this is not Colab: there is no google.colab. "
            f"Elsewhere leave it out, and set {' and '.join(KEPT)} to folders of your own."
        ) from None
    drive.mount(str(DRIVE))  # does nothing where it is mounted already
    return DRIVE / "MyDrive"


def _keep(folder: Path) -> None:
    for variable, name in KEPT.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(folder / name)
    print(f"Weights, descriptors and results are kept in {folder}.")


def _device() -> str:
    import torch

    chosen = devices.choose()
    return "CPU" if chosen == "cpu" else torch.cuda.get_device_name(chosen)
