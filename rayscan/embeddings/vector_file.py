"""A file of vectors as its head tells, access to its rows, and the errors all formats share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rayscan.embeddings.number_types import NUMBER_TYPES, NumberType
from rayscan.errors import DataError
from rayscan.storage import FileInfo
from rayscan.types import Ints

SCATTERED = -1
"""Instead of a first byte: the rows are no range of bytes."""


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file with a matrix [rows, dim] in it, as its head tells. Small: it travels to workers."""

    uri: str
    size: int
    """Bytes of the file."""
    mtime_ns: int
    """Time of the last change, ns; 0 where the store does not tell."""
    format: str
    """Name of its format, in the table `FORMATS`."""
    member: str
    """Array, tensor or column that holds the rows; empty where the file is the array."""
    rows: int
    dim: int
    """Width D."""
    dtype: str
    """Name of its number type, in the table `NUMBER_TYPES`."""
    begin: int
    """First byte of the first row where the rows are one range of bytes, else `SCATTERED`."""
    keys: FileInfo | None = None
    """Parquet file with a row of keys per vector, this one or another; None if there is none."""
    key_columns: tuple[str, ...] = ()
    """Columns of that file that may name images."""

    @property
    def number_type(self) -> NumberType:
        """Its number type."""
        return NUMBER_TYPES[self.dtype]

    @property
    def where(self) -> str:
        """The file and the member, for messages."""
        return f"{self.uri}#{self.member}" if self.member else self.uri


class Rows(Protocol):
    """Access to the rows of one file, kept open."""

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """Rows [first, stop) -> float32 [stop - first, D]; no more than these are held in memory.

        Raises:
            DataError: the file changed, is cut short, or holds what is no row of numbers.
        """
        ...

    def take(self, rows: Ints) -> NDArray[np.float32]:
        """Rows by number, ascending, int64 [m] -> float32 [m, D].

        Raises:
            DataError: see `read`.
        """
        ...


def require_matrix(shape: Sequence[int], where: str) -> tuple[int, int]:
    """Rows and width of an array with this shape.

    Raises:
        DataError: it has another number of dimensions, or no rows.
    """
    if len(shape) != 2:
        raise DataError(
            "vectors are no matrix",
            expected="two dimensions, [rows, width]",
            got=f"{len(shape)}, {list(shape)}",
            where=where,
            fix="write one row per image; pool or flatten what has more dimensions",
        )
    rows, dim = int(shape[0]), int(shape[1])
    if rows < 1 or dim < 1:
        raise DataError("a file of vectors is empty", expected="rows", got=f"{rows} x {dim}", where=where)
    return rows, dim


def refuse_type(got: object, where: str) -> DataError:
    """The error for numbers of a type that is not read."""
    return DataError(
        "vectors are of a type that is not read",
        expected=f"{', '.join(NUMBER_TYPES)}, little-endian",
        got=got,
        where=where,
        fix="convert them, as with array.astype('<f4'); scale integers that stand for floats first",
    )


def cut_short(file: VectorFile | str, expected: int, got: int) -> DataError:
    """The error for a file that ends before its rows do."""
    return DataError(
        "a file of vectors is cut short",
        expected=f"{expected:,} bytes, by its head",
        got=f"{got:,}",
        where=file if isinstance(file, str) else file.where,
        fix="copy or write it again",
    )
