"""A file that appears whole or not at all, and is never in memory as a whole."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from typing import IO

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
