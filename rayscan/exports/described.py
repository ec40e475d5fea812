"""Rows of an export with the metadata that the index has of their images, from lists, folders and notes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from rayscan.data.metadata import metadata_of
from rayscan.run import Run

PREFIX = "metadata_"
"""Begins the name of a column that would have the name of one of ours."""


def described(run: Run, tables: Iterable[pa.Table], taken: Collection[str] = ()) -> Iterator[pa.Table]:
    """Append the metadata of images to rows; null where an image has none.

    Args:
        run: Whose index has the metadata, or none.
        tables: Rows with a column `gid`, all of one schema.
        taken: Names of columns that will come to these.

    Raises:
        ArtifactError: the metadata are missing or altered.
    """
    told = metadata_of(run.artifact("index")) if "index" in run.record["stages"] else None
    if told is None:
        yield from tables
        return
    gids, columns = told["gid"], told.drop_columns(["gid"])
    for table in tables:
        chosen = columns.take(pc.index_in(table["gid"], gids))
        for name in columns.column_names:
            own = f"{PREFIX}{name}" if name in table.column_names or name in taken else name
            table = table.append_column(own, chosen[name])
        yield table


def as_plain(table: pa.Table) -> pa.Table:
    """Numbers, truth values and text as they are; dates and whatever else as text."""
    schema = pa.schema(
        [field if _is_plain(field.type) else field.with_type(pa.string()) for field in table.schema]
    )
    return table.cast(schema)


def _is_plain(kind: pa.DataType) -> bool:
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(is_number or pa.types.is_string(kind))
