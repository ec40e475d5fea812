"""A class map: which classes of one set a class of another stands for, by name."""

from __future__ import annotations

import pyarrow as pa

from rayscan import storage
from rayscan.data.sources.table import read_table, texts
from rayscan.errors import DataError


def read_class_map(uri: str) -> dict[str, list[str]]:
    """Read which classes of the run a class of the other set maps to, by name.

    Args:
        uri: A CSV or Parquet file with columns `class` and `maps_to`, a row per pair.

    Raises:
        DataError: there is no such file, or it has no such columns.
    """
    try:
        table = read_table(uri, storage.read(uri))
        columns = {name: texts(table, name, uri) for name in ("class", "maps_to")}
    except (pa.ArrowInvalid, UnicodeDecodeError, KeyError) as error:
        raise DataError(
            "the class map cannot be used",
            expected="a CSV with columns class and maps_to",
            got=error,
            where=uri,
        ) from error
    found: dict[str, list[str]] = {}
    for theirs, ours in zip(columns["class"], columns["maps_to"], strict=True):
        if theirs is not None and ours is not None:
            found.setdefault(theirs, []).append(ours)
    return found
