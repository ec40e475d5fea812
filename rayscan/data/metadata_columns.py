"""Columns of metadata: which are kept, and one type for each. For `metadata`, and sources that have some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

LABEL_NAMES = frozenset({"label", "labels", "class", "classes", "target"})
"""Columns that are left out."""
_OWN = frozenset({"gid", "uri"})


def flat(table: pa.Table, without: Iterable[str] = ()) -> pa.Table:
    """The columns of a table that are kept: one value a row, no bytes, no labels.

    Args:
        table: Any.
        without: Names of further columns that are left out.
    """
    left = {*without, *LABEL_NAMES, *_OWN}
    return table.select(
        [field.name for field in table.schema if field.name.lower() not in left and _is_flat(field.type)]
    )


def _is_flat(kind: pa.DataType) -> bool:
    is_bytes = (
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    )
    return not (pa.types.is_nested(kind) or is_bytes or pa.types.is_null(kind))


def of_records(records: Sequence[Mapping[str, Any]]) -> pa.Table | None:
    """What notes say, one a row: numbers and words, as text in a column of several kinds; None if nothing."""
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: _column([record.get(name) for record in records]) for name in names}
    table = flat(pa.table({name: column for name, column in columns.items() if column is not None}))
    return table if table.num_columns else None


def _column(values: Sequence[Any]) -> pa.Array | None:
    kinds = {type(value) for value in values if value is not None}
    if not kinds or not kinds <= {bool, int, float, str}:
        return None
    try:
        if len(kinds) == 1 or kinds == {int, float}:
            return pa.array(values, pa.float64() if float in kinds else None)
    except (pa.ArrowException, OverflowError):  # an integer beyond 64 bits
        pass
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of several tables; a column that has several types becomes text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException:
        types: dict[str, set[pa.DataType]] = {}
        for field in (field for table in tables for field in table.schema):
            types.setdefault(field.name, set()).add(field.type)
        mixed = {name for name, kinds in types.items() if len(kinds) > 1}
        return pa.concat_tables([_as_text(table, mixed) for table in tables], promote_options="default")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    schema = pa.schema(
        [field.with_type(pa.string()) if field.name in names else field for field in table.schema]
    )
    return table.cast(schema)
