"""Wheels made for tests: a good one, and whatever a test wants inside one."""

import hashlib
import zipfile

from seglib import assets

GOOD = {"tiny/data/a.bin": b"a" * 1000, "tiny/data/b.bin": b"b" * 10, "tiny/code.py": b"evil()"}


def make_wheel(folder, members, name="tiny-1.0-py3-none-any.whl"):
    """Write a wheel that pip accepts; `members` maps names or ZipInfos to bytes."""
    folder.mkdir(exist_ok=True)
    package, version = name.split("-")[:2]
    info = f"{package}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    tail = {
        f"{info}/METADATA": about.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in [*members.items(), *tail.items()]:
            archive.writestr(member, data)
    return folder / name


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tiny(sha256, **changes):
    fields = {
        "name": "tiny", "role": "faces", "package": "tiny", "version": "1.0", "sha256": sha256,
        "download": 2000, "members": ("tiny/data/*.bin",), "unpacked": 1010,
        "licence": "none", "credit": "nobody",
    }  # fmt: skip
    return assets.Asset(**fields | changes)
