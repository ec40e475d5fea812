"""A folder as clip-retrieval writes it: `img_emb/img_emb_N.npy` beside `metadata/metadata_N.parquet`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rayscan import storage
from rayscan.embeddings.key_columns import key_columns
from rayscan.embeddings.parquet_files import ask
from rayscan.embeddings.vector_file import VectorFile
from rayscan.errors import DataError
from rayscan.storage import join

VECTORS, METADATA = "img_emb", "metadata"
_VECTORS = re.compile(r"img_emb_(\d+)\.npy")
_METADATA = re.compile(r"metadata_(\d+)\.parquet")


def pairs(folder: str) -> list[tuple[str, str]]:
    """Addresses of the parts by number, each with that of its metadata; empty for a folder of another kind.

    Raises:
        DataError: a part has no metadata while others do.
    """
    parts = _numbered(join(folder, VECTORS), _VECTORS)
    metadata = _numbered(join(folder, METADATA), _METADATA)
    lone = sorted(parts.keys() ^ metadata.keys())
    if parts and metadata and lone:
        here, there = (VECTORS, METADATA) if lone[0] in parts else (METADATA, VECTORS)
        raise DataError(
            "a part of the folder is missing",
            expected=f"as many parts in {there} as in {here}",
            got=f"part {lone[0]} in {here} alone; {len(parts)} of vectors, {len(metadata)} of metadata",
            where=folder,
            fix="copy the whole folder, or name the .npy files alone",
        )
    return [(parts[number], metadata.get(number, "")) for number in sorted(parts)]


def with_keys(files: Sequence[VectorFile], found: Sequence[tuple[str, str]]) -> list[VectorFile]:
    """Parts with the columns of their metadata.

    Args:
        files: The heads of the parts.
        found: As `pairs` gave them.

    Raises:
        DataError: a part has another number of rows than its metadata.
    """
    return [_with_keys(file, metadata) for file, (_, metadata) in zip(files, found, strict=True)]


def _with_keys(file: VectorFile, metadata: str) -> VectorFile:
    if not metadata:
        return file
    (info,) = storage.stat([metadata])
    schema, rows = ask(metadata, lambda stored: (stored.schema_arrow, int(stored.metadata.num_rows)))
    if rows != file.rows:
        raise DataError(
            "a part and its metadata differ in length",
            expected=f"{file.rows:,} rows, as in {file.uri}",
            got=f"{rows:,}",
            where=metadata,
            fix="copy both again, or name the .npy files alone",
        )
    return replace(file, keys=info, key_columns=columns) if (columns := key_columns(schema)) else file


def _numbered(folder: str, pattern: re.Pattern[str]) -> dict[int, str]:
    """Files of a folder by the number in their name."""
    names = [(pattern.fullmatch(name), name) for name in storage.names_in(folder)]
    return {int(match.group(1)): join(folder, name) for match, name in names if match}
