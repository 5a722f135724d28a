"""What is kept of a face: pools and counts of tokens by label, from which any part recombines.

A *view* is one descriptor of it: a part, all patches, CLS, or the random control. Files are
Parquet with a column for each label, so that reading a mouth reads three columns. Where a token
depends on which part it was kept for (`recipe.Recipe.partitions`), only the region's are there.
Taught in chapter 02.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from seglib import files, indexing
from seglib.errors import SeglibError, unknown_name
from seglib.recipe import CHOICES, Recipe
from seglib.regions import LABELS, PARTS, part_ids

Columns = Callable[[str], np.ndarray]
# What pyarrow, and whoever reads on, raises at bytes that were changed.
DAMAGE = (pa.ArrowException, OSError, ValueError, TypeError, KeyError)
VIEWS = ("cls", *PARTS, *(f"random {part}" for part in PARTS))
ALONE = ("cls", "sure", "reason")  # columns without a set
WIDTHS = {"mean+std": 2}  # numbers that a pooling makes of each of a token's, where it is not one


class DamagedDescriptors(SeglibError):
    """A file of descriptors is cut, or is none."""


class OtherPart(SeglibError, ValueError):
    """Descriptors of one part were asked for another one."""


@dataclass(frozen=True)
class Layout:
    """Which sets of tokens were pooled, and how.

    region is empty where there is a pool for each label, else the one part that was kept;
    pooling is a name of `recipe.CHOICES`.
    """

    region: str = ""
    pooling: str = "mean"

    @classmethod
    def of(cls, recipe: Recipe) -> Layout:
        """The layout of a recipe's descriptors."""
        return cls("" if recipe.partitions else recipe.region, recipe.pooling)

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the K sets."""
        return (self.region,) if self.region else LABELS

    def of_part(self, part: str) -> list[int]:
        """Which of the sets a part is the union of.

        Raises
        ------
        UnknownName, OtherPart
        """
        if part not in PARTS:
            raise unknown_name("view", part, VIEWS)
        if not self.region:
            return list(part_ids(part))
        if part != self.region:
            raise OtherPart(
                f"the tokens of {part!r} were asked for, and only those of {self.region!r} were "
                "kept: this encoding or patch rule looks at one part at a time; expected the same "
                f"part. Extract with region={part!r} in the recipe."
            )
        return [0]


BY_LABEL = Layout()


@dataclass(frozen=True)
class Descriptors:
    """What is kept of N faces. Any union of parts can be recombined from it exactly.

    pools ``(N, K, W)`` and counts ``(N, K)``: tokens of each of the layout's K sets, see
    `indexing.partial_pools`, and how many. random ``(N, K, W)``: the same sets at random patches,
    see `indexing.shuffled`. cls ``(N, D)``. sure ``(N,)``: the parser's own confidence. reasons
    ``(N,)`` str: why a row is missing (its values are NaN and its counts 0), or an empty string.
    """

    pools: np.ndarray
    counts: np.ndarray
    random: np.ndarray
    cls: np.ndarray
    sure: np.ndarray
    reasons: np.ndarray
    layout: Layout = BY_LABEL

    def __len__(self) -> int:
        return len(self.reasons)

    def view(self, name: str) -> np.ndarray:
        """One descriptor a face, ``(N, W)`` float32, NaN where there is none; see `view`."""
        columns = dict(self._columns())
        return view(name, columns.__getitem__, self.layout)

    def tokens(self, part: str) -> np.ndarray:
        """How many tokens a part has in each face, ``(N,)`` int64."""
        return self.counts[:, self.layout.of_part(part)].sum(1)

    def save(self, path: Path, ledger: pa.Table | None = None) -> None:
        """Write a Parquet file; whole or not at all, also when killed midway.

        The columns of a `ledger` of as many rows stand before those of the descriptors, and its
        metadata goes along.
        """
        own = {name: to_arrow(values) for name, values in self._columns()}
        theirs = {} if ledger is None else dict(zip(ledger.column_names, ledger, strict=True))
        metadata = {} if ledger is None else ledger.schema.metadata or {}
        metadata = metadata | {b"layout": json.dumps(asdict(self.layout)).encode()}
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
        layout = _layout(path)
        kinds = ("pool", "count", "random")
        names = [[f"{kind} {one}" for one in layout.sets] for kind in kinds]
        column = read(path, [*chain.from_iterable(names), *ALONE])
        stacked = (np.stack([column(one) for one in kind], axis=1) for kind in names)
        return cls(*stacked, *(column(one) for one in ALONE), layout)

    @classmethod
    def missing(cls, reasons: Sequence[str], width: int, layout: Layout = BY_LABEL) -> Descriptors:
        """Rows of NaN and zero counts, each with its reason, for an encoder of that width."""
        shape = len(reasons), len(layout.sets), width * WIDTHS.get(layout.pooling, 1)
        nothing, cls_token = (np.full(one, np.nan, np.float32) for one in (shape, shape[::2]))
        counts, sure = np.zeros(shape[:2], np.int64), nothing[:, 0, 0]
        reasons = np.array(list(map(files.readable, reasons)), dtype=str)  # they name files
        return cls(nothing, counts, nothing, cls_token[:, :width], sure, reasons, layout)

    @classmethod
    def joined(cls, several: Iterable[Descriptors]) -> Descriptors:
        """Rows of all, one after the other.

        Raises
        ------
        OtherPart
            They are of several layouts.
        """
        several = list(several)
        layouts = {one.layout for one in several}
        if len(layouts) > 1:
            raise OtherPart(
                f"descriptors of {len(layouts)} layouts were to be joined: "
                f"{sorted(map(str, layouts))}; expected one. Join those of one region and pooling."
            )
        columns = zip(*(one._arrays() for one in several), strict=True)
        return cls(*map(np.concatenate, columns), several[0].layout)

    def rows(self) -> Iterator[Descriptors]:
        """Each row for itself, with N = 1."""
        for i in range(len(self)):
            yield self.of(slice(i, i + 1))

    def of(self, which: slice | np.ndarray) -> Descriptors:
        """Some of the rows."""
        return Descriptors(*(values[which] for values in self._arrays()), self.layout)

    def _arrays(self) -> list[np.ndarray]:
        return [getattr(self, one.name) for one in fields(self) if one.name != "layout"]

    def _columns(self) -> Iterator[tuple[str, np.ndarray]]:
        yield from zip(ALONE, (self.cls, self.sure, self.reasons), strict=True)
        kinds = {"count": self.counts, "pool": self.pools, "random": self.random}
        for kind, values in kinds.items():
            yield from ((f"{kind} {one}", values[:, i]) for i, one in enumerate(self.layout.sets))


def view(name: str, column: Columns, layout: Layout = BY_LABEL) -> np.ndarray:
    """One descriptor a face, ``(N, W)`` float32 with NaN rows where there is none.

    Parameters
    ----------
    name : str
        A part of `regions.PARTS` (``"all"`` is all patches), ``"cls"``, or
        ``"random mouth"``: as many tokens as the mouth has, from anywhere.
    column : callable
        Gives the columns that `needs` names.
    """
    if name == "cls":
        return column("cls")
    pools, counts = (
        np.stack([column(one) for one in names], axis=1) for names in _of(name, layout)
    )
    return indexing.combined(pools, counts, layout.pooling)[0]


def needs(name: str, layout: Layout = BY_LABEL) -> list[str]:
    """The columns of a file that a view is made of."""
    if name == "cls":
        return ["reason", "cls"]
    pools, counts = _of(name, layout)
    return ["reason", *pools, *counts]


def read(path: Path, columns: Sequence[str]) -> Columns:
    """Some columns of a file, each by its name: ``(N,)``, or ``(N, D)`` for sums of tokens.

    Raises
    ------
    FileNotFoundError, DamagedDescriptors
    """
    columns = list(dict.fromkeys(columns))
    try:
        table = read_table(path, columns)
        return {name: to_numpy(table[name]) for name in columns}.__getitem__
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise damaged(path, error) from error


def _of(name: str, layout: Layout) -> tuple[list[str], list[str]]:
    """Names of the columns of pools and of counts that a view of tokens is combined from."""
    if name not in VIEWS:
        raise unknown_name("view", name, VIEWS)
    kind = "random" if name.startswith("random ") else "pool"
    sets = [layout.sets[i] for i in layout.of_part(name.removeprefix("random "))]
    return [f"{kind} {one}" for one in sets], [f"count {one}" for one in sets]


def _layout(path: Path) -> Layout:
    try:
        metadata = pq.read_schema(files.source(path)).metadata or {}
        layout = Layout(**json.loads(metadata.get(b"layout", "{}")))
        if layout.region not in ("", *PARTS) or layout.pooling not in CHOICES["pooling"]:
            raise ValueError(f"its layout is {layout}")
        return layout
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise damaged(path, error) from error


def write_table(path: Path, table: pa.Table) -> None:
    """Write a Parquet file; whole or not at all, also when killed midway.

    Each page carries a check sum: a bit that turns on the disk must not become another score.
    Measured numbers hardly repeat and are not searched by value: dictionaries and statistics of
    them would make a file half as large again, and several times slower to write.
    """
    lean = {"use_dictionary": False, "write_statistics": False}
    with files.replacing(path) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True, **lean)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, its check sums compared; raises whatever of `DAMAGE` it meets."""
    return pq.read_table(files.source(path), columns=columns, page_checksum_verification=True)


def to_arrow(values: np.ndarray) -> pa.Array:
    """``(N,)`` or ``(N, D)`` as a column; rows of the latter become lists of a fixed length."""
    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """The way back of `to_arrow`; ValueError for a column of another kind."""
    if pa.types.is_fixed_size_list(column.type):
        flat = column.combine_chunks().flatten().to_numpy()
        return flat.reshape(-1, column.type.list_size)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), dtype=str)
    empty = column.null_count if not pa.types.is_floating(column.type) else 0  # pandas' NaN
    if empty or not pa.types.is_primitive(column.type):
        raise ValueError(f"a column of {column.type} with {empty} empty cells")
    return column.to_numpy()


def damaged(path: Path, error: Exception) -> DamagedDescriptors:
    """Build, not raise, the error for a file that does not hold what was written."""
    found = str(error).partition("\n")[0]
    return DamagedDescriptors(
        f"{path} holds no whole set of descriptors ({found}); expected what Descriptors.save "
        "writes. Delete it; it will be computed again."
    )
