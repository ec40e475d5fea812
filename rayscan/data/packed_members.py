"""Images inside zip archives and Parquet files, on their way into shards. For `packing`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rayscan.data.sources import named_format
from rayscan.data.sources.base import Format, Rows, SourceFile
from rayscan.data.stored_files import StoredFiles
from rayscan.data.table import ImageTable
from rayscan.errors import DataError

UNDECODED = 0
"""Limit of pixels under which no picture is decoded: it is only found."""


class Stored(NamedTuple):
    """An image, whether it is a file or lies inside one."""

    key: str
    """Its path, with the file it lies in as a folder."""
    uri: str
    """The file it lies in."""
    size: int
    """Bytes; -1 if there are none."""
    offset: int | None = None
    """Where it lies, as its format says; None if it is the whole file."""


def stored_in(job: tuple[Format, SourceFile]) -> tuple[list[Stored], Mapping[str, int]]:
    """The images of a file that holds many, and what else is in it, as `Scan.members`; runs on a worker.

    Raises:
        DataError: the file is damaged, or cannot be read.
    """
    known, entry = job
    found = []
    scan = known.scan(entry, max_pixels=UNDECODED)
    for row in scan.rows:
        name = row["key"].removeprefix(f"{entry.key}#")
        size = row["length"] if row["status"] != "missing" else -1
        found.append(Stored(f"{entry.key}/{name}", entry.uri, size, row["offset"]))
    return found, scan.members


def read_stored(rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Images that lie inside files.

    Args:
        rows: With `uri`, `offset`, `size` and `source`.

    Raises:
        DataError: a file cannot be read, or has changed.
    """
    uris = sorted({row["uri"] for row in rows})
    files, number_of = _files(uris), {uri: number for number, uri in enumerate(uris)}
    data = [b""] * len(rows)
    for uri in uris:
        chosen = [number for number, row in enumerate(rows) if row["uri"] == uri]
        offsets, lengths = (
            np.array([rows[n][name] for n in chosen], np.int64) for name in ("offset", "size")
        )
        shard = np.full(len(chosen), number_of[uri], np.int64)
        for number, one in zip(
            chosen, named_format(uri).read(files, Rows(shard, offsets, lengths)).data, strict=True
        ):
            data[number] = one
    for row, one in zip(rows, data, strict=True):
        if len(one) != row["size"]:
            raise DataError(
                "an image has changed since it was found",
                expected=f"{row['size']:,} bytes",
                got=f"{len(one):,}",
                where=f"{row['source']} in {row['uri']}",
                fix="pack into an empty folder",
            )
    return data


def _files(uris: Sequence[str]) -> StoredFiles:
    """Files that are read by position, without an index."""
    none = np.zeros(0, np.int64)
    table = ImageTable(
        shard=none.astype(np.int32),
        offset=none,
        length=none,
        crc32=none.astype(np.uint32),
        width=none.astype(np.int32),
        height=none.astype(np.int32),
        is_ok=none.astype(bool),
        is_eval=none.astype(bool),
        shard_uris=tuple(uris),
    )
    return StoredFiles(table, None)
