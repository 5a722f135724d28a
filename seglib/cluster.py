"""Extraction on several processes or machines, through Ray.

What one machine does to a video is done here by others: CPU tasks decode (`extraction.read`), and
workers that hold the networks describe and write (`extraction.make`). A video is one file, which
appears whole or not at all; so whatever is killed, its video is made again and nothing else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import torch
from tqdm import tqdm

from seglib import extraction, files
from seglib.errors import SeglibError
from seglib.extraction import Extractor, Outcome
from seglib.recipe import Recipe
from seglib.store import Store, StoreMismatch

# Videos for each worker that Ray is given at a time: it keeps some 16 kB of each until all of them
# are done, and 5 kB after. Workers start anew for the next ones, which is little beside so many.
AT_ONCE = 10_000


class RayMissing(SeglibError):
    """The optional package ray cannot be imported."""


class NoCluster(SeglibError):
    """The Ray cluster that was named does not answer, or is too small."""


class Workers:
    """The processes that hold the networks: one a GPU where there are any, else one a core.

    Used in a ``with``: it joins the Ray cluster that RAY_ADDRESS names or that runs on this
    machine, and starts one for as long as it lasts where there is none.

    Parameters
    ----------
    recipe : Recipe
    count : int, optional
        How many. Default: as many as the cluster has room for.
    device : str, optional
        ``"cpu"`` leaves GPUs alone.

    Raises
    ------
    RayMissing, NoCluster
    """

    def __init__(self, recipe: Recipe, count: int | None = None, device: str | None = None) -> None:
        self.recipe, self.device = recipe, device
        self._ray = load()
        self._ours = not self._ray.is_initialized()
        if self._ours:
            _join(self._ray)
        try:
            self.count, self.share = self._room(count)
        except NoCluster:
            self.__exit__()
            raise

    def _room(self, count: int | None) -> tuple[int, dict[str, int]]:
        there = self._ray.cluster_resources()
        kind = "GPU" if there.get("GPU") and self.device != "cpu" else "CPU"
        room = int(there.get(kind, 0))
        if not 1 <= (count or room) <= room:
            raise NoCluster(
                f"{count or 'some'} workers for {room} x {kind} in the cluster; expected one "
                f"{kind} for each. Ask for fewer, or add machines to it (ray start --address=...)."
            )
        return count or room, {"num_cpus": int(kind == "CPU"), "num_gpus": int(kind == "GPU")}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_) -> None:
        if self._ours:
            self._ray.shutdown()

    @cached_property
    def networks(self) -> dict:
        """What a worker loads, see `extraction.Extractor`: this machine may have no GPU.

        Raises
        ------
        SeglibError
            Whatever loading raised there.
        """
        loading = self._ray.remote(**self.share)(_networks)
        try:
            return self._ray.get(loading.remote(self.recipe, self.device))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None


def extract(
    table: pd.DataFrame, workers: Workers, root: str | Path, tokens: bool = False
) -> Outcome:
    """Do what `extraction.extract` does, on workers.

    They write by themselves: `root` must be one place for all of them, a folder that the machines
    share or one in an object store, see `store.Store`. A worker that is killed is started again.

    Raises
    ------
    seglib.store.StoreMismatch
        A worker loads other weights than the others, or computes in another precision.
    seglib.files.CannotWrite
    """
    root = files.place(root)
    if isinstance(root, Path):
        root = root.absolute()  # a worker's folder is another
    store = Store(root, workers.recipe, workers.networks)
    store.sweep()
    todo = extraction.missing(store, list(table.itertuples(index=False)), tokens)
    there, made = len(table) - len(todo), 0
    bar = tqdm(total=len(table), initial=there, desc="videos", unit="video")
    # Closed at once: else workers would hold their cores for as long as an error is remembered.
    with bar, closing(_outcomes(todo, workers, store, tokens)) as outcomes:
        for found in outcomes:
            if isinstance(found, SeglibError):
                raise found
            made += found.made
            bar.update(found.made)
    store.sweep()  # a worker may have been killed and started again
    return Outcome(made, there, len(todo) - made)


def _outcomes(
    todo: list, workers: Workers, store: Store, tokens: bool
) -> Iterator[Outcome | SeglibError]:
    """What became of each video, as soon as it is known."""
    count = AT_ONCE * workers.count
    for start in range(0, len(todo), count):
        yield from _share(todo[start : start + count], workers, store, tokens)


def _share(
    todo: list, workers: Workers, store: Store, tokens: bool
) -> Iterator[Outcome | SeglibError]:
    from ray.data import ActorPoolStrategy, TaskPoolStrategy, from_items

    # A block a video: Ray repeats whole blocks.
    videos = from_items([row._asdict() for row in todo], override_num_blocks=len(todo))
    count = min(workers.count, len(todo))
    # Without GPUs decoding runs beside the networks, as on one machine: workers have all cores.
    # With them it has the cores for itself, and a GPU wants several.
    cores, readers = (0, count) if workers.share["num_cpus"] else (1, None)
    decoded = videos.map(
        partial(_read, store=store), num_cpus=cores, compute=TaskPoolStrategy(size=readers)
    )
    finished = decoded.map(
        _Maker,
        fn_constructor_args=(store, tokens, workers.device),
        compute=ActorPoolStrategy(size=count),
        **workers.share,
    )
    for row in finished.iter_rows():
        yield row["found"]


def load() -> ModuleType:
    """Ray, quiet.

    Raises
    ------
    RayMissing
    """
    # Before the import, which reads them: nothing is reported to Ray's makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RayMissing(
            f"the package ray cannot be imported ({error}); expected ray[data] 2.60 or later, "
            "which the engine 'ray' runs on. Run: pip install 'seglib[ray]'"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one bar of ours
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _join(ray: ModuleType) -> None:
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except ConnectionError as error:
        raise NoCluster(
            f"no Ray cluster answers ({error}); expected one at RAY_ADDRESS="
            f"{os.environ.get('RAY_ADDRESS')}. Start it (ray start --head), or set "
            "RAY_AUTH_MODE=token if it asks for one, or unset RAY_ADDRESS to have one started here."
        ) from error


def _networks(recipe: Recipe, device: str | None) -> dict:
    return Extractor(recipe, device).networks


def _read(row: dict, store: Store) -> dict:
    """A row of a manifest, and what was read of it.

    An error of ours comes back as a value: Ray would wrap it in its own.
    """
    video = SimpleNamespace(**row)
    try:
        decoded = extraction.read(video, store.recipe)
    except SeglibError as error:
        decoded = error
    return {"video": video, "decoded": decoded}


class _Maker:
    """A worker's process: the networks, loaded once."""

    def __init__(self, store: Store, tokens: bool, device: str | None) -> None:
        self.store, self.tokens, self.device = store, tokens, device

    @cached_property
    def extractor(self) -> Extractor:
        extractor = Extractor(self.store.recipe, self.device)
        if extractor.device == "cpu":
            torch.set_num_threads(1)  # the core that it was given
        if extractor.networks != self.store.networks:
            raise StoreMismatch(
                f"a worker on {os.uname().nodename} loaded {extractor.networks}, expected "
                f"{self.store.networks} as on another one. Give all machines the same weights and "
                "GPUs of one kind, or choose --device cpu."
            )
        return extractor

    def __call__(self, item: dict) -> dict:
        try:
            found = self._make(item["video"], item["decoded"])
        except SeglibError as error:
            found = error
        return {"found": found}

    def _make(self, video: SimpleNamespace, decoded: extraction.Read | SeglibError) -> Outcome:
        if isinstance(decoded, SeglibError):
            raise decoded
        claim = self.store.claim(video.video_uid)
        if claim is None:
            return Outcome(made=0, there=0, elsewhere=1)
        try:
            if extraction.is_there(self.store, video, self.tokens):  # another run made it meanwhile
                return Outcome(made=0, there=0, elsewhere=1)
            extraction.make(video, decoded, self.extractor, self.store, self.tokens)
            return Outcome(made=1, there=0, elsewhere=0)
        finally:
            claim.release()
