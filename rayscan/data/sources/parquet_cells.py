"""Cells of row groups, for images that do not lie in one piece: a thread keeps the last row group it read.

In the order of the file each row group is decoded once; in another order, once per batch that touches it.
"""

from __future__ import annotations

import threading
import weakref
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.data.sources.base import Files
from rayscan.errors import DataError


class Cells(NamedTuple):
    """A column of a row group."""

    values: pa.ChunkedArray
    """Binary."""
    opening: int
    """Which opening of the file it came from; 0 where every read has to be compared."""

    def at(self, row: int) -> bytes:
        """The bytes of a cell; none if it is empty or not there."""
        value = self.values[row].as_py() if row < len(self.values) else None
        return value or b""


class LastGroup(threading.local):
    """The row group that this thread read last, and the footer of its file."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._file: tuple[weakref.ref[Files], int] | None = None
        self._footer: pq.FileMetaData | None = None
        self._cell = (-1, -1)
        self._cells: Cells | None = None

    def cells(self, files: Files, shard: int, column: int, group: int) -> Cells:
        """A column of a row group.

        Args:
            files: The files of an index.
            shard: Number of the file.
            column: Leaf column.
            group: Row group.

        Raises:
            DataError: the file cannot be read.
        """
        file = (weakref.ref(files), shard)
        if self._cells is None or (self._file, self._cell) != (file, (column, group)):
            self._cells = None  # so that two are never held
            self._footer = self._footer if self._file == file else None
            self._file, self._cell = file, (column, group)
            self._cells = self._read(files, shard, column, group)
        return self._cells

    def _read(self, files: Files, shard: int, column: int, group: int) -> Cells:
        stream, opening = files.open(shard)
        with stream:
            try:
                # Without threads of Arrow: they could outlive the stream, which Python owns.
                table = pq.ParquetFile(stream, metadata=self._footer, pre_buffer=False)
                self._footer = table.metadata
                leaf = table.schema.column(column).path
                values = table.read_row_group(group, columns=[leaf], use_threads=False).column(0)
            except (OSError, pa.ArrowException, IndexError) as error:
                self._footer = None
                raise DataError(
                    "images cannot be read",
                    expected="the Parquet file that was indexed",
                    got=error,
                    where=f"row group {group} of file {shard}",
                    fix="put the file back, or index again",
                ) from error
        while pa.types.is_struct(values.type):
            values = pa.chunked_array([chunk.field(0) for chunk in values.chunks], values.type.field(0).type)
        return Cells(values, opening)
