"""Parquet files of the user: schema, number of rows, and some columns read some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.errors import DataError
from rayscan.storage import is_local, locate, policy_of, retry

T = TypeVar("T")

LOCAL_BUFFER = 1 << 20
REMOTE_BUFFER = 8 << 20


def ask(uri: str, read: Callable[[pq.ParquetFile], T]) -> T:
    """An answer from the footer or the pages of a file.

    Raises:
        DataError: it is not there, or no Parquet.
    """

    def opened() -> T:
        with open_parquet(uri) as file:
            return read(file)

    try:
        return retry(opened, policy_of(uri))
    except (OSError, pa.ArrowException) as error:
        raise unreadable(uri, error) from error


def open_parquet(uri: str) -> pq.ParquetFile:
    """A file whose columns are read in buffers, not whole row groups; closed by the caller.

    Raises:
        OSError: it cannot be opened.
        pa.ArrowException: it is no Parquet.
    """
    filesystem, path = locate(uri)
    buffer = LOCAL_BUFFER if is_local(uri) else REMOTE_BUFFER
    return pq.ParquetFile(filesystem.open_input_file(path), buffer_size=buffer, pre_buffer=False)


def batches(
    uri: str, columns: Sequence[str], size: int, groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Some columns of a file, some rows at a time.

    Args:
        uri: The file.
        columns: Their names.
        size: Rows at a time, at most.
        groups: Numbers of the row groups to be read; all if left out.

    Raises:
        OSError: the file cannot be read.
        DataError: it is damaged.
    """
    try:
        with open_parquet(uri) as file:
            yield from file.iter_batches(size, row_groups=groups, columns=list(columns), use_threads=False)
    except pa.ArrowException as error:
        if isinstance(error, OSError):
            raise
        raise unreadable(uri, error) from error


def unreadable(uri: str, error: Any) -> DataError:
    """The error of a file that cannot be read as Parquet."""
    return DataError(
        "a Parquet file cannot be read",
        expected="a whole Parquet file",
        got=error,
        where=uri,
        fix="copy or write it again",
    )
