"""Vectors in a `.npy` as `numpy.save` writes it: a head, then the rows."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as numpy_format

from rayscan.embeddings.byte_rows import ByteRows
from rayscan.embeddings.file_bytes import FileBytes
from rayscan.embeddings.formats.base import Format
from rayscan.embeddings.number_types import NUMBER_TYPES
from rayscan.embeddings.vector_file import VectorFile, cut_short, refuse_type, require_matrix
from rayscan.errors import ConfigError, DataError
from rayscan.storage import FileInfo

HEAD_BYTES = 64 << 10
"""More than any head of a matrix."""
_TYPES = {one.stored: name for name, one in NUMBER_TYPES.items() if name != "bfloat16"}


class Head(NamedTuple):
    """What the first bytes of a `.npy` say."""

    shape: tuple[int, ...]
    is_by_column: bool
    dtype: np.dtype[Any]
    size: int
    """Bytes of the head itself."""


class Npy(Format):
    """One array per file."""

    name = "npy"
    suffixes = (".npy",)

    def head(self, info: FileInfo, member: str) -> VectorFile:
        """See `Format.head`."""
        if member:
            raise ConfigError(
                "a .npy has no members", expected="its name alone", got=f"#{member}", where=info.uri
            )
        data = FileBytes(info).read(0, min(info.size, HEAD_BYTES))
        head = read_head(io.BytesIO(data), info.uri)
        rows, dim, dtype = require_rows(head, info.uri)
        stop = head.size + rows * dim * NUMBER_TYPES[dtype].itemsize
        if info.size < stop:
            raise cut_short(info.uri, stop, info.size)
        if info.size > stop:
            raise DataError(
                "a .npy goes on after its array",
                expected=f"{stop:,} bytes, by its head",
                got=f"{info.size:,}",
                where=info.uri,
                fix="write several arrays as several files, or join them before",
            )
        return VectorFile(
            info.uri, info.size, info.mtime_ns, self.name, "", rows, dim, dtype, begin=head.size
        )

    def rows(self, file: VectorFile) -> ByteRows:
        """See `Format.rows`."""
        return ByteRows(file)


def read_head(stream: BinaryIO, where: str) -> Head:
    """The head of an array; the stream stands at its first row then.

    Raises:
        DataError: it is none.
    """
    try:
        version = numpy_format.read_magic(stream)
        if version == (1, 0):
            found = numpy_format.read_array_header_1_0(stream)
        elif version == (2, 0):
            found = numpy_format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} of the format")
    except ValueError as error:
        raise DataError(
            "this is no .npy that can be read",
            expected="an array as numpy.save writes it",
            got=error,
            where=where,
            fix="copy or write it again with numpy.save",
        ) from error
    return Head(*found, size=stream.tell())


def require_rows(head: Head, where: str) -> tuple[int, int, str]:
    """Rows, width and number type of an array.

    Raises:
        DataError: it is no matrix of floating point numbers, by rows.
    """
    if head.dtype.hasobject:
        raise DataError(
            "an array of objects is a pickle, which runs code when it is read",
            expected=", ".join(_TYPES.values()),
            got=head.dtype,
            where=where,
            fix="write numbers: numpy.save(path, numpy.stack(rows).astype('<f4'))",
        )
    rows, dim = require_matrix(head.shape, where)
    if head.dtype not in _TYPES:
        raise refuse_type(head.dtype.str, where)
    if head.is_by_column and rows > 1 and dim > 1:
        raise DataError(
            "vectors are stored by columns",
            expected="rows one after the other (C order)",
            got=f"Fortran order, {rows:,} x {dim}",
            where=where,
            fix="numpy.save(path, numpy.ascontiguousarray(array))",
        )
    return rows, dim, _TYPES[head.dtype]
