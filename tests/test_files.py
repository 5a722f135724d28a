"""A file is whole or not there."""

import os

import pytest

from seglib import files


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
