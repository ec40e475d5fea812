"""The columns beside vectors that name images, streamed: by id, source or key, as in `images.parquet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import pyarrow as pa

from rayscan.embeddings.parquet_files import batches
from rayscan.embeddings.vector_file import VectorFile
from rayscan.errors import DataError

Kind = Literal["id", "source", "key"]
KINDS: tuple[Kind, ...] = ("id", "source", "key")
COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "id": ("id", "image_id"),
    "source": ("source", "uri", "path", "image_path", "file_name", "url"),
    "key": ("key", "__key__", "image_path"),
}
"""Names of the columns that hold a kind of key; the first that is there is taken. clip-retrieval writes the
keys of tar shards, as well as the paths of files, into image_path."""
ROWS_AT_ONCE = 131_072


def key_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Columns of a table that may name images: text or whole numbers, by their names."""
    known = {name for names in COLUMNS.values() for name in names}
    return tuple(field.name for field in schema if field.name in known and _is_name(field.type))


def column_of(columns: Sequence[str], kind: Kind) -> str | None:
    """The column that holds a kind of key; None if there is none."""
    return next((name for name in COLUMNS[kind] if name in columns), None)


def stream_columns(file: VectorFile, columns: Sequence[str]) -> Iterator[dict[str, pa.StringArray]]:
    """Some columns of keys of a file, as text, some rows at a time.

    Raises:
        DataError: they cannot be read, are no text in UTF-8, or are fewer than the vectors.
    """
    assert file.keys is not None, file
    where, rows = f"{file.keys.uri}#{','.join(columns)}", 0
    try:
        for batch in batches(file.keys.uri, columns, ROWS_AT_ONCE):
            rows += len(batch)
            yield {name: batch.column(name).cast(pa.string()) for name in columns}
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            "keys of vectors cannot be read",
            expected="text in UTF-8, or whole numbers",
            got=error,
            where=where,
        ) from error
    if rows != file.rows:
        raise DataError(
            "there are not as many keys as vectors", expected=f"{file.rows:,}", got=f"{rows:,}", where=where
        )


def _is_name(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_text or pa.types.is_integer(kind))
