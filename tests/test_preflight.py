"""What the paper's configuration needs: told at once, whatever the network does."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fileserver import Server, settle
from huggingface_hub import constants

from seglib import datasets, preflight, weights
from seglib.errors import SeglibError
from seglib.weights import WEIGHTS, Model
from tests import layouts

ROOT = Path(__file__).resolve().parent.parent
THERE = 200, {}, b""


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def here(tmp_path, server, monkeypatch):
    """A machine without weights, for which every address leads to our own server."""
    settle(tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    lead_to(server.url, monkeypatch)
    return tmp_path


def lead_to(url, monkeypatch):
    for name, one in WEIGHTS.items():
        if not isinstance(one, Model):
            monkeypatch.setitem(WEIGHTS, name, dataclasses.replace(one, release=url))


def address(name):
    return WEIGHTS[name].url.removeprefix(constants.ENDPOINT)


def states(**options):
    return {row.name: row.state for row in preflight.rows(**options)}


# -- states -----------------------------------------------------------------------------------


def test_there_is_a_row_for_every_set_of_weights_and_every_data_set(here):
    rows = preflight.rows()
    data = [name for name, adapter in datasets.ADAPTERS.items() if adapter.page]
    assert [(row.name, row.kind) for row in rows] == [
        *((name, "weights") for name in WEIGHTS),
        *((name, "data set") for name in data),
    ]
    assert {preflight.TRAINING, *preflight.TARGETS} <= set(data)
    for row in rows:
        assert all(dataclasses.astuple(row)[:7]), f"{row.name}: an empty cell"


def test_what_a_server_offers_is_reachable_and_what_it_has_lost_is_missing(here, server):
    server.answers[address("retinaface")] = THERE
    server.answers[address("farl-b")] = 302, {"Location": "http://127.0.0.1:9/elsewhere"}, b""
    server.answers[address("dinov3-l")] = 307, {"Location": "/api/resolve-cache"}, b""
    found = states()
    assert found["retinaface"] == found["farl-b"] == found["dinov3-l"] == "reachable"
    assert found["farl/lapa"] == "missing"
    assert {method for method, *_ in server.asked} == {"HEAD"}, "nothing may be downloaded"
    rows = {row.name: row for row in preflight.rows()}
    assert rows["farl/lapa"].detail == "the server answered 404"


def gate(known):
    """A repository that lets the tokens in `known` in, or not, and greets nobody else."""

    def answer(call):
        token = (call.headers["Authorization"] or "").removeprefix("Bearer ")
        return known.get(token, 401), {}, b""

    return answer


@pytest.mark.parametrize(
    ("token", "state"),
    [
        (None, "gated, not logged in"),
        ("expired", "gated, not logged in"),
        ("waiting", "gated, access not granted"),
        ("granted", "gated, logged in"),
        ("unlucky", "missing"),
    ],
)
def test_a_gate_is_told_by_who_stands_before_it(token, state, here, server, monkeypatch):
    known = {"waiting": 403, "granted": 200, "unlucky": 500}
    server.answers[address("dinov3-l")] = gate(known)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    assert states()["dinov3-l"] == state
    told = {authorisation for _, path, authorisation in server.asked if path != address("dinov3-l")}
    assert told == {None}, "the token was shown to somebody who had not asked for it"


def test_a_refused_release_is_not_taken_for_a_gate(here, server):
    server.answers[address("retinaface")] = 403, {}, b""
    assert states()["retinaface"] == "missing"


def test_what_is_here_is_ready_and_nobody_is_asked(here, server, monkeypatch):
    for name, one in list(WEIGHTS.items()):
        one = dataclasses.replace(one, size=2)
        monkeypatch.setitem(WEIGHTS, name, one)
        place = one.where if isinstance(one, Model) else one.where.parent
        place.mkdir(parents=True, exist_ok=True)
        (place / one.file).write_text("{}")
        (place / "config.json").write_text("{}")
    index = json.dumps({"weight_map": {"a": "config.json"}})
    (WEIGHTS["dinov3-7b"].where / WEIGHTS["dinov3-7b"].file).write_text(index)
    monkeypatch.setitem(WEIGHTS, "dinov3-7b", dataclasses.replace(WEIGHTS["dinov3-7b"], size=None))
    assert {row.state for row in preflight.rows() if row.kind == "weights"} == {"ready"}
    assert server.asked == []


def test_a_cut_file_is_reported_beside_where_a_whole_one_is(here, server):
    server.answers[address("retinaface")] = THERE
    file = WEIGHTS["retinaface"].where
    file.parent.mkdir()
    file.write_bytes(b"cut")
    row = next(row for row in preflight.rows() if row.name == "retinaface")
    assert row.state == "reachable"
    assert row.detail == "what is here has 3 bytes, expected 1,789,735"
    assert f"retinaface: {row.detail}" in preflight.as_table([row])


def test_data_sets_are_looked_for_under_the_root(here, tmp_path):
    data = tmp_path / "data"
    layouts.celebdf(data / "cdf")
    rows = {row.name: row for row in preflight.rows(data)}
    assert (rows["celebdf"].state, rows["celebdf"].where) == ("ready", str(data / "cdf"))
    assert (rows["ffpp"].state, rows["ffpp"].where) == ("missing", str(data))
    assert "--data ROOT" in {row.name: row.where for row in preflight.rows()}["celebdf"]


@pytest.mark.parametrize(
    ("name", "index", "said"),
    [("ffpp", "splits/train.json", "official splits"), ("celebdf", "List*.txt", "has no List_of")],
)
def test_a_data_set_without_its_index_is_not_ready_and_says_what_it_lacks(
    here, tmp_path, name, index, said
):
    root = getattr(layouts, name)(tmp_path / "data")
    for file in root.glob(index):
        file.unlink()
    row = next(row for row in preflight.rows(root) if row.name == name)
    assert row.state == "missing"
    assert said in row.detail
    assert said in preflight.as_table([row])


def test_a_root_that_is_not_there_is_one_error(here):
    with pytest.raises(SeglibError, match="nowhere"):
        preflight.rows(here / "nowhere")


# -- no network -------------------------------------------------------------------------------


def test_a_server_that_never_answers_is_not_waited_for(here, monkeypatch):
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:  # takes calls, says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        lead_to(url, monkeypatch)
        start = time.monotonic()
        rows = preflight.rows()
        assert time.monotonic() - start < 3
    assert {row.state for row in rows} == {"missing"}


def program(tmp_path, code):
    """Print the table in a process of its own, which must also end; return what it printed."""
    environment = os.environ | {
        "SEGLIB_WEIGHTS": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    code += "; from seglib import preflight; print(preflight.as_table(preflight.rows()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_without_a_network_the_program_says_so_and_ends(tmp_path):
    assert "cannot be reached: [Errno" in program(tmp_path, "import sys")


def test_a_name_server_that_never_answers_is_not_waited_for(tmp_path):
    """No socket timeout bounds getaddrinfo: a thread that hangs in it is left behind."""
    hang = "import socket, time; socket.getaddrinfo = lambda *_, **__: time.sleep(60)"
    table = program(tmp_path, hang)
    assert f"dinov3-7b: no answer within {preflight.DEADLINE:g} seconds" in table


def test_an_address_that_is_none_is_missing(here, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "no address")
    row = next(row for row in preflight.rows() if row.name == "dinov3-l")
    assert row.state == "missing"
    assert row.detail.startswith("cannot be reached: unknown url type")


def test_an_offline_hub_is_not_asked(here, server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.answers[address("retinaface")] = THERE
    rows = {row.name: row for row in preflight.rows()}
    assert rows["retinaface"].state == "reachable"
    assert rows["dinov3-l"].state == "missing"
    assert "HF_HUB_OFFLINE" in rows["dinov3-l"].detail
    assert not [path for _, path, _ in server.asked if path.endswith("config.json")]


def test_a_proxy_of_the_environment_is_used(here, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    lead_to("http://releases.invalid", monkeypatch)
    server.answers[WEIGHTS["retinaface"].url] = THERE  # a proxy is asked for the whole address
    assert states()["retinaface"] == "reachable"


# -- what follows from the rows ---------------------------------------------------------------


def row(name, state="ready", **changes):
    fields = {"kind": "weights", "file": "f", "where": "w", "page": "p", "without": "o"}
    return preflight.Row(name=name, state=state, **fields | changes)


ENOUGH = ("retinaface", "farl/lapa", "dinov3-l", "ffpp", "celebdf")


def test_the_recipe_is_ready_with_its_networks_its_training_set_and_one_target():
    mirror = "timm/vit_large_patch16_dinov3.lvd1689m"
    assert preflight.ready([row(name) for name in ENOUGH])
    assert preflight.ready([row(name) for name in (*ENOUGH[:4], "dfd")])
    # The recipe names dinov3-l: timm's copy of it has to be asked for.
    assert not preflight.ready([row(name) for name in (*ENOUGH[:2], mirror, "ffpp", "dfd")])


@pytest.mark.parametrize("lacking", ENOUGH)
def test_the_recipe_is_not_ready_without(lacking):
    rows = [row(name, "missing" if name == lacking else "ready") for name in ENOUGH]
    assert not preflight.ready(rows)


def test_only_what_the_recipe_needs_and_may_have_is_fetched():
    rows = [
        row("retinaface", "reachable"),
        row("farl/lapa"),
        row("farl/celebm", "reachable"),
        row("farl-b", "missing"),
        row("dinov3-l", "gated, logged in"),
        row("dinov3-7b", "gated, logged in"),
    ]
    assert preflight.fetchable(rows) == ["retinaface", "dinov3-l"]
    assert preflight.fetchable([row("dinov3-l", "gated, access not granted")]) == []
    assert set(preflight.FETCHED) <= set(WEIGHTS)


def test_the_table_tells_all_of_what_is_not_here():
    gone = row("farl/lapa", "missing", file="a.pt", where="/here", page="https://page")
    table = preflight.as_table([row("retinaface"), gone])
    assert table.splitlines()[:3] == [
        "what        kind     state    runs without it",
        "retinaface  weights  ready    o",
        "farl/lapa   weights  missing  o",
    ]
    block = "farl/lapa\n  file     a.pt\n  goes to  /here\n  licence  https://page"
    assert block in table
    assert "\nretinaface\n" not in table


def test_the_table_says_what_to_do():
    for state in preflight.ADVICE:
        assert f"{state}: {preflight.ADVICE[state]}" in preflight.as_table([row("dinov3-l", state)])
    reachable = preflight.as_table([row("retinaface", "reachable"), row("farl-b", "reachable")])
    assert reachable.endswith(f"To fetch retinaface, farl-b: {weights.AGAIN}")
    assert "To fetch" not in preflight.as_table([row("retinaface")])


def test_the_same_trouble_is_told_once():
    rows = [row(name, "missing", detail="cannot be reached: x") for name in ("farl-b", "dinov3-l")]
    table = preflight.as_table(rows)
    assert "farl-b, dinov3-l: cannot be reached: x" in table
    assert table.count("cannot be reached") == 1


def test_json_is_for_programs():
    rows = [row("retinaface"), row("ffpp", "missing", kind="data set")]
    assert json.loads(preflight.as_json(rows)) == [dataclasses.asdict(one) for one in rows]
