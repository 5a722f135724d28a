"""Files that are whole or not there, whatever happens while they are written, and their names."""

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

from seglib.errors import SeglibError


class CannotWrite(SeglibError):
    """A file cannot be written: the disk is full, the folder is read-only or gone."""


def readable(text: object) -> str:
    """A stranger's name as text that any file can hold: bytes that are no UTF-8 are written out."""
    return str(text).encode("utf-8", "backslashreplace").decode()


def printable(text: object) -> str:
    """The same without what moves a terminal's cursor or turns its letters around."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in readable(text))


def plain(path: Path) -> Path:
    """The path, unless there is something else than a file: a pipe would be waited for; OSError."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path} is a folder, a device or a pipe")
    return path


def digest(payload: Mapping) -> str:
    """SHA-256 of a JSON object but for its own field ``digest``, whatever the order of fields."""
    rest = {name: value for name, value in payload.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # JSON can hold halves of characters, which UTF-8 cannot.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, beside `path` and put in its place when all went well.

    Its name cannot be guessed, so nobody can lay a link there, nor another process write to it.

    Raises
    ------
    CannotWrite
        What was at `path` is then as it was.
    """
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
