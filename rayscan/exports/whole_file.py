"""A file that appears whole or not at all, and is never in memory as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from mmap import ACCESS_READ, mmap
from typing import IO, Any

import pyarrow as pa

from rayscan.storage import split_uri


def write_whole(out: str, produce: Callable[[IO[bytes]], int]) -> str:
    """Write to a temporary file, which is then put to its address as a whole.

    Args:
        out: Address of the file.
        produce: Writes the content, at least one byte; returns how many rows it has.

    Returns:
        A line that says how many rows were written, and where.
    """
    place, name = split_uri(out)
    with tempfile.TemporaryFile() as spool:
        count = produce(spool)
        spool.flush()
        with mmap(spool.fileno(), 0, access=ACCESS_READ) as whole, memoryview(whole) as data:
            place.write(name, data)
    return f"{count:,} rows: {place.uri_of(name)}"


def write_tables_whole(
    out: str, tables: Iterable[pa.Table], opened: Callable[[IO[bytes], pa.Schema], Any]
) -> str:
    """Write tables one after the other to a file, as `write_whole` does.

    Args:
        out: Address of the file.
        tables: At least one, all of one schema.
        opened: Makes a writer with `write_table` and `close` on a stream, for a schema.

    Returns:
        A line that says how many rows were written, and where.
    """

    def produce(sink: IO[bytes]) -> int:
        count, writer = 0, None
        for rows in tables:
            writer = writer or opened(sink, rows.schema)
            writer.write_table(rows)
            count += len(rows)
        assert writer is not None  # a run has images
        writer.close()
        return count

    return write_whole(out, produce)
