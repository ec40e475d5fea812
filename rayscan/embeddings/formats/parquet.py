"""Vectors in a column of Parquet: lists, lists of a fixed size, or tensors; keys in columns beside."""

from __future__ import annotations

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.embeddings.file_bytes import require_unchanged
from rayscan.embeddings.formats.base import NAMES, Format, choose
from rayscan.embeddings.forward_rows import ForwardRows, Pieces
from rayscan.embeddings.key_columns import key_columns
from rayscan.embeddings.parquet_files import ask, batches
from rayscan.embeddings.vector_file import SCATTERED, VectorFile, refuse_type, require_matrix
from rayscan.errors import DataError
from rayscan.storage import FileInfo
from rayscan.types import Ints

PIECE_BYTES = 4 << 20
"""Vectors decoded at a time."""
_TYPES = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}


class Parquet(Format):
    """A row per image."""

    name = "parquet"
    suffixes = (".parquet", ".pq")

    def head(self, info: FileInfo, member: str) -> VectorFile:
        """See `Format.head`."""
        schema, rows = ask(info.uri, lambda file: (file.schema_arrow, int(file.metadata.num_rows)))
        lists = [field.name for field in schema if _is_candidate(field)]
        others = [name for name in schema.names if name not in lists]
        chosen = choose(lists, others, member, "column", info.uri)
        where, values = f"{info.uri}#{chosen}", _values(schema.field(chosen).type)
        if values not in _TYPES:
            raise refuse_type(schema.field(chosen).type, where)
        dim = _width(info.uri, chosen, schema.field(chosen).type) if rows else 0
        require_matrix((rows, dim), where)
        columns = key_columns(schema)
        return VectorFile(
            info.uri,
            info.size,
            info.mtime_ns,
            self.name,
            chosen,
            rows,
            dim,
            _TYPES[values],
            begin=SCATTERED,
            keys=info if columns else None,
            key_columns=columns,
        )

    def rows(self, file: VectorFile) -> ForwardRows:
        """See `Format.rows`. Reading begins at row groups."""
        require_unchanged(file)
        ends = ask(file.uri, _ends)

        def group_of(row: int) -> int:
            return min(int(np.searchsorted(ends, row, side="right")), len(ends) - 1)

        def starts(row: int) -> int:
            return int(ends[group_of(row) - 1]) if group_of(row) else 0

        return ForwardRows(file, starts, lambda row: _decoded(file, row, range(group_of(row), len(ends))))


def _is_candidate(field: pa.Field) -> bool:
    values = _values(field.type)
    return values in _TYPES or (field.name.lower() in NAMES and values is not None)


def _values(kind: pa.DataType) -> pa.DataType | None:
    """Type of the numbers in a column of lists; None for other columns."""
    kind = _stored(kind)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return kind.value_type if is_list else None


def _stored(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _width(uri: str, column: str, kind: pa.DataType) -> int:
    if pa.types.is_fixed_size_list(_stored(kind)):
        return int(_stored(kind).list_size)
    first = ask(uri, lambda file: next(file.iter_batches(1, columns=[column], use_threads=False)).column(0))
    return len(_lists(first).flatten())


def _ends(file: pq.ParquetFile) -> Ints:
    """Row after the last one of each row group: int64 [groups]."""
    counts = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    return np.cumsum(np.array(counts, np.int64))


def _decoded(file: VectorFile, first: int, groups: range) -> Pieces:
    """The rows of some row groups, some at a time; `first` is the number of the first."""
    size = max(1, PIECE_BYTES // (file.dim * file.number_type.itemsize))
    for batch in batches(file.uri, [file.member], size, list(groups)):
        lists = _lists(batch.column(0))
        _require_whole(lists, file, first)
        numbers = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), file.dim)
        yield file.number_type.as_float32(numbers)
        first += len(lists)


def _lists(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column


def _require_whole(lists: pa.Array, file: VectorFile, first: int) -> None:
    """Refuse rows without a vector, and of another width.

    Raises:
        DataError: naming the first.
    """
    wrong = partial(DataError, where=file.where)
    if lists.null_count:
        row = first + int(np.flatnonzero(lists.is_null().to_numpy(zero_copy_only=False))[0])
        raise wrong(
            "a row has no vector",
            expected=f"{file.dim} numbers",
            got=f"null in row {row:,}",
            fix="leave these rows out and match by id, source or key, or write NaN: they go into quarantine",
        )
    widths = lists.value_lengths().to_numpy(zero_copy_only=False)
    if (other := np.flatnonzero(widths != file.dim)).size:
        raise wrong(
            "vectors are of different widths",
            expected=f"{file.dim} numbers, as in the first row",
            got=f"{int(widths[other[0]])} in row {first + int(other[0]):,}",
            fix="write the vectors of one network",
        )
    if (numbers := lists.flatten()).null_count:
        at = int(np.flatnonzero(numbers.is_null().to_numpy(zero_copy_only=False))[0])
        raise wrong(
            "a number of a vector is null",
            expected=f"{file.dim} numbers",
            got=f"null in row {first + at // file.dim:,}, column {at % file.dim}",
            fix="write NaN in its place: the row goes into quarantine",
        )
