"""The work of indexing, cut into chunks of files: each is scanned by one task, which stores what it found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.artifacts import Draft
from rayscan.data.inspection import OK
from rayscan.data.listing import Listing
from rayscan.data.sources.base import Format, SourceFile
from rayscan.data.table import IMAGE_SCHEMA

_CHUNK_SCHEMA = pa.schema([field for field in IMAGE_SCHEMA if field.name != "gid"])
_SHARD_SCHEMA = pa.schema(
    {"shard": pa.int32(), "uri": pa.string(), "bytes": pa.int64(), "count": pa.int64(), "sha256": pa.string()}
)


@dataclass(frozen=True)
class Chunk:
    """Files to be scanned by one task: one that holds many images, or some that hold one each."""

    draft: Draft
    number: int
    split: str
    format: Format
    first_shard: int
    entries: tuple[SourceFile, ...]
    max_pixels: int

    @property
    def name(self) -> str:
        """Name of the finished part."""
        return f"{self.number:06d}"


def chunks_of(draft: Draft, listings: Mapping[str, Listing], max_pixels: int) -> list[Chunk]:
    """Cut listings into chunks, split after split.

    Args:
        draft: The attempt that finished chunks are stored in.
        listings: By split.
        max_pixels: Images that declare more go into quarantine undecoded.
    """
    chunks: list[Chunk] = []
    first_shard = 0
    for split, listing in listings.items():
        for entries in listing.batches():
            chunks.append(Chunk(draft, len(chunks), split, listing.format, first_shard, entries, max_pixels))
            first_shard += len(entries)
    return chunks


def scan_chunk(chunk: Chunk) -> dict[str, int]:
    """Scan one chunk and store what was found; runs on a worker.

    Returns:
        How many images there are, and how many of them are bad.
    """
    rows: list[dict[str, Any]] = []
    shards: list[dict[str, Any]] = []
    members: Counter[str] = Counter()
    for number, entry in enumerate(chunk.entries, start=chunk.first_shard):
        scan = chunk.format.scan(entry, max_pixels=chunk.max_pixels)
        rows += [{**row, "shard": number, "split": chunk.split} for row in scan.rows]
        told = {"uri": entry.uri, "bytes": scan.size, "count": len(scan.rows), "sha256": scan.sha256}
        shards.append({"shard": number, **told})
        members.update(scan.members)
    entries = {
        "rows": chunk.draft.write_table(
            f"part-{chunk.name}.parquet", pa.Table.from_pylist(rows, _CHUNK_SCHEMA)
        ),
        "shards": chunk.draft.write_table(
            f"part-{chunk.name}-shards.parquet", pa.Table.from_pylist(shards, _SHARD_SCHEMA)
        ),
    }
    if scan.metadata is not None:  # files that have any are a chunk each
        entries["metadata"] = chunk.draft.write_table(f"part-{chunk.name}-metadata.parquet", scan.metadata)
    chunk.draft.finish_part(chunk.name, entries, members)
    return {"images": len(rows), "bad": sum(row["status"] != OK for row in rows)}


@dataclass(frozen=True)
class ScannedChunk:
    """The result of a chunk, as a worker stored it."""

    rows: pa.Table
    """One per image, all columns of the index but gid."""
    shards: pa.Table
    """One per file."""
    metadata: pa.Table | None
    members: Mapping[str, int]
    """See `Scan.members`, summed."""
    paths: tuple[str, ...]
    """Files of the draft that hold all this."""


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
    return ScannedChunk(tables["rows"], tables["shards"], tables.get("metadata"), members, paths)
