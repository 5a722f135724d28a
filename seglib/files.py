"""Files that are whole or not there, whatever happens while they are written, and their names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


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
    """A path to write to, beside `path` and put in its place when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
