"""What is kept of a face: sums and counts of tokens by label, from which any part recombines.

A *view* is one descriptor of it: a part, all patches, CLS, or the random control. Files are
Parquet with a column for each label, so that reading a mouth reads three columns. Taught in
chapter 02.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seglib import files, indexing
from seglib.errors import SeglibError, unknown_name
from seglib.regions import LABELS, PARTS

Columns = Callable[[str], np.ndarray]
VIEWS = ("cls", *PARTS, *(f"random {part}" for part in PARTS))


class DamagedDescriptors(SeglibError):
    """A file of descriptors is cut, or is none."""


@dataclass(frozen=True)
class Descriptors:
    """What is kept of N faces. Any union of parts can be recombined from it exactly.

    sums ``(N, 11, D)`` and counts ``(N, 11)``: tokens of each label added up, and how many.
    random ``(N, 11, D)``: the same with the labels at random patches, see `indexing.shuffled`.
    cls ``(N, D)``. reasons ``(N,)`` str: why a row is missing (its values are NaN and its
    counts 0), or an empty string.
    """

    sums: np.ndarray
    counts: np.ndarray
    random: np.ndarray
    cls: np.ndarray
    reasons: np.ndarray

    def __len__(self) -> int:
        return len(self.reasons)

    def view(self, name: str) -> np.ndarray:
        """One descriptor a face, ``(N, D)`` float32, NaN where there is none; see `view`."""
        columns = dict(self._columns())
        return view(name, columns.__getitem__)

    def save(self, path: Path, ledger: pa.Table | None = None) -> None:
        """Write a Parquet file; whole or not at all, also when killed midway.

        The columns of a `ledger` of as many rows stand before those of the descriptors, and its
        metadata goes along.
        """
        own = {name: to_arrow(values) for name, values in self._columns()}
        theirs = {} if ledger is None else dict(zip(ledger.column_names, ledger, strict=True))
        metadata = None if ledger is None else ledger.schema.metadata
        write_table(path, pa.table(theirs | own, metadata=metadata))

    @classmethod
    def load(cls, path: Path) -> Descriptors:
        """Read what `save` wrote.

        Raises
        ------
        FileNotFoundError
        DamagedDescriptors
            The file is cut, or holds something else.
        """
        column = read(path, [name for view in ("all", "random all", "cls") for name in needs(view)])
        return cls(
            np.stack([column(f"sum {label}") for label in LABELS], axis=1),
            np.stack([column(f"count {label}") for label in LABELS], axis=1),
            np.stack([column(f"random {label}") for label in LABELS], axis=1),
            column("cls"),
            column("reason"),
        )

    @classmethod
    def missing(cls, reasons: Sequence[str], width: int) -> Descriptors:
        """Rows of NaN and zero counts, each with its reason, for an encoder of that width."""
        nothing = np.full((len(reasons), len(LABELS), width), np.nan, np.float32)
        counts = np.zeros((len(reasons), len(LABELS)), np.int64)
        return cls(nothing, counts, nothing, nothing[:, 0], np.array(reasons, dtype=str))

    @classmethod
    def joined(cls, several: Iterable[Descriptors]) -> Descriptors:
        """Rows of all, one after the other."""
        columns = zip(*([getattr(d, f.name) for f in fields(cls)] for d in several), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def rows(self) -> Iterator[Descriptors]:
        """Each row for itself, with N = 1."""
        for i in range(len(self)):
            yield Descriptors(*(getattr(self, f.name)[i : i + 1] for f in fields(self)))

    def _columns(self) -> Iterator[tuple[str, np.ndarray]]:
        yield "reason", self.reasons
        for i, label in enumerate(LABELS):
            yield f"count {label}", self.counts[:, i]
        for kind, sums in (("sum", self.sums), ("random", self.random)):
            yield from ((f"{kind} {label}", sums[:, i]) for i, label in enumerate(LABELS))
        yield "cls", self.cls


def view(name: str, column: Columns) -> np.ndarray:
    """One descriptor a face, ``(N, D)`` float32 with NaN rows where there is none.

    Parameters
    ----------
    name : str
        A part of `regions.PARTS` (``"all"`` is the mean of all patches), ``"cls"``, or
        ``"random mouth"``: as many tokens as the mouth has, from anywhere.
    column : callable
        Gives the columns that `needs` names.
    """
    if name == "cls":
        return column("cls")
    sums, counts = (np.stack([column(one) for one in names], axis=1) for names in _parts(name))
    return indexing.mean_of(sums, counts)[0]


def needs(name: str) -> list[str]:
    """The columns of a file that a view is made of."""
    if name == "cls":
        return ["reason", "cls"]
    sums, counts = _parts(name)
    return ["reason", *sums, *counts]


def read(path: Path, columns: Sequence[str]) -> Columns:
    """Some columns of a file, each by its name: ``(N,)``, or ``(N, D)`` for sums of tokens.

    Raises
    ------
    FileNotFoundError, DamagedDescriptors
    """
    try:
        table = pq.read_table(path, columns=list(dict.fromkeys(columns)))
    except FileNotFoundError:
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, str(error).partition("\n")[0]) from error
    return lambda name: to_numpy(table[name])


def _parts(name: str) -> tuple[list[str], list[str]]:
    """Names of the columns of sums and of counts that a view of tokens adds up."""
    part = name.removeprefix("random ")
    if part not in PARTS:
        raise unknown_name("view", name, VIEWS)
    kind = "random" if name.startswith("random ") else "sum"
    labels = PARTS[part]
    return [f"{kind} {label}" for label in labels], [f"count {label}" for label in labels]


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file; whole or not at all, also when killed midway."""
    with files.replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def to_arrow(values: np.ndarray) -> pa.Array:
    """``(N,)`` or ``(N, D)`` as a column; rows of the latter become lists of a fixed length."""
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """The way back of `to_arrow`."""
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy()
        return flat.reshape(-1, column.type.list_size)
    if pa.types.is_string(column.type):
        return np.array(column.to_pylist(), dtype=str)
    return column.to_numpy()


def _damaged(path: Path, found: str) -> DamagedDescriptors:
    return DamagedDescriptors(
        f"{path} holds no whole set of descriptors ({found}); expected what Descriptors.save "
        "writes. Delete it; it will be computed again."
    )
