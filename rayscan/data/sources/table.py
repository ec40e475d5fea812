"""Lists of images: `.csv` and `.parquet` with an address and perhaps `id`, `.txt` with a name a line.

In a `.txt`, a line that begins with `# ` is a comment and quotes around a name are none of it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from rayscan import storage
from rayscan.data import addresses
from rayscan.data.sources.base import ListFormat
from rayscan.errors import DataError
from rayscan.text import decoded, lines_of, separated, slashed

_MORE_THAN_A_NAME = (
    re.compile(r".*\.[A-Za-z0-9]{2,5}[ \t,;]+[^/\\.]*"),  # a name and a class
    re.compile(r"[^\t]*\t.*"),
    re.compile(r"\d+[ ,;]+.*"),  # a number and a name
)
ADDRESSES = ("uri", "path", "file_name")
"""Columns of a list that may have the addresses, the first of them that is there."""
_TEXT_COLUMNS = (*ADDRESSES, "id", "source", "key", "split", "label", "class")
"""Columns that are known by these names in any case, and are text."""


class TableOfNames(ListFormat):
    """A table with a row per image, or a text file with a line per image."""

    suffixes = (".parquet", ".csv", ".tsv", ".txt")

    def names(self, uri: str) -> tuple[list[str | None], list[str | None]]:
        """See `ListFormat.names`."""
        name, data = addresses.plain(uri), storage.read(uri)
        try:
            if name.lower().endswith(".txt"):
                lines = _names_of(decoded(data), uri)
                return list(lines), [None] * len(lines)
            table = read_table(name, data)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise DataError(
                "a list cannot be read",
                expected=f"{' '.join(self.suffixes)}; text in UTF-8 or UTF-16",
                got=error,
                where=uri,
                fix="save it as UTF-8"
                if isinstance(error, UnicodeDecodeError)
                else "write each column once, as many cells in every row, quotes around one with a separator",
            ) from error
        column = next((c for c in ADDRESSES if c in table.column_names), None)
        if column is None:
            raise DataError(
                "a list has no addresses",
                expected=f"a column {', '.join(ADDRESSES[:-1])} or {ADDRESSES[-1]}",
                got=table.column_names,
                where=uri,
                fix="give one of these names to the column with the paths; a column that holds the pictures "
                "themselves, as bytes in Parquet, is named by --image-column",
            )
        names = slashed(texts(table, column, uri))
        return names, texts(table, "id", uri) if "id" in table.column_names else [None] * len(table)

    def columns(self, uri: str) -> pa.Table | None:
        """See `ListFormat.columns`; addresses and ids are in the index already."""
        name = addresses.plain(uri)
        if name.lower().endswith(".txt"):
            return None
        table = read_table(name, storage.read(uri))
        address = next((c for c in ADDRESSES if c in table.column_names), None)
        return table.drop_columns([c for c in (address, "id") if c in table.column_names])


def _names_of(text: str, uri: str) -> list[str]:
    """Names of a list with one a line.

    Raises:
        DataError: its lines hold more than a name.
    """
    lines = [line for line in lines_of(text) if not line.startswith("# ")]
    lines = [line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' else line for line in lines]
    if lines and any(all(pattern.fullmatch(line) for line in lines) for pattern in _MORE_THAN_A_NAME):
        raise DataError(
            "a list has more than a name in its lines",
            expected="one path or URI a line",
            got=repr(lines[0]),
            where=uri,
            fix="leave the names alone, or write a .csv with a column path; labels go into --labels",
        )
    return [line or "" for line in slashed(lines)]


def texts(table: pa.Table, name: str, uri: str) -> list[str | None]:
    """A column as text; null, not-a-number and empty cells as None.

    Raises:
        DataError: its cells are not text or numbers.
    """
    column = table[name]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        if pa.types.is_nested(column.type):
            raise pa.ArrowInvalid("no text")
        cells = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"the column {name} cannot be used",
            expected="text or numbers, one a row",
            got=column.type,
            where=uri,
            fix="write one value a row, as text",
        ) from error
    return [value.strip() or None if value is not None else None for value in cells]


def read_table(name: str, data: bytes) -> pa.Table:
    """Rows of a CSV or Parquet file; names, ids and labels of a CSV stay text, so that 007 is not 7.

    A CSV may be in UTF-8 or UTF-16, its cells parted by commas, semicolons, tabs or bars.

    Args:
        name: Of the file, for its end.
        data: All bytes.

    Raises:
        pa.ArrowInvalid: the bytes are neither, or two columns have the same name.
        UnicodeDecodeError: text in another encoding.
    """
    if name.lower().endswith(".parquet") or data.startswith(b"PAR1"):
        _require_unique(pq.read_schema(pa.BufferReader(data)).names)
        return _known(pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False))
    text, separator = separated(decoded(data))
    header = _header(text, separator)
    as_text = {name: pa.string() for name in header if name.strip().lower() in _TEXT_COLUMNS}
    sink = pa.BufferOutputStream()  # memory of Arrow's own: its threads read ahead, and let go of it late
    sink.write(text.encode())
    table = pa_csv.read_csv(
        pa.BufferReader(sink.getvalue()),
        read_options=pa_csv.ReadOptions(use_threads=False),
        parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values='"' in text),
        convert_options=pa_csv.ConvertOptions(column_types=as_text),
    )
    table = table.rename_columns([column.strip() for column in table.column_names])
    _require_unique(table.column_names)
    return _without_empty_rows(_known(table))


def _header(text: str, separator: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text), delimiter=separator), [])
    except csv.Error:  # Arrow will say what is wrong
        return []


def _known(table: pa.Table) -> pa.Table:
    """The table with the names of columns that mean something here as they are written here: Path is path."""
    lower = [name.lower() for name in table.column_names]
    return table.rename_columns(
        [
            low if low in _TEXT_COLUMNS and lower.count(low) == 1 else name
            for name, low in zip(table.column_names, lower, strict=True)
        ]
    )


def _without_empty_rows(table: pa.Table) -> pa.Table:
    """Without rows of which no cell holds anything: spreadsheets write them below the last one."""
    is_full = pa.chunked_array([pa.repeat(pa.scalar(False), len(table))])
    for column in table.columns:
        has_value = pc.is_valid(column)
        if pa.types.is_string(column.type):
            has_value = pc.and_(
                has_value, pc.not_equal(pc.utf8_trim_whitespace(pc.fill_null(column, "")), "")
            )
        is_full = pc.or_(is_full, has_value)
    return table if pc.all(is_full).as_py() is not False else table.filter(is_full)


def _require_unique(columns: Sequence[str]) -> None:
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise pa.ArrowInvalid(f"several columns are called {', '.join(twice)}")
