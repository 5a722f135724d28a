"""The real assets, and small ones of our own that go through the real pip."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
from mounts import mounted
from wheelhouse import GOOD, make_wheel, sha256, tiny

from seglib import assets, wheels
from seglib.errors import UnknownName


def register(monkeypatch, asset):
    monkeypatch.setitem(assets.ASSETS, asset.name, asset)
    return asset


@pytest.fixture
def good(index, monkeypatch):
    return register(monkeypatch, tiny(sha256(make_wheel(index, GOOD))))


def in_cache():
    """Every file under the cache but the locks."""
    root = assets.cache_dir()
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix != ".lock"}


READY = {"tiny", "tiny/a.bin", "tiny/b.bin", "tiny/receipt.json"}


# -- the way it should go ----------------------------------------------------------------------


def test_fetch_keeps_the_named_members_and_a_receipt(good):
    folder = assets.fetch("tiny")
    assert in_cache() == READY
    assert (folder / "a.bin").read_bytes() == GOOD["tiny/data/a.bin"]
    receipt = json.loads((folder / "receipt.json").read_text())
    assert receipt["wheel_sha256"] == good.sha256
    assert receipt["files"]["b.bin"] == {
        "size": 10, "sha256": hashlib.sha256(b"b" * 10).hexdigest()
    }  # fmt: skip


def test_a_ready_folder_needs_no_pip_and_no_write(good, monkeypatch):
    first = assets.fetch("tiny")
    before = {path: path.stat().st_mtime_ns for path in assets.cache_dir().rglob("*")}
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert assets.fetch("tiny") == assets.fetch("tiny", verify=True) == first
    assert {path: path.stat().st_mtime_ns for path in assets.cache_dir().rglob("*")} == before


def test_status_follows_the_folder(good):
    absent = assets.status("tiny")
    assert (absent.state, absent.present, absent.size) == ("absent", False, 0)
    folder = assets.fetch("tiny")
    ready = assets.status("tiny", verify=True)
    assert (ready.state, ready.present, ready.path, ready.detail) == ("ready", True, folder, "")
    assert ready.size == 1010 + (folder / "receipt.json").stat().st_size


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'dinov2-s'"):
        assets.fetch("dinov2s")
    with pytest.raises(UnknownName, match="Known: orl, csu"):
        assets.pictures("dinov2-s")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("SEGLIB_CACHE", raising=False)
    assert assets.cache_dir().name == "seglib"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGLIB_CACHE", "here")
    assert assets.cache_dir() == tmp_path / "here"


def test_pictures_come_in_natural_order(index, monkeypatch):
    names = ["s10/1.pgm", "s2/10.pgm", "s2/9.pgm", "s1/1.pgm"]
    wheel = make_wheel(index, {f"tiny/faces/{name}": b"P5 1 1 255 x" for name in names})
    orl = assets.ASSETS["orl"]
    register(
        monkeypatch,
        tiny(sha256(wheel), name="orl", members=("tiny/faces/s*/*.pgm",), person=orl.person,
             pictures=4, people=3),
    )  # fmt: skip
    found = [(p.person, p.path.parent.name, p.path.name) for p in assets.pictures("orl")]
    assert found == [
        ("orl-s01", "s1", "1.pgm"),
        ("orl-s02", "s2", "9.pgm"),
        ("orl-s02", "s2", "10.pgm"),
        ("orl-s10", "s10", "1.pgm"),
    ]


# -- damage mends itself -----------------------------------------------------------------------


def cut(folder):
    (folder / "a.bin").write_bytes(b"a" * 999)


def lose(folder):
    (folder / "b.bin").unlink()


def scribble_receipt(folder):
    (folder / "receipt.json").write_text("{")


def odd_receipt(folder):
    (folder / "receipt.json").write_text('["a", "b"]')


def lose_receipt(folder):
    (folder / "receipt.json").unlink()


def other_wheel(folder):
    receipt = json.loads((folder / "receipt.json").read_text())
    (folder / "receipt.json").write_text(json.dumps(receipt | {"wheel_sha256": "0" * 64}))


@pytest.mark.parametrize(
    "damage", [cut, lose, scribble_receipt, odd_receipt, lose_receipt, other_wheel]
)
def test_a_damaged_folder_is_seen_and_made_again(good, damage):
    folder = assets.fetch("tiny")
    damage(folder)
    assert assets.status("tiny").state == "damaged"
    assert assets.status("tiny").detail
    assets.fetch("tiny")
    assert assets.status("tiny", verify=True).state == "ready"
    assert in_cache() == READY


def test_a_change_of_the_same_size_is_seen_by_verify(good):
    folder = assets.fetch("tiny")
    (folder / "a.bin").write_bytes(b"x" * 1000)
    assert assets.status("tiny").state == "ready"  # sizes alone cannot tell
    assert "a.bin has changed" in assets.status("tiny", verify=True).detail
    assets.fetch("tiny", verify=True)
    assert (folder / "a.bin").read_bytes() == b"a" * 1000


# -- what is refused leaves the cache as it was ------------------------------------------------


def test_a_wrong_wheel_leaves_nothing_in_the_cache(index, monkeypatch):
    make_wheel(index, GOOD)
    register(monkeypatch, tiny("0" * 64))
    with pytest.raises(wheels.HashMismatch):
        assets.fetch("tiny")
    assert in_cache() == set()


def test_a_wrong_wheel_leaves_a_damaged_folder_as_it_was(good, index):
    folder = assets.fetch("tiny")
    cut(folder)
    make_wheel(index, {"tiny/data/a.bin": b"another"})
    with pytest.raises(wheels.HashMismatch):
        assets.fetch("tiny")
    assert (folder / "b.bin").read_bytes() == GOOD["tiny/data/b.bin"]
    assert in_cache() == READY


def test_after_a_truncated_download_the_next_fetch_recovers(good, index):
    wheel = next(index.iterdir())
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(wheels.AssetUnavailable):
        assets.fetch("tiny")
    assert in_cache() == set()
    wheel.write_bytes(whole)
    assets.fetch("tiny")
    assert in_cache() == READY


def test_a_set_with_other_faces_than_expected_is_refused(index, monkeypatch):
    wheel = make_wheel(index, {"tiny/faces/s1/1.pgm": b"P5"})
    register(
        monkeypatch,
        tiny(sha256(wheel), members=("tiny/faces/s*/*.pgm",),
             person=assets.ASSETS["orl"].person, pictures=2, people=1),
    )  # fmt: skip
    with pytest.raises(wheels.UnexpectedContents, match="found 1 pictures of 1 people"):
        assets.fetch("tiny")
    assert in_cache() == set()


def test_a_cache_that_cannot_be_written_is_named(good, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("SEGLIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(assets.CacheUnusable, match="SEGLIB_CACHE"):
        assets.fetch("tiny")


# -- killed, and two at once -------------------------------------------------------------------

FETCH = """
import json, sys
from seglib import assets
asset = assets.Asset(**json.loads(sys.argv[1]))
assets.ASSETS[asset.name] = asset
assets.fetch(asset.name)
"""

# The same on a disk that is read-only, or full at first if so asked; what is there afterwards.
ATTEMPT = """
import json, os, sys
from seglib import assets
from seglib.errors import SeglibError

asset = assets.Asset(**json.loads(sys.argv[1]))
assets.ASSETS[asset.name] = asset
filler = assets.cache_dir() / "filler"

def attempt():
    try:
        assets.fetch(asset.name)
    except SeglibError as error:
        print(error)
    print(*sorted(os.listdir(assets.cache_dir())), flush=True)

if sys.argv[2:]:
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            attempt()
    filler.unlink()
attempt()
"""


def start_fetch(asset):
    """Fetch in another process; it finds the test's cache and index in the environment."""
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, json.dumps(asdict(asset))],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("delay", [0.0, 0.2, 0.4, 0.8])
def test_a_killed_fetch_leaves_nothing_half_done(good, delay):
    process = start_fetch(good)
    deadline = time.monotonic() + 60
    while not list(assets.cache_dir().glob(".tiny.part-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    time.sleep(0.5)  # pip notices that it is alone
    assert assets.status("tiny", verify=True).state in ("absent", "ready")
    if delay == 0:
        assert list(assets.cache_dir().glob(".tiny.part-*"))  # it was indeed cut in the middle
    assets.fetch("tiny")
    assert assets.status("tiny", verify=True).state == "ready"
    if delay == 0:
        assert in_cache() == READY  # and its leftovers are gone


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_killed_fetch_takes_pip_with_it(good, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        silent.settimeout(60)
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        process = start_fetch(good)
        call, _ = silent.accept()
        with call:
            call.settimeout(10)
            assert b"GET /simple/tiny/" in call.recv(10_000)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert call.recv(1) == b""  # pip hung up; an orphan would wait and time out here


def test_two_processes_at_once_download_once(good):
    processes = [start_fetch(good) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert "".join(said).count("fetching tiny (") == 1
    assert in_cache() == READY


def test_a_read_only_cache_is_read_and_what_it_lacks_is_refused_in_words(good):
    assets.fetch("tiny")
    before, cache = in_cache(), assets.cache_dir()
    assert mounted(ATTEMPT, cache, "ro", json.dumps(asdict(good))) == ".tiny.lock tiny\n"
    lacking = json.dumps(asdict(good) | {"name": "other"})
    said = mounted(ATTEMPT, cache, "ro", lacking)
    assert f"other: cannot write to the cache {cache}: Read-only file system" in said
    assert "Set SEGLIB_CACHE to one and run" in said
    assert in_cache() == before


def test_a_full_disk_is_told_and_with_room_the_cache_is_made(good):
    assets.cache_dir().mkdir()
    asked = json.dumps(asdict(good))
    said = mounted(ATTEMPT, assets.cache_dir(), "full", asked, "fill", size="256k").split("\n")
    assert re.search(r"cannot write to the cache|the disk is full", said[0])
    assert said[-3:] == [".tiny.lock filler", ".tiny.lock tiny", ""]


# -- the real thing ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dinov2-s", "face-mesh", "orl", "csu"])
def test_the_embedded_assets_are_whole(name):
    folder = assets.fetch(name, verify=True)
    assert assets.status(name, verify=True).present
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert assets.RECEIPT in files
    assert not any(name.endswith((".onnx", ".py")) for name in files)


def test_the_face_mesh_has_its_two_models():
    folder = assets.fetch("face-mesh")
    for name in ("face_detection_short_range.tflite", "face_landmark.tflite"):
        assert (folder / name).read_bytes()[4:8] == b"TFL3"


@pytest.mark.parametrize(("name", "count", "people"), [("orl", 400, 40), ("csu", 173, 30)])
def test_the_demo_faces_are_all_there(name, count, people):
    found = assets.pictures(name)
    assert len(found) == count
    assert len({picture.person for picture in found}) == people
    assert all(picture.path.read_bytes().startswith(b"P5") for picture in found)
