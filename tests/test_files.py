"""A file is whole or not there."""

import multiprocessing
import os
import re
import subprocess
import sys

import pytest
from mounts import mounted

from seglib import files
from seglib.errors import UnknownName


def test_a_file_appears_when_all_went_well(tmp_path):
    path = tmp_path / "new" / "a.json"
    with files.replacing(path) as part:
        part.write_text("half")
        assert not path.exists()
        part.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def spoil(path):
    with files.replacing(path) as part:
        part.write_text("half")
        raise ZeroDivisionError


@pytest.mark.parametrize("older", [True, False])
def test_what_was_there_stays_when_something_goes_wrong(tmp_path, older):
    path = tmp_path / "a.json"
    if older:
        path.write_text("older")
    with pytest.raises(ZeroDivisionError):
        spoil(path)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"] * older


def test_two_files_of_one_stem_do_not_meet(tmp_path):
    with files.replacing(tmp_path / "a.json") as one, files.replacing(tmp_path / "a.txt") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a.json").read_text() + (tmp_path / "a.txt").read_text() == "12"


# -- object stores -----------------------------------------------------------------------------


def test_an_object_appears_as_a_whole_or_stays_as_it_was(tmp_path):
    path = files.place(f"memory:/{tmp_path}") / "new" / "a.json"
    with files.replacing(path) as part:
        part.write_text("whole")
        assert not path.exists()
    assert files.source(path).read() == b"whole"
    with pytest.raises(ZeroDivisionError):
        spoil(path)
    assert [file.read_text() for file in path.parent.iterdir()] == ["whole"]
    assert not part.exists()


def test_an_object_that_is_refused_is_an_error_of_ours(tmp_path, monkeypatch):
    path = files.place(f"memory:/{tmp_path}") / "a.json"

    def refuse(*_):
        raise RuntimeError("no credentials")  # each store has its own kind of error

    monkeypatch.setattr(path.fs, "put_file", refuse)
    told = pytest.raises(files.CannotWrite, match=r"a\.json cannot be written: no credentials")
    with told, files.replacing(path) as part:
        part.write_text("whole")
    monkeypatch.setattr(path.fs, "exists", refuse)
    with pytest.raises(files.OutOfReach, match="cannot be reached: no credentials"):
        files.place(str(path))


def test_what_a_store_needs_is_named(monkeypatch):
    with pytest.raises(UnknownName, match="unknown kind of object store 'sftp'"):
        files.place("sftp://host/folder")
    for name in ("s3fs", "upath"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(files.NoBackend, match=r"pip install 'seglib\[remote\]' s3fs"):
            files.place("s3://bucket/folder")


def test_a_folder_is_a_plain_path(tmp_path):
    for address in (tmp_path, str(tmp_path)):
        assert type(files.place(address)) is type(tmp_path)
        assert files.place(address) == tmp_path


def test_the_terminal_is_not_driven_by_a_name():
    assert files.printable("a\x1b[2Jb\u202ec\n") == r"a\x1b[2Jb\u202ec\n"
    assert files.printable("näme 名.jpg") == "näme 名.jpg"


def test_only_a_file_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(OSError, match="is a folder, a device or a pipe"):
            files.plain(tmp_path / name)
    assert files.plain(tmp_path / "absent") == tmp_path / "absent"  # opening it says so


def test_a_digest_knows_the_content_and_not_the_order_of_fields():
    one = files.digest({"a": [1, "ü"], "b": None})
    assert files.digest({"b": None, "digest": "x", "a": [1, "ü"]}) == one
    assert files.digest({"a": [1, "u"], "b": None}) != one
    assert len(files.digest({"half a character": "\ud800"})) == 64


# -- no room, no permission ----------------------------------------------------------------------

SAID = r"a\.json cannot be written: .+ has [\d,.]+ MB free\. .* run the same again"


# The system refuses a longer file, as a quota does: also to whoever writes the test's own log.
KILOBYTE = """
import resource, signal, sys
from pathlib import Path
from seglib import files

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    with files.replacing(Path(sys.argv[1])) as part:
        part.write_text("x" * 5000)
except files.CannotWrite as error:
    print(error)
"""


def test_where_the_system_refuses_what_was_there_stays(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("older")
    command = [sys.executable, "-c", KILOBYTE, path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(SAID, said)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]


def test_a_file_in_the_way_of_a_folder_is_said(tmp_path):
    (tmp_path / "results").write_text("a file")
    with (
        pytest.raises(files.CannotWrite, match=re.escape(f"{tmp_path} has")),
        files.replacing(tmp_path / "results" / "demo" / "a.json"),
    ):
        pass
    with pytest.raises(files.CannotWrite):
        files.check_writable(tmp_path / "results" / "a.json")


def test_what_can_be_written_is_found_out_without_a_trace(tmp_path):
    files.check_writable(tmp_path / "new" / "a.json")
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(files.CannotWrite, match="is a folder; expected a file"):
        files.check_writable(tmp_path / "new")


READ_ONLY = """
import sys
from pathlib import Path
from seglib import files

def write(path):
    with files.replacing(path) as part:
        part.touch()

path = Path(sys.argv[1]) / "a.json"
for attempt in (files.check_writable, write):
    try:
        attempt(path)
    except files.CannotWrite as error:
        print(error)
print(path.read_text())
"""


def test_a_read_only_folder_is_read_and_its_refusal_explained(tmp_path):
    (tmp_path / "a.json").write_text("older")
    said = mounted(READ_ONLY, tmp_path, "ro", tmp_path)
    assert len(re.findall(SAID, said)) == said.count("Read-only file system") == 2
    assert said.endswith("older\n")
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def refused(path):
    """What is said when it is tried in either way."""
    said = []
    for attempt in (files.check_writable, lambda path: files.replacing(path).__enter__()):
        try:
            attempt(path)
        except files.CannotWrite as error:
            said.append(str(error))
    return said


def test_a_folder_of_somebody_else_is_refused_in_words(tmp_path):
    """The administrator may write everywhere, so that a child of nobody's tries it."""
    (closed := tmp_path / "closed").mkdir()
    closed.chmod(0)
    alone = multiprocessing.get_context("fork")
    become = (os.setuid, (65534,)) if os.geteuid() == 0 else (None, ())
    with alone.Pool(1, *become) as nobody:
        said = nobody.apply(refused, (closed / "new" / "a.json",))
    closed.chmod(0o700)
    assert len(said) == 2
    for one in said:
        assert re.search(SAID, one)
        assert "Permission denied" in one


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """Not even threads, nor the first processes of two containers that share a disk."""
    path = tmp_path / "a.json"
    with files.replacing(path) as one:
        one.write_text("first")
        with files.replacing(path) as other:
            other.write_text("second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]
