"""Parquet tables of a result that are larger than memory should be, and matrices as columns of lists.

Written straight to the store and read again row group by row group: what is held is one row group, whatever
the number of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Draft, FileEntry
from rayscan.parquet import ROW_GROUP
from rayscan.storage import resolve

HASHED_AT_ONCE = 1 << 22
"""Bytes read at a time while a file is checked."""


def write_tables(
    draft: Draft, name: str, schema: pa.Schema, tables: Callable[[], Iterable[pa.Table]]
) -> FileEntry:
    """Write one Parquet file of an attempt from tables that come one by one.

    The store's stream is closed before the entry is made; a file whose stream broke is in no entry, so it is
    in no manifest and counts for nothing.

    Args:
        draft: The attempt.
        name: Of the file.
        schema: Of every table.
        tables: Makes the tables, in order; called again if the store goes away meanwhile.
    """
    path = f"{draft.attempt}/{name}"
    sinks: list[HashingSink] = []

    def produce(stream: BinaryIO) -> None:
        sinks.append(HashingSink(stream))
        with pq.ParquetWriter(sinks[-1], schema, compression="zstd") as writer:
            for table in regrouped(tables(), ROW_GROUP):
                writer.write_table(table, row_group_size=ROW_GROUP)

    draft.place.write_stream(path, produce)
    return FileEntry(path, sinks[-1].size, sinks[-1].sha256)


class HashingSink:
    """A binary stream that counts and hashes the bytes it passes on."""

    closed = False

    def __init__(self, stream: BinaryIO) -> None:
        """Pass on to an open stream, which stays the caller's to close."""
        self._stream = stream
        self._hash = hashlib.sha256()
        self.size = 0
        """Bytes so far."""

    @property
    def sha256(self) -> str:
        """Hash of the bytes so far, in hex."""
        return self._hash.hexdigest()

    def write(self, data: Any) -> int:
        """Pass bytes on."""
        self._stream.write(data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """Left to whoever opened the stream."""


def regrouped(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut the rows of consecutive tables into tables of `size` rows, the last one shorter."""
    held: list[pa.Table] = []
    count = 0
    for table in tables:
        held.append(table)
        count += len(table)
        while count >= size:
            whole = pa.concat_tables(held)
            yield whole.slice(0, size).combine_chunks()
            held, count = [whole.slice(size)], count - size
    if count:
        yield pa.concat_tables(held).combine_chunks()


def row_groups(
    artifact: Artifact, name: str, columns: Sequence[str] | None = None, numbers: range | None = None
) -> Iterator[pa.Table]:
    """Read a Parquet file of a result, checked against its manifest first, one row group at a time.

    Args:
        artifact: The result.
        name: Of the file.
        columns: Those wanted; all if none.
        numbers: Row groups wanted, of ROW_GROUP rows each; all if none.

    Raises:
        ArtifactError: the file is missing or differs from what was written, or the store stayed away.
    """
    require_as_written(artifact, name)
    filesystem, path = resolve(artifact.uri_of(name))

    def opened(read: Callable[[pq.ParquetFile], Any]) -> Any:
        with filesystem.open_input_file(path) as source:
            return read(pq.ParquetFile(source))

    def ask(read: Callable[[pq.ParquetFile], Any]) -> Any:
        return artifact.place.retried(lambda: opened(read), name)

    wanted = None if columns is None else list(columns)
    for number in range(ask(lambda file: file.num_row_groups)) if numbers is None else numbers:
        yield ask(partial(_read_row_group, number=number, columns=wanted))


def _read_row_group(file: pq.ParquetFile, *, number: int, columns: list[str] | None) -> pa.Table:
    return file.read_row_group(number, columns=columns, use_threads=False)


def require_as_written(artifact: Artifact, name: str) -> None:
    """Hash a file of a result, some of it at a time.

    Raises:
        ArtifactError: the file is missing or differs from what was written.
    """
    entry, uri = artifact.entry(name), artifact.uri_of(name)
    try:
        size, sha256 = artifact.place.retried(lambda: _hashed(uri), name)
    except FileNotFoundError as error:
        raise entry.changed(artifact.place, "no file") from error
    if (size, sha256) != (entry.size, entry.sha256):
        raise entry.changed(artifact.place, f"{size} other bytes")


def _hashed(uri: str) -> tuple[int, str]:
    filesystem, path = resolve(uri)
    size, sha256 = 0, hashlib.sha256()
    with filesystem.open_input_stream(path, compression=None) as stream:
        while data := stream.read(HASHED_AT_ONCE):
            sha256.update(data)
            size += len(data)
    return size, sha256.hexdigest()


def as_rows(column: pa.ChunkedArray) -> NDArray[Any]:
    """Turn a column of equally long lists into a matrix [n, K]."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows: NDArray[Any] = flat.reshape(len(column), -1)
    return rows


def as_lists(rows: NDArray[Any]) -> pa.ListArray:
    """Turn a matrix [n, K], K >= 1, into a column of equally long lists."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))


def schema_of(artifact: Artifact, name: str) -> pa.Schema:
    """The columns of a Parquet file of a result.

    Raises:
        ArtifactError: it cannot be read.
    """
    filesystem, path = resolve(artifact.uri_of(name))

    def ask() -> pa.Schema:
        with filesystem.open_input_file(path) as source:
            return pq.read_schema(source)

    return artifact.place.retried(ask, name)
