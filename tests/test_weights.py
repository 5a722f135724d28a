"""The paper's weights: found, missing, cut and fetched, from servers that are our own."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from fileserver import Server, settle
from huggingface_hub import constants, try_to_load_from_cache
from mounts import mounted

from seglib import weights
from seglib.assets import CacheUnusable
from seglib.errors import UnknownName
from seglib.weights import WEIGHTS, Model, Release

FILE = b"weights of a stub" * 9000  # more than one buffer of torch's downloader
RELEASES = [name for name, one in WEIGHTS.items() if isinstance(one, Release)]
MODELS = [name for name, one in WEIGHTS.items() if isinstance(one, Model)]


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def here(tmp_path, monkeypatch):
    settle(tmp_path, monkeypatch)
    return tmp_path


def stub(monkeypatch, name, **changes):
    """Put a stub in the place of one entry of the table: same class, other origin and contents."""
    expected = {"size": len(FILE), "sha256": hashlib.sha256(FILE).hexdigest()}
    one = dataclasses.replace(WEIGHTS[name], **expected | changes)
    monkeypatch.setitem(WEIGHTS, name, one)
    return one


# -- the table --------------------------------------------------------------------------------


def test_the_table_is_keyed_by_name_and_complete():
    assert list(WEIGHTS) == [one.name for one in WEIGHTS.values()]
    assert {"retinaface", "farl/lapa", "farl/celebm", "farl-b"} == set(RELEASES)
    assert {"dinov3-s", "dinov3-s+", "dinov3-b", "dinov3-l", "dinov3-h+", "dinov3-7b"} < set(MODELS)
    for one in WEIGHTS.values():
        assert one.page.startswith("https://")
        assert one.licence
        assert one.without
        assert one.sha256 is None or re.fullmatch("[0-9a-f]{64}", one.sha256)


def test_all_weights_have_a_hash_but_those_that_the_threat_model_names():
    bare = {name for name, one in WEIGHTS.items() if one.sha256 is None}
    assert bare == {"farl-b", "dinov3-7b"}
    page = Path(__file__).parents[1] / "book" / "threat_model.md"
    assert all(f"`{name}`" in page.read_text(encoding="utf-8") for name in bare)


@pytest.mark.parametrize("name", [name for name, one in WEIGHTS.items() if one.sha256])
def test_weights_with_another_hash_are_refused(name, tmp_path):
    """Also of the right size: it is left out here, as a file of it would fill the disk."""
    file = tmp_path / "download"
    file.write_bytes(FILE)
    with pytest.raises(weights.WeightsDamaged, match=f"expected {WEIGHTS[name].sha256}"):
        dataclasses.replace(WEIGHTS[name], size=None).check(file)
    assert not file.exists()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_pinned_to_a_commit(name):
    repo, revision = weights.hub(name)
    assert re.fullmatch(r"(facebook|timm)/[\w.-]+", repo)
    assert re.fullmatch("[0-9a-f]{40}", revision)


def test_the_addresses_are_those_that_facer_downloads_from():
    spec = find_spec("facer")  # its source is read: importing it takes seconds
    if spec is None:
        pytest.skip("facer is not installed")
    sources = Path(spec.origin).parent
    detector = (sources / "face_detection" / "retinaface.py").read_text(encoding="utf-8")
    parser = (sources / "face_parsing" / "farl.py").read_text(encoding="utf-8")
    assert f'"{WEIGHTS["retinaface"].url}"' in detector
    assert f"'{WEIGHTS['farl/lapa'].url}'" in parser
    assert f"'{WEIGHTS['farl/celebm'].url}'" in parser


# -- where it looks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [{}, {"XDG_CACHE_HOME": "/cache"}, {"TORCH_HOME": "~/torch", "XDG_CACHE_HOME": "/cache"}],
)
def test_the_folder_is_where_torch_and_facer_look(environment, monkeypatch):
    for name in ("SEGLIB_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME", "TORCH_HUB"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(weights.folder()) == os.path.join(torch.hub.get_dir(), "checkpoints")


def test_a_folder_of_ones_own_comes_first(monkeypatch):
    monkeypatch.setenv("SEGLIB_WEIGHTS", "~/my weights")
    assert weights.folder() == (Path.home() / "my weights")


def test_path_is_the_published_file_in_the_folder(here):
    (here / "weights").mkdir()
    file = here / "weights" / "mobilenet0.25_Final.pth"
    file.write_bytes(b"another build")
    assert weights.path("retinaface") == file


def test_what_is_missing_is_named_with_its_place_licence_and_remedy(here):
    with pytest.raises(weights.WeightsMissing) as missing:
        weights.path("farl/lapa")
    message = str(missing.value)
    for part in (
        "face_parsing.farl.lapa.main_ema_136500_jit191.pt",
        str(here / "weights"),
        "https://github.com/FacePerceiver/facer/blob/main/LICENSE",
        "seglib preflight paper --fetch",
        "the demo, and the parser 'farl/celebm'",
    ):
        assert part in message


def test_unknown_names_get_a_suggestion_of_the_right_kind():
    with pytest.raises(UnknownName, match="did you mean 'retinaface'"):
        weights.path("retinface")
    with pytest.raises(UnknownName, match="did you mean 'dinov3-l'"):
        weights.hub("dinov3l")
    with pytest.raises(UnknownName):
        weights.path("dinov3-l")  # a repository, not a file
    with pytest.raises(UnknownName):
        weights.hub("retinaface")
    with pytest.raises(UnknownName):
        weights.fetch("retinafaces")


def test_importing_is_light():
    code = "import sys, seglib.weights, seglib.preflight; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "huggingface_hub", "pandas", "cv2", "av"}
    assert not heavy & set(done.stdout.split())


# -- what is here -----------------------------------------------------------------------------


def test_a_cut_release_is_told_from_a_whole_one_and_from_none(here, monkeypatch):
    file = stub(monkeypatch, "retinaface").where
    assert weights.status("retinaface").state == "absent"
    file.parent.mkdir()
    file.write_bytes(FILE[:-1])
    cut = weights.status("retinaface")
    assert (cut.state, cut.detail) == ("damaged", "has 152,999 bytes, expected 153,000")
    file.write_bytes(FILE)
    assert weights.status("retinaface").state == "ready"


def test_a_model_needs_its_config_and_its_weights(here, monkeypatch):
    one = stub(monkeypatch, "dinov3-l")
    assert weights.status("dinov3-l").state == "absent"
    one.where.mkdir(parents=True)
    (one.where / "config.json").write_text("{}")
    assert weights.status("dinov3-l").detail == "lacks model.safetensors"
    (one.where / "model.safetensors").write_bytes(FILE)
    assert weights.status("dinov3-l").state == "ready"
    (one.where / "model.safetensors").write_bytes(FILE[:5])
    assert weights.status("dinov3-l").detail == "has 5 bytes, expected 153,000"


def test_a_sharded_model_needs_every_shard(here):
    place = WEIGHTS["dinov3-7b"].where
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    index = place / "model.safetensors.index.json"
    for text in ("{", "[]", "{}"):
        index.write_text(text)
        assert weights.status("dinov3-7b").detail.endswith("names no shards")
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    (place / "1.safetensors").write_bytes(FILE)
    assert weights.status("dinov3-7b").detail == "lacks 2.safetensors"
    (place / "2.safetensors").write_bytes(FILE)
    assert weights.status("dinov3-7b").state == "ready"


def test_a_model_is_looked_for_where_the_hub_keeps_it(here):
    one = WEIGHTS["dinov3-l"]
    one.where.mkdir(parents=True)
    (one.where / "config.json").write_text("{}")
    found = try_to_load_from_cache(one.repo, "config.json", revision=one.revision)
    assert found == str(one.where / "config.json")


# -- fetching a release -----------------------------------------------------------------------


def leftovers(folder):
    return sorted(path.name for path in folder.rglob("*") if path.suffix != ".lock")


def test_a_release_is_fetched_once(here, server, monkeypatch):
    one = stub(monkeypatch, "retinaface", release=server.url)
    server.answers[f"/{one.file}"] = 200, {}, FILE
    file = weights.fetch("retinaface")
    assert file == one.where == weights.path("retinaface")
    assert file.read_bytes() == FILE
    assert leftovers(file.parent) == [one.file]
    assert weights.fetch("retinaface") == file
    assert [method for method, *_ in server.asked] == ["GET"]


def test_a_cut_release_is_fetched_again(here, server, monkeypatch):
    one = stub(monkeypatch, "retinaface", release=server.url)
    one.where.parent.mkdir()
    one.where.write_bytes(FILE[:7])
    server.answers[f"/{one.file}"] = 200, {}, FILE
    assert weights.fetch("retinaface").read_bytes() == FILE


@pytest.mark.parametrize("known", [True, False], ids=["size known", "size asked for"])
def test_a_download_that_breaks_off_is_refused_and_leaves_nothing(known, here, server, monkeypatch):
    size = len(FILE) if known else None
    one = stub(monkeypatch, "farl-b", release=server.url, size=size, sha256=None)
    server.answers[f"/{one.file}"] = 200, {"Content-Length": str(len(FILE))}, FILE[:-9]
    with pytest.raises(weights.WeightsDamaged, match="152,991 bytes, expected 153,000"):
        weights.fetch("farl-b")
    assert leftovers(one.where.parent) == []


def test_a_server_that_tells_no_size_is_believed(here, server, monkeypatch):
    one = stub(monkeypatch, "farl-b", release=server.url, size=None, sha256=None)
    server.answers[f"/{one.file}"] = 200, {"Content-Length": None}, FILE
    assert weights.fetch("farl-b").read_bytes() == FILE


def test_another_file_of_the_same_size_is_refused_and_the_old_one_kept(here, server, monkeypatch):
    one = stub(monkeypatch, "retinaface", release=server.url)
    one.where.parent.mkdir()
    one.where.write_bytes(b"mine")
    server.answers[f"/{one.file}"] = 200, {}, FILE[::-1]
    with pytest.raises(weights.WeightsDamaged, match=r"SHA-256 .* Nothing was kept"):
        weights.fetch("retinaface")
    assert one.where.read_bytes() == b"mine"
    assert leftovers(one.where.parent) == [one.file]


def test_a_release_that_is_gone_says_what_to_do(here, server, monkeypatch):
    one = stub(monkeypatch, "retinaface", release=server.url)
    with pytest.raises(weights.WeightsUnavailable) as gone:
        weights.fetch("retinaface")
    message = str(gone.value)
    assert "404" in message
    assert str(one.where) in message
    assert "seglib preflight paper --fetch" in message
    assert leftovers(one.where.parent) == []


def test_no_network_is_unavailable(here, server, monkeypatch):
    stub(monkeypatch, "retinaface", release=server.url)
    server.close()
    with pytest.raises(weights.WeightsUnavailable, match="refused"):
        weights.fetch("retinaface")


def test_a_folder_that_cannot_be_made_says_so(here, server, monkeypatch):
    stub(monkeypatch, "retinaface", release=server.url)
    (here / "weights").write_text("a file where the folder should be")
    with pytest.raises(CacheUnusable, match="Set SEGLIB_WEIGHTS"):
        weights.fetch("retinaface")


# -- killed, two at once, and no room ------------------------------------------------------------

FETCH = """
import dataclasses, sys
from seglib import weights
from seglib.errors import SeglibError

known = dataclasses.replace(weights.WEIGHTS["retinaface"], release=sys.argv[1], sha256=None,
                            size=int(sys.argv[2]))
weights.WEIGHTS["retinaface"] = known
try:
    print(weights.fetch("retinaface").stat().st_size)
except SeglibError as error:
    print(error)
"""


def fetching(server, log):
    run = [sys.executable, "-c", FETCH, server.url, str(len(FILE))]
    with log.open("a") as said:
        return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=said, text=True)


@pytest.mark.slow
def test_of_two_at_once_one_downloads_and_what_a_killed_one_left_is_swept(
    here, server, monkeypatch
):
    one = stub(monkeypatch, "retinaface", release=server.url)
    asked, go_on = threading.Event(), threading.Event()

    def slowly(call):
        asked.set()
        go_on.wait(60)
        return 200, {}, FILE

    server.answers[f"/{one.file}"] = slowly
    killed = fetching(server, here / "log")
    assert asked.wait(120)
    killed.kill()
    killed.communicate()
    assert any(".part-" in name for name in leftovers(one.where.parent))
    server.asked.clear()
    both = [fetching(server, here / "log") for _ in range(2)]
    while "waiting for another process" not in (here / "log").read_text():
        time.sleep(0.05)
        assert [run.poll() for run in both] == [None, None]
    go_on.set()
    assert [run.communicate()[0] for run in both] == [f"{len(FILE)}\n"] * 2
    assert [method for method, *_ in server.asked] == ["GET"]
    assert leftovers(one.where.parent) == [one.file]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ro", "full"])
def test_where_nothing_can_be_written_the_folder_is_named(here, server, monkeypatch, how):
    one = stub(monkeypatch, "retinaface", release=server.url)
    server.answers[f"/{one.file}"] = 200, {}, FILE
    one.where.parent.mkdir()
    said = mounted(FETCH, one.where.parent, how, server.url, len(FILE), size="64k")
    reason = {"ro": "Read-only file system", "full": "No space left on device"}[how]
    assert f"retinaface: cannot write {one.where}: {reason}" in said
    assert "Set SEGLIB_WEIGHTS" in said


# -- fetching a model -------------------------------------------------------------------------


@pytest.fixture
def hub(here, server, monkeypatch):
    """A hub with one open repository, in the place of dinov3-l. Returns its table entry."""
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    one = stub(monkeypatch, "dinov3-l")
    files = {"config.json": b"{}", "model.safetensors": FILE, "pytorch_model.bin": b"pickled"}
    tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": name} for name in files]
    about = {"id": one.repo, "sha": one.revision, "siblings": [{"rfilename": n} for n in files]}
    api = f"/api/models/{one.repo}"
    kind = {"Content-Type": "application/json"}
    server.answers[f"{api}/tree/{one.revision}"] = 200, kind, json.dumps(tree).encode()
    server.answers[f"{api}/revision/{one.revision}"] = 200, kind, json.dumps(about).encode()
    for name, body in files.items():
        headers = {"ETag": f'"{name}"', "X-Repo-Commit": one.revision}
        server.answers[f"/{one.repo}/resolve/{one.revision}/{name}"] = 200, headers, body
    return one


def test_a_model_is_fetched_without_its_pickles(hub):
    place = weights.fetch("dinov3-l")
    assert place == hub.where
    assert leftovers(place) == ["config.json", "model.safetensors"]
    assert weights.status("dinov3-l").state == "ready"


def test_a_model_with_another_hash_is_refused_and_not_taken_for_ready(hub, monkeypatch):
    stub(monkeypatch, "dinov3-l", sha256="0" * 64)
    with pytest.raises(weights.WeightsDamaged, match="expected 0000"):
        weights.fetch("dinov3-l")
    assert weights.status("dinov3-l").state == "damaged"


def test_a_gated_model_says_where_to_accept_its_licence(hub, server):
    gated = 401, {"X-Error-Code": "GatedRepo"}, b""
    server.answers = dict.fromkeys(server.answers, gated)
    with pytest.raises(weights.LicenceNeeded) as needed:
        weights.fetch("dinov3-l")
    assert f"https://huggingface.co/{hub.repo}" in str(needed.value)
    assert "hf auth login" in str(needed.value)


def test_a_model_that_is_gone_is_unavailable(hub, server):
    server.answers = {}
    with pytest.raises(weights.WeightsUnavailable):
        weights.fetch("dinov3-l")


def test_a_model_that_is_refused_for_another_reason_is_unavailable(hub, server):
    file = f"/{hub.repo}/resolve/{hub.revision}/model.safetensors"
    whole = server.answers[file]
    server.answers[file] = lambda call: whole if call.command == "HEAD" else (403, {}, b"")
    with pytest.raises(weights.WeightsUnavailable, match="403"):
        weights.fetch("dinov3-l")


def test_an_offline_hub_is_unavailable_at_once(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(weights.WeightsUnavailable):
        weights.fetch("dinov3-l")
