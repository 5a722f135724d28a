"""What the paper's configuration needs, and what of it is here: weights and data sets, row by row.

``seglib preflight paper`` prints the rows. What is on the disk is looked at; what is not is asked
for on the network, everything at once and for `DEADLINE` seconds in all, however the network
fails: a name server that never answers is not bounded by any socket's timeout, so each question
has a thread of its own that is left behind. Nothing is downloaded and nothing is changed. Taught
in chapter 06.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path

from seglib import weights
from seglib.errors import SeglibError

DEADLINE = 2.0  # seconds; leaves the last of three to the start of Python

READY = "ready"
REACHABLE = "reachable"
LOGGED_IN = "gated, logged in"
NOT_GRANTED = "gated, access not granted"
NOT_LOGGED_IN = "gated, not logged in"
MISSING = "missing"

ADVICE = {
    LOGGED_IN: "the licence is accepted, the weights can be fetched",
    NOT_GRANTED: "ask for access on the licence page with the account that is logged in",
    NOT_LOGGED_IN: "accept the licence on its page, then run: hf auth login",
    MISSING: "copy weights there from another machine; data sets are asked for on their page",
}

# The paper's recipe: what it cannot do without, and what `seglib preflight paper --fetch` brings.
NEEDED = ("retinaface", "farl/lapa", "dinov3-l")
FETCHED = (*NEEDED, "farl-b")
TRAINING, TARGETS = "ffpp", ("celebdf", "dfd", "dfdc")

INDEXED = ("ffpp", "celebdf", "dfd")  # read whole in a second or two; the others are larger

WITHOUT = {  # the other data sets are one column each
    TRAINING: "the demo; the paper's probes have nothing to be trained on",
    "deepfakebench": "everything: these are ready-made crops of the other sets",
}


@dataclass(frozen=True)
class Row:
    """One set of weights or one data set, and whether it is here."""

    name: str
    kind: str  # "weights" or "data set"
    state: str  # one of the states above
    file: str  # the exact file, or the folder layout
    where: str  # where it lies, or goes
    page: str  # where its licence is read and accepted
    without: str  # what runs without it
    detail: str = ""  # what is wrong with what is here, or what the server answered


def rows(root: str | os.PathLike | None = None, *, seconds: float = DEADLINE) -> list[Row]:
    """Look at every set of weights and every data set.

    Parameters
    ----------
    root : path-like, optional
        Folder to look for data sets in; without it they are listed as missing.
    seconds : float
        How long to wait for the network in all.
    """
    known = [weights.status(name) for name in weights.WEIGHTS]
    asked = [status.weights for status in known if status.state != READY]
    answers: dict[str, tuple[str, str]] = {}
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_ask, args=(one, seconds, answers), daemon=True) for one in asked
    ]
    for thread in threads:
        thread.start()
    data = _data_sets(root)  # imports pandas, which takes a while: not after waiting but meanwhile
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    silence = MISSING, f"no answer within {seconds:g} seconds"
    in_time = answers.copy()
    return [_row(status, in_time.get(status.weights.name, silence)) for status in known] + data


def fetchable(found: Sequence[Row]) -> list[str]:
    """Names of the weights that the paper's recipe needs and `weights.fetch` can bring now."""
    open_to_us = (REACHABLE, LOGGED_IN)
    return [row.name for row in found if row.name in FETCHED and row.state in open_to_us]


def ready(found: Sequence[Row]) -> bool:
    """Whether the paper's recipe can run: its networks, FaceForensics++ and one target set."""
    here = {row.name for row in found if row.state == READY}
    return {*NEEDED, TRAINING} <= here and bool(here & {*TARGETS})


def as_table(found: Sequence[Row]) -> str:
    """The rows as a table, then where to get what is not here, and what to do."""
    cells = [("what", "kind", "state", "runs without it")]
    lines = aligned(cells + [(row.name, row.kind, row.state, row.without) for row in found])
    for row in found:
        if row.state != READY:
            lines += ["", row.name, f"  file     {row.file}", f"  goes to  {row.where}"]
            lines += [f"  licence  {row.page}"]
    lines.append("")
    for detail in dict.fromkeys(row.detail for row in found if row.detail):
        lines.append(f"{', '.join(row.name for row in found if row.detail == detail)}: {detail}")
    states = {row.state for row in found}
    lines += [f"{state}: {advice}" for state, advice in ADVICE.items() if state in states]
    if names := fetchable(found):
        lines.append(f"To fetch {', '.join(names)}: {weights.AGAIN}")
    return "\n".join(lines).rstrip()


def as_json(found: Sequence[Row]) -> str:
    """The rows for a program."""
    return json.dumps([asdict(row) for row in found], indent=2)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table whose columns are as wide as their widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _row(status: weights.Status, answer: tuple[str, str]) -> Row:
    one = status.weights
    state, detail = (READY, "") if status.state == READY else answer
    if status.state == "damaged":
        detail = f"what is here {status.detail}"
    file = f"{one.repo}/{one.file}" if isinstance(one, weights.Model) else one.file
    return Row(one.name, "weights", state, file, str(one.where), one.page, one.without, detail)


def _data_sets(root: str | os.PathLike | None) -> list[Row]:
    from seglib import datasets  # heavy

    found = {} if root is None else datasets.find(root)
    goes = "give --data ROOT to look for it" if root is None else str(Path(root).absolute())
    rows = []
    for name, adapter in datasets.ADAPTERS.items():
        if not adapter.page:  # the readers of anyone's folder or table are no data sets
            continue
        lack = _lack(name, found[name]) if name in found else ""
        state = READY if name in found and not lack else MISSING
        place, other = str(found.get(name, goes)), "everything but its own column of the table"
        without = WITHOUT.get(name, other)
        rows.append(Row(name, "data set", state, adapter.where, place, adapter.page, without, lack))
    return rows


def _lack(name: str, place: Path) -> str:
    """What keeps a data set that is there from being read: often its index file is not."""
    from seglib import datasets

    if name not in INDEXED:
        return ""
    try:
        datasets.scan(place, name)
    except SeglibError as error:
        return str(error)
    return ""


# -- the network ------------------------------------------------------------------------------


def _ask(
    one: weights.Release | weights.Model, seconds: float, answers: dict[str, tuple[str, str]]
) -> None:
    """Find out how far away one set of weights is."""
    try:
        answers[one.name] = _distance(one, seconds)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: the endpoint is no address
        answers[one.name] = MISSING, f"cannot be reached: {getattr(error, 'reason', error)}"


def _distance(one: weights.Release | weights.Model, seconds: float) -> tuple[str, str]:
    from huggingface_hub import constants, get_token

    gateable = isinstance(one, weights.Model)
    if gateable and constants.HF_HUB_OFFLINE:
        return MISSING, "not asked for: HF_HUB_OFFLINE is set"
    code = _head(one.url, seconds)
    if gateable and code in (401, 403):
        token = get_token()
        code = _head(one.url, seconds, token) if token else 401
        # 401 is also the answer to a token that has expired.
        gated = {401: NOT_LOGGED_IN, 403: NOT_GRANTED}.get(code)
        if gated or code < 400:
            return gated or LOGGED_IN, ""
    return (REACHABLE, "") if code < 400 else (MISSING, f"the server answered {code}")


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follow no redirection: it already says that the file is there, and may lead off the hub."""

    def redirect_request(self, *_: object) -> None:
        return None


def _head(url: str, seconds: float, token: str | None = None) -> int:
    """HTTP status of a file, through whatever proxy the environment names."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers, method="HEAD")
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=seconds) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code
