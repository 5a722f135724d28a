"""Files that are whole or not there, whatever happens while they are written, and their names.

A file may also be an object of a store that fsspec reaches (S3, Google Cloud, Azure): its path is
then a `UPath`, which has pathlib's methods. Such an object appears whole, once all of it is sent.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from seglib.errors import SeglibError, unknown_name

if TYPE_CHECKING:
    from upath import UPath

# Where an object appears whole or not at all; over sftp or hdfs a file grows as it is sent.
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")


class CannotWrite(SeglibError):
    """A file cannot be written: the disk is full, the folder is read-only or gone."""


class NoBackend(SeglibError):
    """The optional packages that reach an object store cannot be imported."""


class OutOfReach(SeglibError):
    """An object store does not answer, or not to us."""


def readable(text: object) -> str:
    """A stranger's name as text that any file can hold: bytes that are no UTF-8 are written out."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def printable(text: object) -> str:
    """The same without what moves a terminal's cursor or turns its letters around."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in readable(text))


def place(address: str | os.PathLike | UPath) -> Path | UPath:
    """A folder on this machine, or in an object store: ``s3://bucket/folder``.

    Raises
    ------
    UnknownName
        The address is of a kind that has no whole objects.
    NoBackend, OutOfReach
    """
    kind, remote, _ = str(address).partition("://")
    if not remote:
        return Path(address)
    if kind not in OBJECT_STORES:
        raise unknown_name("kind of object store", kind, OBJECT_STORES)
    try:
        from upath import UPath

        path = UPath(address)
        path.exists()
    except ImportError as error:
        raise NoBackend(
            f"{address} cannot be reached: {error}; expected the package universal_pathlib, and "
            "what fsspec needs for this store (s3fs for s3, gcsfs for gs, adlfs for az). Run: "
            "pip install 'seglib[remote]' s3fs"
        ) from error
    except Exception as error:  # each store's own: no credentials, no such host, no permission
        raise OutOfReach(
            f"{address} cannot be reached: {error}. Expected a store that answers; name another "
            "one, or set its credentials and its address as its own tools ask for them."
        ) from error
    return path


def plain(path: Path) -> Path:
    """The path, unless there is something else than a file: a pipe would be waited for; OSError."""
    local = isinstance(path, str | os.PathLike)  # an object is always a plain one
    if local and os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is a folder, a device or a pipe")
    return path


def digest(payload: Mapping) -> str:
    """SHA-256 of a JSON object but for its own field ``digest``, whatever the order of fields."""
    rest = {name: value for name, value in payload.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # JSON can hold halves of characters, which UTF-8 cannot.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def source(path: Path | UPath) -> Path | IO[bytes]:
    """What to read a file from: its path, see `plain`, or the opened object."""
    return plain(path) if isinstance(path, Path) else path.open("rb")


@contextmanager
def replacing(path: Path | UPath) -> Iterator[Path]:
    """A path to write to, beside `path` and put in its place when all went well.

    Its name cannot be guessed, so nobody can lay a link there, nor another process write to it.
    What goes to an object store is written here first, and then sent.

    Raises
    ------
    CannotWrite
        What was at `path` is then as it was.
    """
    if not isinstance(path, Path):
        with tempfile.TemporaryDirectory(prefix="seglib-") as folder:
            part = Path(folder) / "part"
            with replacing(part) as written:
                yield written
            _send(part, path)
        return
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # a disk that became read-only refuses even what is not there
            part.unlink()


def _send(part: Path, path: UPath) -> None:
    try:
        path.fs.put_file(part, path.path)
    except Exception as error:  # each store's own
        raise CannotWrite(
            f"{path} cannot be written: {error}. Expected a bucket that can be written. Nothing "
            "half written was kept. Name another one, or set its credentials, and run the same "
            "again: it goes on from here."
        ) from error


def check_writable(path: Path) -> None:
    """Refuse, before the work, a file that could not be written after it.

    Raises
    ------
    CannotWrite
    """
    if os.path.isdir(path):
        raise CannotWrite(
            f"{path} is a folder; expected a file that can be written. Name another one."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()  # the administrator may, whatever is said
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """Build, not raise, the error for a file that the system did not let be written."""
    there = next(folder for folder in path.absolute().parents if os.path.isdir(folder))
    return CannotWrite(
        f"{path} cannot be written: {error.strerror or error}. Expected a folder that can be "
        f"written, with room; {there} has {shutil.disk_usage(there).free / 1e6:,.1f} MB free. "
        "Nothing half written was kept. Free some room, or name another folder (an option of the "
        "command; SEGLIB_CACHE and SEGLIB_RESULTS), and run the same again: it goes on from here."
    )
