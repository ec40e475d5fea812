"""An index made of vectors alone: a row per vector, no pictures. `data.table.ImageTable` loads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan.artifacts import Artifact, Draft, FileEntry, digest
from rayscan.data.table import IMAGE_SCHEMA, IMAGES, SHARDS, Split
from rayscan.embeddings.key_columns import KINDS, ROWS_AT_ONCE, Kind, column_of, stream_columns
from rayscan.embeddings.text_digests import digests_of, first_repeated
from rayscan.embeddings.vector_file import VectorFile
from rayscan.embeddings.vectors import Vectors
from rayscan.errors import DataError
from rayscan.tables import write_tables

OK = "ok"
_SHARD_SCHEMA = pa.schema(
    {"shard": pa.int32(), "uri": pa.string(), "bytes": pa.int64(), "count": pa.int64(), "sha256": pa.string()}
)
_QUARANTINE_SCHEMA = pa.schema(
    {"gid": pa.int64(), "key": pa.string(), "source": pa.string(), "reason": pa.string()}
)


def tables_of(vectors: Vectors, split: Split = "train") -> Iterator[pa.Table]:
    """Rows of `images.parquet`, some at a time, in the order of the vectors.

    The key is the key column, else id, else source, else the row number; shard and offset are the number of
    the file and the row in it. Length, crc32, width and height are 0: there is no picture.

    Args:
        vectors: The vectors.
        split: The split that all rows belong to.

    Raises:
        DataError: the keys cannot be read.
    """
    kinds: list[Kind] = [kind for kind in KINDS if vectors.has_keys(kind)]
    if kinds and column_of(vectors.files[0].key_columns, "key") == "image_path":
        kinds.remove("key")  # it is the source here
    first = 0
    for number, file in enumerate(vectors.files):
        at = 0
        for named in _named(file, kinds):
            count = len(next(iter(named.values()))) if named else min(ROWS_AT_ONCE, file.rows - at)
            yield _table(named, split, shard=number, gid=first + at, offset=at, count=count)
            at += count
        first += file.rows


def _named(file: VectorFile, kinds: list[Kind]) -> Iterator[dict[Kind, pa.Array]]:
    """The keys of a file by kind, some rows at a time; nothing per piece if there are none."""
    if not kinds:
        yield from ({} for _ in range(0, file.rows, ROWS_AT_ONCE))
        return
    columns = {kind: column_of(file.key_columns, kind) or "" for kind in kinds}
    for batch in stream_columns(file, sorted(set(columns.values()))):
        yield {kind: batch[name] for kind, name in columns.items()}


def _table(
    named: dict[Kind, pa.Array], split: Split, *, shard: int, gid: int, offset: int, count: int
) -> pa.Table:
    gids = np.arange(gid, gid + count)
    key = next((named[kind] for kind in ("key", "id", "source") if kind in named), None)
    plain = {name: np.zeros(count, np.int64) for name in ("length", "crc32", "width", "height")}
    columns: dict[str, Any] = {
        "gid": gids,
        "split": pa.repeat(split, count),
        "shard": np.full(count, shard),
        "key": pa.array(gids).cast(pa.string()) if key is None else key,
        "offset": np.arange(offset, offset + count),
        "status": pa.repeat(OK, count),
        "source": pc.fill_null(named["source"], "") if "source" in named else pa.repeat("", count),
        "id": named.get("id", pa.nulls(count, pa.string())),
        **plain,
    }
    return pa.table({name: columns[name] for name in IMAGE_SCHEMA.names}).cast(IMAGE_SCHEMA)


def require_keys(vectors: Vectors) -> None:
    """Refuse vectors whose keys do not tell their rows apart.

    Raises:
        DataError: a key is null, empty or comes twice.
    """
    if not any(vectors.has_keys(kind) for kind in KINDS):
        return
    digests = digests_of(table["key"].combine_chunks() for table in tables_of(vectors))
    empty, twice = np.flatnonzero(~digests.is_there), first_repeated(digests)
    if len(empty) or twice is not None:
        rows = f"rows {twice[0]:,} and {twice[1]:,}" if twice else f"none in row {empty[0]:,}"
        raise DataError(
            "keys do not tell the rows of the vectors apart",
            expected="a key, id or source per row, each once",
            got=rows,
            where=f"{vectors.spec}, columns {', '.join(vectors.files[0].key_columns)}",
            fix="correct the column, or leave it out: rows then go by their number",
        )


def index_files(vectors: Vectors, draft: Draft, split: Split = "train") -> dict[str, FileEntry]:
    """Write the files of an index of vectors alone.

    Raises:
        DataError: see `require_keys`.
    """
    require_keys(vectors)
    shards = {
        "shard": pa.array(range(len(vectors.files)), pa.int32()),
        "uri": [file.uri for file in vectors.files],
        "bytes": pa.array([file.size for file in vectors.files], pa.int64()),
        "count": pa.array([file.rows for file in vectors.files], pa.int64()),
        "sha256": [""] * len(vectors.files),  # so that no cache of pictures fetches them
    }
    return {
        IMAGES: write_tables(draft, IMAGES, IMAGE_SCHEMA, lambda: tables_of(vectors, split)),
        SHARDS: draft.write_table(SHARDS, pa.table(shards, _SHARD_SCHEMA)),
        "quarantine.parquet": draft.write_table("quarantine.parquet", _QUARANTINE_SCHEMA.empty_table()),
    }


def index_of_vectors(vectors: Vectors, draft: Draft, identity: str, split: Split = "train") -> Artifact:
    """Write and commit an index of vectors alone.

    Args:
        vectors: The vectors.
        draft: The attempt of stage index.
        identity: Hash of their content, as `identity.content_identity` gives it.
        split: The split that all rows belong to.

    Raises:
        DataError: see `require_keys`.
    """
    counts = {name: vectors.rows if name == split else 0 for name in ("train", "eval")}
    facts = {**counts, "quarantined": 0, "cls": 0, "json": 0, "imageless": 0, "pictures": 0}
    files = index_files(vectors, draft, split)
    return draft.commit(files, facts=facts, identity=digest({"vectors": identity, "split": split}))
