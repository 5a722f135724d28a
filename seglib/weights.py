"""The paper's weights: where each comes from, on what terms, and where it lies on this machine.

Nothing here is part of the package or passed on by it. A `Release` is one file of a GitHub
release, kept where `facer` itself looks; a `Model` is a pinned commit of a repository on the
Hugging Face hub, kept in the hub's own cache. Loading never downloads: `path` and `hub` only say
where to look, `fetch` is what ``seglib preflight paper --fetch`` runs.

Sources. File names and addresses: facer 0.0.5 (``face_detection/retinaface.py``,
``face_parsing/farl.py``) and the README of FacePerceiver/FaRL. Commits of DINOv3 S to H+: the
encoder table of Intel's Geti Prompt; of 7B and of timm's copy, as for every size and SHA-256:
at least one public project that pins the same. Where none does, the field is empty. Taught in
chapter 06.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar

from seglib.assets import CacheUnusable, alone
from seglib.errors import SeglibError, unknown_name
from seglib.wheels import sha256

AGAIN = subprocess.list2cmdline([sys.executable, "-m", "seglib", "preflight", "paper", "--fetch"])
ABSENT = "not here yet"
T = TypeVar("T")


class WeightsMissing(SeglibError):
    """A file of weights is not on this machine."""


class WeightsDamaged(SeglibError):
    """A file of weights is cut, or is not the published one."""


class WeightsUnavailable(SeglibError):
    """The weights could not be downloaded: no network, or the server does not offer them."""


class LicenceNeeded(WeightsUnavailable):
    """The hub gives these weights only to whoever has accepted their licence and is logged in."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One set of weights. Sizes are bytes."""

    name: str
    role: str  # detector, parser or backbone
    file: str  # what is downloaded
    licence: str
    without: str  # what runs without it
    size: int | None = None  # of `file`
    sha256: str | None = None  # of `file`

    def check(self, file: Path) -> None:
        """Remove a download that is not, byte for byte, the published file; WeightsDamaged."""
        flaw = self._size_flaw(file)
        if flaw is None and self.sha256 and (found := sha256(file)) != self.sha256:
            flaw = f"has the SHA-256 {found}, expected {self.sha256}"
        if flaw:
            file.unlink()
            raise WeightsDamaged(
                f"{self.name}: what came from {self.url} {flaw}. Nothing was kept. A cut download "
                f"mends itself: run {AGAIN}. If it happens again, a proxy serves another file."
            )

    def _size_flaw(self, file: Path) -> str | None:
        found = file.stat().st_size
        if self.size in (None, found):
            return None
        return f"has {found:,} bytes, expected {self.size:,}"


@dataclass(frozen=True, kw_only=True)
class Release(Weights):
    """One file of a GitHub release."""

    release: str  # address of the release's files
    page: str  # where the licence is read

    @property
    def url(self) -> str:
        """Address of the file."""
        return f"{self.release}/{self.file}"

    @property
    def where(self) -> Path:
        """The file on this machine, there or not."""
        return folder() / self.file

    def flaw(self) -> str | None:
        """Say why the file cannot be used, or None."""
        return self._size_flaw(self.where) if self.where.is_file() else ABSENT

    def download(self) -> None:
        """Bring the file aside, check it, move it into place in one step."""
        self.where.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.where):
            if self.flaw() is None:  # another process brought it
                return
            mark = f".{self.file}.part-"
            for dead in self.where.parent.glob(f"{mark}*"):  # of a process that was killed
                shutil.rmtree(dead, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=mark, dir=self.where.parent) as room:
                self._bring(Path(room, self.file))

    def _bring(self, part: Path) -> None:
        from torch.hub import download_url_to_file  # heavy

        download_url_to_file(self.url, str(part))
        # torch takes a connection that breaks off for the end of the file.
        replace(self, size=self.size or _announced(self.url)).check(part)
        os.replace(part, self.where)


@dataclass(frozen=True, kw_only=True)
class Model(Weights):
    """A commit of a model repository on the hub: its config and its safetensors."""

    repo: str
    revision: str  # the commit
    file: str = "model.safetensors"  # or the index that names the shards

    @property
    def page(self) -> str:
        """Where the licence is read and, where the repository is gated, accepted."""
        return f"https://huggingface.co/{self.repo}"

    @property
    def url(self) -> str:
        """Address of the smallest file that is as gated as the weights."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{self.repo}/resolve/{self.revision}/config.json"

    @property
    def where(self) -> Path:
        """The commit's folder in the hub's cache, there or not."""
        from huggingface_hub import constants

        cached = "models--" + self.repo.replace("/", "--")
        return Path(constants.HF_HUB_CACHE, cached, "snapshots", self.revision)

    def flaw(self) -> str | None:
        """Say what the commit's folder lacks, or None."""
        if not self.where.is_dir():
            return ABSENT
        absent = self._absent({"config.json", self.file})
        if not absent and self.file.endswith(".index.json"):
            try:
                index = json.loads((self.where / self.file).read_text(encoding="utf-8"))
                absent = self._absent(set(index["weight_map"].values()))
            except (ValueError, KeyError, TypeError, AttributeError):
                return f"has a {self.file} that names no shards"
        if absent:
            return f"lacks {', '.join(absent)}"
        return self._size_flaw(self.where / self.file)

    def _absent(self, files: set[str]) -> list[str]:
        return sorted(file for file in files if not (self.where / file).is_file())

    def download(self) -> None:
        """Let the hub's own client bring the config and the weights, and nothing else."""
        from huggingface_hub import errors, snapshot_download

        files = ["config.json", "*.safetensors", "*.safetensors.index.json"]
        try:
            snapshot_download(self.repo, revision=self.revision, allow_patterns=files)
        except errors.GatedRepoError as error:
            raise LicenceNeeded(
                f"{self.name}: the hub gives {self.repo} only to whoever has accepted its licence. "
                f"Accept it at {self.page}, wait for the answer, run `hf auth login`, then {AGAIN}"
            ) from error
        except (errors.HTTPError, errors.LocalEntryNotFoundError) as error:
            raise _unavailable(self, error) from error
        self.check(self.where / self.file)


FACER = "https://github.com/FacePerceiver/facer"
FARL = "https://github.com/FacePerceiver/FaRL"
DINOV3 = {"role": "backbone", "licence": "DINOv3 License (also for what is derived from it)"}
OTHERS = "everything: the paper's own backbone is dinov3-l"

WEIGHTS: dict[str, Release | Model] = {
    weights.name: weights
    for weights in (
        Release(
            name="retinaface",
            role="detector",
            file="mobilenet0.25_Final.pth",
            release="https://github.com/elliottzheng/face-detection/releases/download/0.0.1",
            licence="MIT (RetinaFace in PyTorch)",
            page="https://github.com/biubug6/Pytorch_Retinaface",  # byte for byte the same file
            without="the demo, and ready-made crops (detector 'whole')",
            size=1_789_735,
            sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        ),
        Release(
            name="farl/lapa",
            role="parser",
            file="face_parsing.farl.lapa.main_ema_136500_jit191.pt",
            release=f"{FACER}/releases/download/models-v1",
            licence="MIT (trained on LaPa: non-commercial research)",
            page=f"{FACER}/blob/main/LICENSE",
            without="the demo, and the parser 'farl/celebm'",
            size=646_604_126,
            sha256="f5a874906795ef89fadd7cf3b5b218ed8550fa9dbb383b7c0f95726c3a352914",
        ),
        Release(
            name="farl/celebm",
            role="parser",
            file="face_parsing.farl.celebm.main_ema_181500_jit.pt",
            release=f"{FACER}/releases/download/models-v1",
            licence="MIT (trained on CelebAMask-HQ: non-commercial research)",
            page=f"{FACER}/blob/main/LICENSE",
            without="everything: it is the second of two label sets",
            size=646_629_586,
            sha256="bbc1f0e9f68c80eb83a0b23f33850d1e10f2ec1eda96884112d111c2c1f15c79",
        ),
        Release(
            name="farl-b",
            role="backbone",
            file="FaRL-Base-Patch16-LAIONFace20M-ep16.pth",
            release=f"{FARL}/releases/download/pretrained_weights",
            licence="MIT",
            page=f"{FARL}/blob/main/LICENSE",
            without="everything but the ablation of FaRL's features",
        ),
        Model(
            name="dinov3-s",
            repo="facebook/dinov3-vits16-pretrain-lvd1689m",
            revision="114c1379950215c8b35dfcd4e90a5c251dde0d32",
            without=OTHERS,
            size=86_406_384,
            sha256="4610ad75edef83e75afdebf162d148dc628045ea6cbb83d67d4708c709c4f91d",
            **DINOV3,
        ),
        Model(
            name="dinov3-s+",
            repo="facebook/dinov3-vits16plus-pretrain-lvd1689m",
            revision="c93d816fc9e567563bc068f01475bec89cc634a6",
            without=OTHERS,
            size=114_794_096,
            sha256="208146e499dace99e4c9376ddb8a26f77d64c31c46c4dc4b86ff8bc63b0235e2",
            **DINOV3,
        ),
        Model(
            name="dinov3-b",
            repo="facebook/dinov3-vitb16-pretrain-lvd1689m",
            revision="5931719e67bbdb9737e363e781fb0c67687896bc",
            without=OTHERS,
            size=342_662_192,
            sha256="9a21ac3df0c63839d62612dda6f454d816c25611cc7a52966ed5a5a94921dc8b",
            **DINOV3,
        ),
        Model(
            name="dinov3-l",
            repo="facebook/dinov3-vitl16-pretrain-lvd1689m",
            revision="ea8dc2863c51be0a264bab82070e3e8836b02d51",
            without="the demo, and the paper's recipe with another backbone",
            size=1_212_559_808,
            sha256="dcb2e45127cccbf1601e5f42fef165eea275c8e5213197e8dcf3f48822718179",
            **DINOV3,
        ),
        Model(
            name="timm/vit_large_patch16_dinov3.lvd1689m",
            repo="timm/vit_large_patch16_dinov3.lvd1689m",  # dinov3-l under timm's tensor names
            revision="30c1109559f65dea34316b0d4842d35c5771fe11",
            without="everything; in place of dinov3-l: --set backbone=NAME, this one",
            size=1_212_347_640,
            sha256="45172f209c9583c40538afc26b60a07033e6fcc2e8c30228338e6b2e932e7941",
            **DINOV3,
        ),
        Model(
            name="dinov3-h+",
            repo="facebook/dinov3-vith16plus-pretrain-lvd1689m",
            revision="c807c9eeea853df70aec4069e6f56b28ddc82acc",
            without=OTHERS,
            sha256="3e1d4d18b9bfa9f28fad8e9de6a783f1313532d3460efa4cd0b12521d81d1a4d",
            **DINOV3,
        ),
        Model(
            name="dinov3-7b",
            repo="facebook/dinov3-vit7b16-pretrain-lvd1689m",
            revision="b80367753773648a6793235ab9c65cdbb029506f",
            file="model.safetensors.index.json",  # six shards, 27 GB
            without=OTHERS,
            **DINOV3,
        ),
    )
}


def folder() -> Path:
    """Return the folder of the release files: `SEGLIB_WEIGHTS`, or where `facer` looks.

    That is ``torch.hub.get_dir()/checkpoints``, read from the environment as torch reads it,
    because importing torch takes seconds.
    """
    if chosen := os.environ.get("SEGLIB_WEIGHTS"):
        return Path(chosen).expanduser().absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(os.environ.get("TORCH_HOME", cache)).expanduser() / "hub" / "checkpoints"


def path(name: str) -> Path:
    """Return the file of a release that is on this machine.

    Its size is not looked at, as `status` does: a file put there by hand may be another build.

    Raises
    ------
    UnknownName
        With the nearest known name.
    WeightsMissing
        With the file, the folder it belongs in, its licence and the command that fetches it.
    """
    weights = _known(name, Release)
    if not weights.where.is_file():
        raise WeightsMissing(
            f"{name}: there is no {weights.file} in {weights.where.parent}. Expected the file that "
            f"{weights.url} serves; its licence ({weights.licence}) is at {weights.page}. Run "
            f"{AGAIN}, or copy the file there, or set SEGLIB_WEIGHTS to the folder that has it. "
            f"Without it runs: {weights.without}."
        )
    return weights.where


def published(name: str) -> Path:
    """The same, for a file that holds a program and not numbers alone: TorchScript, say.

    Raises
    ------
    UnknownName, WeightsMissing
        See `path`.
    WeightsDamaged
        It is not, byte for byte, the published one.
    """
    file, expected = path(name), _known(name).sha256
    if (found := sha256(file)) != expected:
        raise damaged(file, name, f"its SHA-256 is {found}, expected {expected}")
    return file


def loaded(path: Path, network: str, load: Callable[[Path], T]) -> T:
    """What `load` makes of a file of weights.

    Raises
    ------
    WeightsDamaged
        Whatever it stumbled on: torch and facer raise a dozen types, by where a file is cut and
        by what it holds instead.
    """
    try:
        return load(path)
    except MemoryError:
        raise
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise damaged(path, network, f"{type(error).__name__}: {first}") from error


def damaged(path: Path, network: str, found: str) -> WeightsDamaged:
    """Build, not raise, the error for a file that does not hold a network."""
    return WeightsDamaged(
        f"{path} is not {network} as it was published: {found}. Delete it and run: {AGAIN}"
    )


def digest(*files: Path) -> str:
    """Twelve hex digits of the SHA-256 of what the files hold, one after the other."""
    together = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            hashlib.file_digest(stream, lambda: together)
    return together.hexdigest()[:12]


def hub(name: str) -> tuple[str, str]:
    """Return a backbone's repository on the hub and the commit that this package is pinned to."""
    weights = _known(name, Model)
    return weights.repo, weights.revision


@dataclass(frozen=True)
class Status:
    """What is known of one set of weights without a network. `state`: ready, absent, damaged."""

    weights: Release | Model
    state: str
    detail: str  # what is wrong with it; empty when ready


def status(name: str) -> Status:
    """Look at one set of weights without changing anything."""
    weights = _known(name)
    flaw = weights.flaw()
    state = {None: "ready", ABSENT: "absent"}.get(flaw, "damaged")
    return Status(weights, state, flaw or "")


def fetch(name: str) -> Path:
    """Return the ready file or folder, downloading it when it is absent or damaged.

    Raises
    ------
    UnknownName, WeightsUnavailable, LicenceNeeded, WeightsDamaged, CacheUnusable
        In all cases a file that was there before is left as it was.
    """
    weights = _known(name)
    if weights.flaw() is None:
        return weights.where
    print(f"seglib: fetching {name} from {weights.url}", file=sys.stderr, flush=True)
    try:
        weights.download()
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
        raise _unavailable(weights, error) from error
    except OSError as error:
        raise CacheUnusable(
            f"{name}: cannot write {weights.where}: {error.strerror or error}. Expected a "
            f"writable folder with room for the file. Set SEGLIB_WEIGHTS (files of releases) or "
            f"HF_HUB_CACHE (models of the hub) to one and run: {AGAIN}"
        ) from error
    return weights.where


def _known(name: str, kind: type[Weights] = Weights) -> Release | Model:
    names = [known for known, weights in WEIGHTS.items() if isinstance(weights, kind)]
    if name not in names:
        raise unknown_name("weights", name, names)
    return WEIGHTS[name]


def _announced(url: str) -> int | None:
    """Bytes that a server says it will send, if it says."""
    request = urllib.request.Request(url, method="HEAD")
    with urllib.request.urlopen(request, timeout=30) as answer:
        length = answer.headers["Content-Length"]
    return int(length) if length else None


def _unavailable(weights: Release | Model, error: Exception) -> WeightsUnavailable:
    reason = str(error).partition("\n")[0].rstrip(".")
    return WeightsUnavailable(
        f"{weights.name}: could not download {weights.url}: {reason}. When online run {AGAIN}, or "
        f"copy what another machine has to {weights.where}. Without it runs: {weights.without}."
    )
