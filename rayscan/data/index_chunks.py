"""The work of indexing, cut into chunks of files: each is scanned by one task, which stores what it found."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.artifacts import Draft
from rayscan.data.inspection import OK, TONES
from rayscan.data.listing import Listing
from rayscan.data.sources.base import Format, SourceFile
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.data.tones import PLAIN, Decoding

_CHUNK_SCHEMA = pa.schema([field for field in IMAGE_SCHEMA if field.name != "gid"])
SHARD_SCHEMA = pa.schema(
    {
        "shard": pa.int32(),
        "uri": pa.string(),
        "bytes": pa.int64(),
        "count": pa.int64(),
        "sha256": pa.string(),
        "mtime_ns": pa.int64(),
        "members": pa.string(),
    }
)
"""Columns of `shards.parquet`: mtime_ns is 0 where the store does not tell, members is `Scan.members`."""
FORMER = "former"
"""Column of scanned rows: gid of the image in a former index, -1 if it is not known from there."""


@dataclass(frozen=True)
class Chunk:
    """Files to be scanned by one task: one that holds many images, or some that hold one each."""

    draft: Draft
    number: int
    split: str
    format: Format
    shards: tuple[int, ...]
    """Number of each file."""
    entries: tuple[SourceFile, ...]
    max_pixels: int
    how: Decoding = PLAIN
    after: str = ""
    """Former index that others of the files were taken over from."""

    @property
    def name(self) -> str:
        """Name of the finished part."""
        return f"{self.number:06d}{self.after}"


def numbered(listings: Mapping[str, Listing]) -> dict[str, dict[int, SourceFile]]:
    """The files of each split by their numbers, which go on from split to split."""
    counter = count()
    return {split: {next(counter): entry for entry in listing.entries} for split, listing in listings.items()}


def chunks_of(
    draft: Draft,
    listings: Mapping[str, Listing],
    max_pixels: int,
    how: Decoding = PLAIN,
    known: Collection[int] = (),
    after: str = "",
) -> list[Chunk]:
    """Cut listings into chunks, split after split.

    Args:
        draft: The attempt that finished chunks are stored in.
        listings: By split.
        max_pixels: Images that declare more are decoded reduced, or go into quarantine undecoded.
        how: See `decode`.
        known: Numbers of files that need not be scanned.
        after: Where those are known from.
    """
    chunks: list[Chunk] = []
    for split, files in numbered(listings).items():
        todo = {entry: number for number, entry in files.items() if number not in known}
        form = listings[split].format
        for entries in replace(listings[split], entries=tuple(todo)).batches():
            shards = tuple(todo[entry] for entry in entries)
            chunks.append(Chunk(draft, len(chunks), split, form, shards, entries, max_pixels, how, after))
    return chunks


def scan_chunk(chunk: Chunk) -> dict[str, int]:
    """Scan one chunk and store what was found; runs on a worker.

    Returns:
        How many images there are, and how many of them are bad.
    """
    rows: list[dict[str, Any]] = []
    shards: list[dict[str, Any]] = []
    members: Counter[str] = Counter()
    for number, entry in zip(chunk.shards, chunk.entries, strict=True):
        scan = chunk.format.scan(entry, max_pixels=chunk.max_pixels, how=chunk.how)
        rows += [{**row, "shard": number, "split": chunk.split} for row in scan.rows]
        told = {"uri": entry.uri, "bytes": scan.size, "count": len(scan.rows), "sha256": scan.sha256}
        own = json.dumps({name: found for name, found in scan.members.items() if found}, sort_keys=True)
        shards.append({"shard": number, **told, "mtime_ns": entry.mtime_ns, "members": own})
        members.update(scan.members)
    entries = {
        "rows": chunk.draft.write_table(
            f"part-{chunk.name}.parquet", pa.Table.from_pylist(rows, _CHUNK_SCHEMA)
        ),
        "shards": chunk.draft.write_table(
            f"part-{chunk.name}-shards.parquet", pa.Table.from_pylist(shards, SHARD_SCHEMA)
        ),
    }
    if deep := [row for row in rows if TONES in row]:
        told = {"crc32": [row["crc32"] for row in deep], TONES: [row[TONES].tolist() for row in deep]}
        entries[TONES] = chunk.draft.write_table(f"part-{chunk.name}-tones.parquet", pa.table(told))
    if scan.metadata is not None:  # files that have any are a chunk each
        entries["metadata"] = chunk.draft.write_table(f"part-{chunk.name}-metadata.parquet", scan.metadata)
    chunk.draft.finish_part(chunk.name, entries, members)
    return {"images": len(rows), "bad": sum(row["status"] != OK for row in rows)}


@dataclass(frozen=True)
class ScannedChunk:
    """The result of a chunk, as a worker stored it."""

    rows: pa.Table
    """One per image, all columns of the index but gid, and `FORMER`."""
    shards: pa.Table
    """One per file."""
    metadata: pa.Table | None
    members: Mapping[str, int]
    """See `Scan.members`, summed."""
    paths: tuple[str, ...]
    """Files of the draft that hold all this."""
    tones: pa.Table | None = None
    """Of images of more than 8 bits: crc32, and `TONES`."""


def finished_chunk(chunk: Chunk) -> ScannedChunk:
    """Read what was stored of a chunk that is finished."""
    finished = chunk.draft.finished_part(chunk.name)
    assert finished is not None, chunk.name
    entries, members = finished
    tables = {
        name: pq.ParquetFile(pa.BufferReader(chunk.draft.place.read(entry.path))).read(use_threads=False)
        for name, entry in entries.items()
    }
    paths = tuple(entry.path for entry in entries.values())
    rows = tables["rows"]
    rows = rows.append_column(FORMER, pa.array(np.full(len(rows), -1)))
    return ScannedChunk(rows, tables["shards"], tables.get("metadata"), members, paths, tables.get(TONES))
