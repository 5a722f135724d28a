"""The descriptor store: one Parquet file a video, one JSON header, nothing half written.

A store belongs to one recipe and to the weights that were loaded for it; its folder is named
after both. A video's file appears whole or not at all and names the content it was made from:
killed at any moment, the next run goes on with nothing lost and nothing twice, and several
processes may write at once. Taught in chapter 06.

It may lie in an object store too, see `files.place`. There are no locks there: two runs at once may
make a video twice, but never a broken file, since an object is replaced as a whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from tqdm import tqdm

from seglib import __version__, descriptors, files
from seglib.descriptors import Descriptors, Layout, read_table, to_arrow, to_numpy, write_table
from seglib.errors import SeglibError
from seglib.recipe import Recipe
from seglib.regions import LABELS

if TYPE_CHECKING:
    from upath import UPath

LAYOUT = 2  # raised when the files change their form
HEADER = "header.json"
MADE_FROM = ("content", "stamp", "tokens")
# A row a frame that was asked for: which one, how many faces were seen, and where the chosen
# one lay, in pixels of the frame; frame is -1 where the whole video could not be read.
LEDGER = ("video_uid", "frame", "faces", "score", "x0", "y0", "x1", "y1")


GRIDS = ("frame", "labels", "tokens")


class StoreMismatch(SeglibError):
    """The folder holds a store of another recipe or of other weights."""


class NoStore(SeglibError):
    """There is no store for this recipe, or more than one."""


class NotExtracted(SeglibError):
    """Videos of the manifest are not in the store."""


class Store:
    """One folder: ``header.json``, ``videos/`` and, if wanted, ``tokens/``.

    Parameters
    ----------
    root : path-like
        Where stores lie side by side: a folder, or ``s3://bucket/folder``, see `files.place`.
    recipe : Recipe
    networks : dict
        What was loaded: the digest of each network, the encoder's width and its precision.

    Raises
    ------
    StoreMismatch
        A header is there and says something else.
    """

    def __init__(self, root: str | os.PathLike | UPath, recipe: Recipe, networks: dict) -> None:
        self.folder = files.place(root) / _folder(recipe, networks)
        self.recipe, self.networks = recipe, networks
        said = {
            "layout": LAYOUT,
            "recipe": json.loads(json.dumps(dataclasses.asdict(recipe))),
            "networks": networks,
            "labels": list(LABELS),
        }
        path = self.folder / HEADER
        if not path.exists():
            text = json.dumps(said | {"made_by": f"seglib {__version__}"}, indent=1)
            with files.replacing(path) as part:
                part.write_text(text, encoding="utf-8")
        found = _header(path)
        other = [key for key in said if key != "recipe" and found.get(key) != said[key]]
        if other:
            raise _mismatch(path, f"{other[0]} = {found.get(other[0])!r}", repr(said[other[0]]))

    @classmethod
    def find(
        cls, root: str | os.PathLike | UPath, recipe: Recipe, networks: Mapping | None = None
    ) -> Store:
        """The store of a recipe under `root`, for reading: no weights are needed.

        Parameters
        ----------
        networks : mapping, optional
            Only of these weights, in whatever precision.

        Raises
        ------
        NoStore
            None or several, which then differ in weights or precision.
        StoreMismatch
            Its header cannot be read, or is another store's.
        """
        root = files.place(root)
        found = sorted(root.glob(f"{recipe.descriptor_key}-*/{HEADER}"))
        if networks is not None:
            found = [path for path in found if _same_weights(_header(path)["networks"], networks)]
        if len(found) != 1:
            names = ", ".join(path.parent.name for path in found) or "none"
            others = ", ".join(p.parent.name for p in sorted(root.glob(f"*/{HEADER}")))
            raise NoStore(
                f"{len(found)} stores of recipe {recipe.descriptor_key} in {root} ({names}; others "
                f"there: {others or 'none'}), expected one. Run `seglib extract` with the same "
                "recipe, or move all but one away."
            )
        networks = _header(found[0])["networks"]
        if _folder(recipe, networks) != found[0].parent.name:
            raise _mismatch(found[0], f"networks = {networks}", "those that its folder is named by")
        return cls(root, recipe, networks)

    def path(self, uid: str) -> Path | UPath:
        """The file of one video. Its name is a hash: a uid may hold any character."""
        return self.folder / "videos" / f"{hashlib.sha256(uid.encode()).hexdigest()[:32]}.parquet"

    def tokens_path(self, uid: str) -> Path | UPath:
        """The file of one video's full token grids, which are kept on request only."""
        return self.folder / "tokens" / self.path(uid).name

    def made_from(self, uid: str) -> dict[str, str]:
        """What a video's file was made from, see `write`, and whether ``tokens`` were kept.

        Nothing where there is no whole file.
        """
        try:
            metadata = pq.read_schema(files.source(self.path(uid))).metadata
            return {key: metadata[key.encode()].decode() for key in MADE_FROM}
        except descriptors.DAMAGE:
            return {}

    def claim(self, uid: str) -> FileLock | threading.Lock | None:
        """A lock on one video, to be released by the caller; None if another process has it.

        The system frees it when a process dies, however it dies. An object store has no locks:
        there the claim is granted to whoever asks.

        Raises
        ------
        seglib.files.CannotWrite
        """
        if not isinstance(self.folder, Path):
            (free := threading.Lock()).acquire()
            return free
        return self._locked(self.path(uid).stem)

    def _locked(self, stem: str) -> FileLock | None:
        path = self.folder / "locks" / f"{stem}.lock"
        lock = FileLock(path)
        try:
            path.parent.mkdir(exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            return None
        except OSError as error:
            raise files.cannot_write(path, error) from error
        return lock

    def sweep(self) -> None:
        """Delete the halves of files that killed writers left; not those that are being written.

        For a run as a whole: to look for those of each video would go through the whole folder
        every time.

        Raises
        ------
        seglib.files.CannotWrite
        """
        if not isinstance(self.folder, Path):  # there are no halves in an object store
            return
        for rest in self.folder.glob("*/*.part"):
            if lock := self._locked(rest.name.partition(".")[0]):
                try:
                    rest.unlink(missing_ok=True)
                except OSError as error:
                    raise files.cannot_write(rest, error) from error
                finally:
                    lock.release()

    def write(
        self,
        uid: str,
        made_from: Mapping[str, str],
        ledger: pd.DataFrame,
        found: Descriptors,
        grids: Mapping[int, tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> None:
        """Keep one video's frames in place of what was there.

        Parameters
        ----------
        uid : str
            Whose frames.
        made_from : mapping
            ``content``, the digest of the files that they were made from, and ``stamp``, of
            their sizes and times.
        ledger : DataFrame
            With the columns `LEDGER`.
        found : Descriptors
            As many rows.
        grids : mapping, optional
            Frame index -> its patch labels ``(gh, gw)`` and tokens ``(gh, gw, D)``, to be kept
            as float16.
        """
        self.tokens_path(uid).unlink(missing_ok=True)
        if grids:
            write_table(self.tokens_path(uid), _grid_table(grids))
        kept = {**made_from, "tokens": str(grids is not None)}
        table = pa.Table.from_pandas(ledger[list(LEDGER)], preserve_index=False)
        found.save(self.path(uid), table.replace_schema_metadata(kept))

    def tokens(self, uid: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whole grids of one video: frames ``(N,)``, patch labels and tokens, see `write`.

        Raises
        ------
        FileNotFoundError, DamagedDescriptors
        """
        path = self.tokens_path(uid)
        try:
            table = read_table(path)
            shape = json.loads(table.schema.metadata[b"shape"])
            frames, labels, tokens = (to_numpy(table[name]) for name in GRIDS)
            return frames, labels.reshape(-1, *shape[:2]), tokens.reshape(-1, *shape)
        except FileNotFoundError:
            raise
        except descriptors.DAMAGE as error:
            raise descriptors.damaged(path, error) from error

    def ledger(self, uids: Sequence[str]) -> pd.DataFrame:
        """A row a frame: `LEDGER`, why there is no descriptor (or ""), tokens of each set.

        Raises
        ------
        NotExtracted, DamagedDescriptors
        """
        counts = [f"count {one}" for one in Layout.of(self.recipe).sets]
        columns = [*LEDGER, "reason", *counts]
        parts = []
        for path in self._paths(uids):
            column = descriptors.read(path, columns)
            parts.append(pd.DataFrame({name: column(name) for name in columns}))
        return pd.concat(parts, ignore_index=True)

    def view(self, name: str, uids: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
        """One descriptor a frame of these videos, see `descriptors.view`.

        Returns
        -------
        frames : DataFrame of video_uid, frame, reason
        values : (N, D) float32, NaN where there is none

        Raises
        ------
        NotExtracted, DamagedDescriptors
        """
        rows, values = [], []
        layout = Layout.of(self.recipe)
        needed = ["video_uid", "frame", *descriptors.needs(name, layout)]
        for path in tqdm(self._paths(uids), f"reading {name}", unit="video", leave=False):
            column = descriptors.read(path, needed)
            rows.append({key: column(key) for key in ("video_uid", "frame", "reason")})
            values.append(descriptors.view(name, column, layout))
        joined = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
        return pd.DataFrame(joined), np.concatenate(values)

    def _paths(self, uids: Sequence[str]) -> list[Path | UPath]:
        paths = [self.path(uid) for uid in uids]
        absent = [uid for uid, path in zip(uids, paths, strict=True) if not path.exists()]
        if absent or not paths:
            raise NotExtracted(
                f"{len(absent)} of {len(paths)} videos are not in {self.folder}, say "
                f"{absent[:3]}; expected all of them. Run `seglib extract` with this manifest."
            )
        return paths


def at_most(frames: int, width: int, recipe: Recipe) -> int:
    """Bytes that so many frames take before compression, token grids apart."""
    layout = Layout.of(recipe)
    numbers = (2 * len(layout.sets) * descriptors.WIDTHS.get(layout.pooling, 1) + 1) * width
    return frames * numbers * np.dtype(np.float32).itemsize


def _grid_table(grids: Mapping[int, tuple[np.ndarray, np.ndarray]]) -> pa.Table:
    labels, tokens = (np.stack(arrays) for arrays in zip(*grids.values(), strict=True))
    table = pa.table(
        {
            "frame": pa.array(list(grids), pa.int64()),
            "labels": to_arrow(labels.reshape(len(labels), -1)),
            "tokens": to_arrow(tokens.reshape(len(tokens), -1).astype(np.float16)),
        }
    ).select(GRIDS)
    return table.replace_schema_metadata({"shape": json.dumps(tokens.shape[1:])})


def _folder(recipe: Recipe, networks: Mapping) -> str:
    """A store's name: its recipe's, and a digest of what was loaded for it."""
    text = json.dumps(networks, sort_keys=True)
    return f"{recipe.descriptor_key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _same_weights(one: object, other: Mapping) -> bool:
    return isinstance(one, dict) and all(
        one.get(name) == other[name] for name in other if name != "precision"
    )


def _header(path: Path) -> dict:
    try:
        return {"networks": {}} | json.loads(files.plain(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _mismatch(path, f"nothing that can be read ({error})", "a JSON object") from error


def _mismatch(path: Path, found: str, expected: str) -> StoreMismatch:
    return StoreMismatch(
        f"{path} says {found}, expected {expected}. Choose another folder for the store, or "
        "delete this one."
    )
