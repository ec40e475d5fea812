"""Lists of images: `.csv` and `.parquet` with `uri` or `path` and perhaps `id`, `.txt` with a name a line."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rayscan import storage
from rayscan.data import addresses
from rayscan.data.sources.base import ListFormat
from rayscan.errors import DataError

_TEXT_COLUMNS = ("uri", "path", "id", "source", "key", "split", "label", "class")


class TableOfNames(ListFormat):
    """A table with a row per image, or a text file with a line per image."""

    suffixes = (".parquet", ".csv", ".txt")

    def names(self, uri: str) -> tuple[list[str | None], list[str | None]]:
        """See `ListFormat.names`."""
        name, data = addresses.plain(uri), storage.read(uri)
        try:
            if name.lower().endswith(".txt"):
                lines = [line.strip() for line in data.decode().splitlines() if line.strip()]
                return list(lines), [None] * len(lines)
            table = read_table(name, data)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise DataError(
                "a list cannot be read", expected=" ".join(self.suffixes), got=error, where=uri
            ) from error
        column = next((c for c in ("uri", "path") if c in table.column_names), None)
        if column is None:
            raise DataError(
                "a list has no addresses", expected="a column uri or path", got=table.column_names, where=uri
            )
        has_ids = "id" in table.column_names
        ids = table["id"].cast(pa.string()).to_pylist() if has_ids else [None] * len(table)
        return table[column].cast(pa.string()).to_pylist(), ids

    def columns(self, uri: str) -> pa.Table | None:
        """See `ListFormat.columns`; addresses and ids are in the index already."""
        name = addresses.plain(uri)
        if name.lower().endswith(".txt"):
            return None
        table = read_table(name, storage.read(uri))
        address = next((c for c in ("uri", "path") if c in table.column_names), None)
        return table.drop_columns([c for c in (address, "id") if c in table.column_names])


def read_table(name: str, data: bytes) -> pa.Table:
    """Rows of a CSV or Parquet file; names, ids and labels of a CSV stay text, so that 007 is not 7.

    Raises:
        pa.ArrowInvalid: the bytes are neither.
    """
    if name.lower().endswith(".parquet"):
        return pq.read_table(pa.BufferReader(data), use_threads=False)
    as_text = dict.fromkeys(_TEXT_COLUMNS, pa.string())
    return pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(use_threads=False),
        convert_options=pa_csv.ConvertOptions(column_types=as_text),
    )
