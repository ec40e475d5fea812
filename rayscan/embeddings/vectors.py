"""One matrix of vectors over several files: rows by range or number, in float32. Travels without them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import digest
from rayscan.embeddings.formats import named
from rayscan.embeddings.key_columns import Kind, column_of, stream_columns
from rayscan.embeddings.number_types import NumberType
from rayscan.embeddings.vector_file import Rows, VectorFile
from rayscan.errors import DataError
from rayscan.types import Ints

MOST_OPEN = 64
"""Files that a process keeps open."""


@dataclass(frozen=True)
class Vectors:
    """Vectors that the user has: the rows of the files, one file after the other."""

    spec: str
    """As the user named them."""
    files: tuple[VectorFile, ...]
    """All of one width and number type; at least one."""

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)

    @property
    def dim(self) -> int:
        """Width D."""
        return self.files[0].dim

    @property
    def dtype(self) -> str:
        """Name of the number type: float16, bfloat16, float32 or float64."""
        return self.files[0].dtype

    @property
    def number_type(self) -> NumberType:
        """The number type."""
        return self.files[0].number_type

    @property
    def starts(self) -> Ints:
        """Where the rows of each file begin, and the end: int64 [files + 1]."""
        return np.cumsum([0, *(file.rows for file in self.files)], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """Sha256 over addresses, sizes and times: whether anything may have changed since. Reads nothing.

        `identity` is that of the content.
        """
        return digest([asdict(file) for file in self.files])

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Rows [first, stop) -> float32 [stop - first, D].

        Raises:
            DataError: the range is not within the matrix, or a file changed, is cut short or damaged.
        """
        self._require_within(first, stop)
        out = np.empty((stop - first, self.dim), np.float32)
        starts = self.starts
        for number in range(len(self.files)):
            low, high = max(first, int(starts[number])), min(stop, int(starts[number + 1]))
            if low < high:
                base = int(starts[number])
                out[low - first : high - first] = self._open(number).read(low - base, high - base)
        return out

    def take(self, rows: Ints) -> NDArray[np.float32]:
        """Rows by number, in the order asked for: int64 [m] -> float32 [m, D].

        Only the rows asked for are read where they are ranges of bytes (npy, stored members of npz,
        safetensors); of Parquet the row groups that hold some, of a compressed npz all up to the last.

        Raises:
            DataError: see `read`.
        """
        out = np.empty((len(rows), self.dim), np.float32)
        if not len(rows):
            return out
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        self._require_within(int(ascending[0]), int(ascending[-1]) + 1)
        starts = self.starts
        bounds = np.searchsorted(ascending, starts)
        for number in range(len(self.files)):
            mine = slice(int(bounds[number]), int(bounds[number + 1]))
            if mine.start < mine.stop:
                out[order[mine]] = self._open(number).take(ascending[mine] - starts[number])
        return out

    def has_keys(self, kind: Kind) -> bool:
        """Whether all files have a column of this kind."""
        return all(column_of(file.key_columns, kind) is not None for file in self.files)

    def keys(self, kind: Kind) -> Iterator[pa.StringArray] | None:
        """The keys of all rows in order, some at a time; None if a file has none of this kind.

        Raises:
            DataError: while it is read: a file is damaged.
        """
        if not self.has_keys(kind):
            return None
        columns = [column_of(file.key_columns, kind) or "" for file in self.files]
        return (
            texts[column]
            for file, column in zip(self.files, columns, strict=True)
            for texts in stream_columns(file, [column])
        )

    def only(self, rows: Ints) -> tuple[Vectors, Ints]:
        """The files that hold some rows, and the numbers of these rows in them: a task takes no more along.

        Args:
            rows: Row numbers in any order, int64 [m]; -1 stays.
        """
        starts = self.starts
        owner = np.searchsorted(starts, rows, side="right") - 1
        used = np.unique(owner[rows >= 0])
        if not len(used):
            return replace(self, files=self.files[:1]), rows
        kept = replace(self, files=tuple(self.files[number] for number in used.tolist()))
        shift = np.zeros(len(self.files) + 1, np.int64)
        shift[used] = starts[used] - kept.starts[:-1]
        return kept, np.where(rows < 0, rows, rows - shift[owner])

    def _open(self, number: int) -> Rows:
        return _opened(self.files[number], os.getpid())

    def _require_within(self, first: int, stop: int) -> None:
        if not 0 <= first <= stop <= self.rows:
            raise DataError(
                "rows are outside the vectors",
                expected=f"0..{self.rows:,}",
                got=f"{first:,}..{stop:,}",
                where=self.spec,
            )


@lru_cache(maxsize=MOST_OPEN)
def _opened(file: VectorFile, _process: int) -> Rows:
    return named(file.format).rows(file)  # per process: clients do not survive a fork
