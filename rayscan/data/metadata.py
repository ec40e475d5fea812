"""Metadata of images: further columns of lists, of a folder's `metadata.csv`, of Parquet files and of notes.

They go into `metadata.parquet` of the index, by gid, for exports and names. No stage reads them, and columns
of labels stay out: those come by `--labels`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from rayscan import storage
from rayscan.artifacts import Artifact
from rayscan.data import addresses
from rayscan.data.metadata_columns import flat, together
from rayscan.data.sources.table import read_table
from rayscan.errors import DataError
from rayscan.storage import join
from rayscan.text import slashed

METADATA = "metadata.parquet"
"""File of the index: `gid`, and the columns; rows of images without metadata are left out."""
NAMED = 3
"""So many are named of what is missing."""
FOLDER_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Files that describe the pictures of their folder and below, as Hugging Face's imagefolder has them."""
FILE_NAME = "file_name"
"""Their column with the path of a picture, from their own folder."""


def of_folders(uris: Iterable[str]) -> dict[str, pa.Table]:
    """What the metadata files of folders say, by their addresses: `uri` of each picture, and columns.

    Args:
        uris: Addresses of all files that are no pictures; others than metadata files are passed over.

    Raises:
        DataError: a metadata file cannot be read.
    """
    named = [uri for uri in sorted(uris) if addresses.plain(uri).rpartition("/")[2] in FOLDER_FILES]
    tables = {uri: _of_folder(uri) for uri in named}
    return {uri: table for uri, table in tables.items() if table is not None}


def of_pictures(tables: Sequence[pa.Table]) -> pa.Table | None:
    """All that lists and folders say of pictures by `uri`; None if nothing.

    Raises:
        DataError: two rows are about one picture.
    """
    if not tables:
        return None
    table = together(tables)
    twice = [row["values"] for row in table["uri"].value_counts().to_pylist() if row["counts"] > 1]
    if twice:
        raise DataError(
            "metadata speaks of a picture twice",
            expected="one row a picture",
            got=f"{len(twice):,} pictures, such as {twice[0]}",
            where="lists and metadata files",
            fix="keep one row",
        )
    return table


def _of_folder(uri: str) -> pa.Table | None:
    data = storage.read(uri)
    try:
        if addresses.plain(uri).endswith(".jsonl"):
            table = pa_json.read_json(pa.BufferReader(data), pa_json.ReadOptions(use_threads=False))
        else:
            table = read_table(addresses.plain(uri), data)
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(
            "a metadata file cannot be read",
            expected=f"{' or '.join(FOLDER_FILES)}; text in UTF-8 or UTF-16",
            got=error,
            where=uri,
            fix="repair it, or give it another name if it is about something else",
        ) from error
    if FILE_NAME not in table.column_names:
        return None  # a file of somebody else's that happens to have this name
    folder = addresses.parent(uri)
    names = slashed(table[FILE_NAME].cast(pa.string()).to_pylist())
    uris = pa.array([None if name is None else join(folder, name.removeprefix("./")) for name in names])
    kept = flat(table, [FILE_NAME]).append_column("uri", uris)
    return kept.filter(pc.is_valid(kept["uri"]))


def of_index(
    rows: pa.Table, listed: Iterable[pa.Table | None], scanned: Iterable[tuple[int, pa.Table | None]]
) -> pa.Table | None:
    """Metadata of the images of an index, by gid; None if there is none.

    Args:
        rows: Columns gid and source of the index.
        listed: What lists and folders say, with column `uri`.
        scanned: Images of each part of the index in its order, and what their files say, a row per image.
    """
    tables = [of_files(rows, told) for told in listed if told is not None]
    first = 0
    for count, told in scanned:
        if told is not None:
            tables.append(told.add_column(0, "gid", rows["gid"].slice(first, count)))
        first += count
    tables = [table for table in tables if len(table)]
    return together(tables).sort_by("gid") if tables else None


def fingerprint(table: pa.Table) -> str:
    """Sha256 of what a table holds."""
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink)
    return hashlib.sha256(memoryview(sink.getvalue())).hexdigest()


def of_files(rows: pa.Table, told: pa.Table) -> pa.Table:
    """Metadata of images that are files, by gid.

    Args:
        rows: Columns gid and source of the index.
        told: Column `uri`, and the others.
    """
    places = pc.index_in(rows["source"], told["uri"])
    found = pc.is_valid(places)
    chosen = told.drop_columns(["uri"]).take(places.filter(found))
    return chosen.add_column(0, "gid", rows["gid"].filter(found))


def absent_in_words(rows: pa.Table, listed: Iterable[pa.Table | None]) -> list[str]:
    """A line on rows of metadata that name no picture, if there are any.

    Args:
        rows: Column source of the index.
        listed: What lists and folders say, with column `uri`.
    """
    told = [table["uri"] for table in listed if table is not None]
    absent = [uri for one in told for uri in one.filter(pc.invert(pc.is_in(one, rows["source"]))).to_pylist()]
    named = ", ".join(uri.rpartition("/")[2] for uri in absent[:NAMED])
    return [f"{len(absent):,} rows of metadata name no picture that is here: {named}"] if absent else []


def metadata_of(index: Artifact) -> pa.Table | None:
    """The metadata of an index: gid, rising, and the columns; None if it has none.

    Raises:
        ArtifactError: the file is missing or altered.
    """
    return index.read_table(METADATA) if METADATA in index.files else None
