"""Reading a Parquet file of images from end to end: what images there are, and where their bytes lie.

A column that is not compressed holds each image in one piece, so that it is found there and later read by its
range, as from a tar. Other images have a row address: column, row group and row in one number.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayscan.data.metadata_columns import flat
from rayscan.data.sequential import SequentialFile
from rayscan.data.sources.parquet_columns import ImageColumn, image_column
from rayscan.errors import DataError
from rayscan.storage import open_file

ROWS_AT_ONCE = 64
BUFFER = 1 << 20
"""Bytes that are asked of a column at a time."""
MAX_COLUMNS, MAX_GROUPS, MAX_ROWS = 1 << 12, 1 << 24, 1 << 26
LENGTH_BYTES = 4
"""Bytes before a value of encoding PLAIN."""
TAIL = 32
"""Bytes at the end of a value that nearly always tell it from others."""
ROW_ADDRESS = 1 << 62
"""Offsets from here on are row addresses."""


class Found(NamedTuple):
    """An image of a Parquet file."""

    offset: int
    """First byte in the file, or the row address."""
    data: bytes | None
    """Its bytes; None if the cell is empty."""
    path: str | None
    id: str | None


def row_address(column: int, group: int, row: int) -> int:
    """One number for a cell: its leaf column, its row group, and its row there."""
    return ROW_ADDRESS | (column * MAX_GROUPS + group) * MAX_ROWS + row


class Pieces(io.RawIOBase):
    """A file as Arrow reads it: some ranges were read ahead, in the order of the file; others are fetched."""

    def __init__(self, file: SequentialFile, other: BinaryIO) -> None:
        """Nothing is read ahead yet.

        Args:
            file: Hashes what passes.
            other: The same file, for whatever lies elsewhere.
        """
        self._file, self._other = file, other
        self._kept: dict[int, bytes] = {}
        self._position = 0

    def keep(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read ranges (first, stop) ahead; those before are let go, those that passed already stay out."""
        self._kept = {}
        for first, stop in sorted(ranges):
            if first >= self._file.position:
                self._file.seek_forward(first)
                self._kept[first] = self._file.read(stop - first)

    def kept(self, first: int) -> bytes:
        """The range that begins here; empty if it was not read ahead."""
        return self._kept.get(first, b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        at = self._position
        stop = self._file.size if size < 0 else min(at + size, self._file.size)
        for first, piece in self._kept.items():
            if first <= at and stop <= first + len(piece):
                data = piece[at - first : stop - first]
                break
        else:
            self._other.seek(at)
            data = self._other.read(stop - at)
        self._position += len(data)
        return data


def found_images(file: SequentialFile, asked: str | None) -> Iterator[Found]:
    """The images of a file in the order of its rows; its bytes have all passed when this ends.

    Args:
        file: At its beginning.
        asked: The column that the user named, if any.

    Raises:
        DataError: the file is damaged or cannot be read, or its column of images cannot be told.
    """
    with _damage_told(file.uri), open_file(file.uri) as other:
        pieces = Pieces(file, other)
        table = pq.ParquetFile(pieces, buffer_size=BUFFER, pre_buffer=False, page_checksum_verification=True)
        column = _known(image_column(table.schema_arrow, asked, file.uri), table, file.uri)
        for group in range(table.num_row_groups):
            yield from _images_of_group(table, group, column, pieces)
        file.seek_forward(file.size)


def further_columns(uri: str, asked: str | None) -> pa.Table | None:
    """What a file has besides its images, a row each; None if nothing that is kept.

    Args:
        uri: Address of the file.
        asked: The column that the user named, if any.

    Raises:
        DataError: the file is damaged or cannot be read.
    """
    with _damage_told(uri), open_file(uri) as stream:
        table = pq.ParquetFile(stream, pre_buffer=False)
        column = _known(image_column(table.schema_arrow, asked, uri), table, uri)
        kept = flat(table.schema_arrow.empty_table(), ["id", column.name]).column_names
        return table.read(kept, use_threads=False) if kept else None


@contextmanager
def _damage_told(uri: str) -> Iterator[None]:
    """Say of a file that Arrow cannot read that it is damaged."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            "a Parquet file is damaged",
            expected="a whole Parquet file",
            got=error,
            where=uri,
            fix="copy or write this file again",
        ) from error


def _known(column: ImageColumn | None, table: pq.ParquetFile, uri: str) -> ImageColumn:
    if column is None:
        raise DataError(
            "a Parquet file holds no images",
            expected="a binary column, or a struct with a field bytes",
            got=table.schema_arrow.names,
            where=uri,
            fix="leave it out, or name the column with --image-column",
        )
    return column


def _images_of_group(
    table: pq.ParquetFile, group: int, column: ImageColumn, pieces: Pieces
) -> Iterator[Found]:
    facts = table.metadata.row_group(group)
    numbers = {facts.column(number).path_in_schema: number for number in range(facts.num_columns)}
    leaf = numbers[column.data]
    _check_address(leaf, group, facts.num_rows, table)
    chunks = {name: _range(facts.column(numbers[name])) for name in column.leaves}
    pieces.keep(list(chunks.values()))
    first = chunks[column.data][0]
    is_plain = facts.column(leaf).compression == "UNCOMPRESSED"
    places = Places(pieces.kept(first) if is_plain else b"")
    row = 0
    for batch in table.iter_batches(ROWS_AT_ONCE, [group], column.leaves, use_threads=False):
        for data, path, own_id in zip(*_columns(batch, column), strict=True):
            at = places.find(data) if data else None
            offset = row_address(leaf, group, row) if at is None else first + at
            yield Found(offset if data else 0, data, path, own_id)
            row += 1


def _check_address(leaf: int, group: int, rows: int, table: pq.ParquetFile) -> None:
    if leaf >= MAX_COLUMNS or group >= MAX_GROUPS or rows > MAX_ROWS:
        raise DataError(
            "a Parquet file is too large",
            expected=f"< {MAX_COLUMNS:,} columns, < {MAX_GROUPS:,} row groups of <= {MAX_ROWS:,} rows",
            got=f"column {leaf:,}, row group {group:,} of {rows:,} rows, {table.num_row_groups:,} row groups",
        )


def _range(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    """First byte of a column chunk, and one past its last."""
    first = chunk.data_page_offset
    if chunk.dictionary_page_offset:
        first = min(first, chunk.dictionary_page_offset)
    return first, first + chunk.total_compressed_size


def _columns(batch: pa.RecordBatch, column: ImageColumn) -> list[list[Any]]:
    """Bytes, path and id of the rows of a batch; None where there is none."""
    none = [None] * len(batch)
    values = batch.column(column.name)
    data = pc.struct_field(values, "bytes") if column.is_struct else values
    paths = pc.struct_field(values, "path").to_pylist() if column.has_path else none
    ids = batch.column("id").cast(pa.string()).to_pylist() if column.has_id else none
    return [data.to_pylist(), paths, ids]


class Places:
    """Where values lie in the bytes of a column chunk that is not compressed.

    In the file values come in the order of rows, each once if a dictionary holds them; other encodings leave
    no value in one piece, and after the first that is not found no further one is looked for.
    """

    def __init__(self, chunk: bytes) -> None:
        """Nothing is found yet.

        Args:
            chunk: The bytes; empty if they are compressed.
        """
        self._chunk, self._at = chunk, 0
        self._seen: dict[tuple[int, bytes], int] = {}

    def find(self, value: bytes) -> int | None:
        """Where a value begins; None if it is not there in one piece."""
        name = (len(value), value[-TAIL:])
        known = self._seen.get(name)
        if known is not None and self._chunk.startswith(value, known):
            return known
        at = self._at + LENGTH_BYTES  # where the next one of a page is, without a search
        if not self._chunk.startswith(value, at):
            at = self._chunk.find(value, self._at)
        if at < 0:
            self._at = len(self._chunk)
            return None
        self._seen[name], self._at = at, at + len(value)
        return at
