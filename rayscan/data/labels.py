"""Labels, for scores alone: the only code that reads them. Called by the labels stage, when all is learnt.

They come from a CSV or Parquet file, joined by the user's id, the source path or the key; or from `.cls` and
`.json` members of the shards. Ints keep their order, names are sorted. A negative number or an empty
field means unlabelled. What cannot be told apart is an error; what finds no partner is counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rayscan import storage
from rayscan.data import addresses
from rayscan.data.label_names import AMBIGUOUS, match
from rayscan.data.sources import named_format
from rayscan.data.sources.table import read_table, texts
from rayscan.data.tar_members import storable
from rayscan.errors import DataError
from rayscan.text import decoded, is_missing
from rayscan.types import Ints

JOIN_COLUMNS = ("id", "source", "key")
MEMBER_SCHEMA = pa.schema({"shard": pa.int32(), "key": pa.string(), "label": pa.string()})
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_INTEGER = re.compile(r"([+-]?\d{1,18})(\.0*)?")  # pandas writes 3.0 where a column has gaps


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels of some images."""

    gids: Ints
    """Labelled images, rising [n]."""
    labels: Ints
    """Positions in `classes` [n]."""
    classes: tuple[int | str, ...]
    """Numbers or names of the classes, in label order."""
    unmatched: int
    """Rows of the labels file, or labelled members, without an image."""


def from_file(uri: str, images: pa.Table) -> Labels:
    """Join a labels file to the index.

    Args:
        uri: CSV or Parquet with `label` (integer or name) and one of `id`, `source`, `key`; a source may be
            cut to its last parts. Optionally `class`, the name of an integer label, and `split`, train or
            eval, where both splits use the same keys.
        images: Columns gid, split, key, source, id, status of the index.

    Returns:
        Labels of the usable images that the file names.

    Raises:
        DataError: the file cannot be read, columns are missing, rows are ambiguous or contradict each other,
            or none of them finds an image.
    """
    table = _read(uri)
    column = _join_column(table, images, uri)
    names, values = texts(table, column, uri), _values(table, uri)
    splits = texts(table, "split", uri) if "split" in table.column_names else [None] * len(table)
    gids = match(names, splits, images, column)
    _check_match(names, gids, images[column], uri)
    found: dict[int, str] = {}
    for name, gid, value in zip(names, gids, values, strict=True):
        if gid is not None and value is not None and found.setdefault(gid, value) != value:
            raise DataError(
                "labels contradict each other",
                got=f"{found[gid]} and {value} for {name}",
                where=uri,
                fix="keep one",
            )
    class_of = _class_names(values, texts(table, "class", uri), uri) if "class" in table.column_names else {}
    return _numbered(found, images, sum(gid is None for gid in gids), class_of)


def require_readable(uri: str) -> None:
    """Refuse a labels file that is not there, or has no labels; nothing of them is kept.

    Raises:
        DataError: see `from_file`.
    """
    _values(_read(uri), uri)


def _read(uri: str) -> pa.Table:
    try:
        table = read_table(addresses.plain(uri), storage.read(uri))
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise DataError(
            "the labels file cannot be read",
            expected="CSV in UTF-8 or UTF-16, or Parquet; every column once",
            got=error,
            where=uri,
            fix="save it as CSV in UTF-8",
        ) from error
    if "label" not in table.column_names:
        raise DataError(
            "the labels file has no labels", expected="a column label", got=table.column_names, where=uri
        )
    return table


def _values(table: pa.Table, uri: str) -> list[str | None]:
    """The labels as text, None where there is none.

    Raises:
        DataError: they are measurements, not classes.
    """
    values = [None if is_missing(value) else value for value in texts(table, "label", uri)]
    given = [value for value in values if value is not None]
    fractions = [value for value in given if not _INTEGER.fullmatch(value)]
    if fractions and all(_NUMBER.fullmatch(value) for value in given):
        raise DataError(
            "labels are fractions, not classes",
            expected="whole numbers or names",
            got=fractions[:3],
            where=f"{uri}, column label",
            fix="write the class of each image into the column label",
        )
    return values


def _join_column(table: pa.Table, images: pa.Table, uri: str) -> str:
    has_ids = images["id"].null_count < len(images)
    usable = [name for name in JOIN_COLUMNS if name in table.column_names and (name != "id" or has_ids)]
    if not usable:
        raise DataError(
            "the labels file does not say which image a row is of",
            expected=f"a column of {', '.join(JOIN_COLUMNS if has_ids else JOIN_COLUMNS[1:])}",
            got=table.column_names,
            where=uri,
            fix=""
            if has_ids
            else "ids exist where --data is a list with a column id; otherwise use source or key",
        )
    return usable[0]


def _check_match(
    names: Sequence[str | None], gids: Sequence[int | None], column: pa.ChunkedArray, uri: str
) -> None:
    ambiguous = [name for name, gid in zip(names, gids, strict=True) if gid == AMBIGUOUS]
    if ambiguous:
        raise DataError(
            "rows of the labels file fit several images",
            expected="one image each",
            got=f"{len(ambiguous):,} rows, such as {ambiguous[:3]}",
            where=uri,
            fix="give longer paths, join by another column, or add a column split: train or eval",
        )
    if all(gid is None for gid in gids):
        raise DataError(
            "no row of the labels file fits an image",
            expected=f"names such as {column.slice(0, 3).to_pylist()}",
            got=list(names[:3]),
            where=uri,
        )


def _class_names(values: Sequence[str | None], names: Sequence[str | None], uri: str) -> dict[str, str]:
    class_of: dict[str, str] = {}
    for value, name in zip(values, names, strict=True):
        if value is not None and name is not None and class_of.setdefault(value, name) != name:
            raise DataError(
                "a label has two names", got=f"{class_of[value]} and {name} for {value}", where=uri
            )
    return class_of


def _numbered(
    found: Mapping[int, str], images: pa.Table, unmatched: int, class_of: Mapping[str, str] | None = None
) -> Labels:
    """Give the classes their numbers, in numerical or alphabetical order; images in quarantine drop out."""
    usable = set(images["gid"].filter(pc.equal(images["status"], "ok")).to_pylist())
    kept = {gid: found[gid] for gid in sorted(found) if gid in usable}
    numbers = {value: _INTEGER.fullmatch(value) for value in set(kept.values())}
    is_number = all(numbers.values())
    order: dict[str, int | str] = {
        value: int(m[1]) if is_number and m else value for value, m in numbers.items()
    }
    kept = {gid: value for gid, value in kept.items() if not is_number or int(order[value]) >= 0}
    classes = sorted({order[value] for value in kept.values()})
    position = {item: number for number, item in enumerate(classes)}
    names = {order[value]: name for value, name in (class_of or {}).items() if value in order}
    return Labels(
        np.fromiter(kept, np.int64, len(kept)),
        np.fromiter((position[order[value]] for value in kept.values()), np.int64, len(kept)),
        tuple(names.get(item, item) for item in classes),
        unmatched,
    )


def read_members(uri: str, shard: int) -> pa.Table:
    """Labels inside one shard: `.cls` (a number or a name), or "label" of `.json`.

    Args:
        uri: A shard.
        shard: Its number in the index.

    Returns:
        Columns shard, key, label, one row per labelled sample.

    Raises:
        DataError: the shard is damaged.
    """
    labels: dict[str, dict[str, str]] = {"json": {}, "cls": {}}
    for beside in named_format(uri).side_files(uri, labels):
        label = (_from_json if beside.extension == "json" else _from_cls)(beside.data)
        if label:
            labels[beside.extension][beside.key] = label
    rows = [
        {"shard": shard, "key": key, "label": label}
        for key, label in (labels["json"] | labels["cls"]).items()
    ]
    return pa.Table.from_pylist(rows, MEMBER_SCHEMA)


def _from_cls(data: bytes) -> str:
    try:
        text = decoded(data)
    except UnicodeDecodeError:
        text = data.decode("utf-8", "backslashreplace")
    return "" if is_missing(text) else text.strip()


def _from_json(data: bytes) -> str:
    try:
        label = json.loads(data).get("label")
    except (ValueError, AttributeError, RecursionError):  # notes are free text to others
        return ""
    if isinstance(label, float) and label.is_integer():  # written by a table with gaps
        label = int(label)
    if not isinstance(label, str | int) or isinstance(label, bool):
        return ""
    return "" if is_missing(str(label)) else storable(str(label)).strip()


def first_note_has_label(uri: str) -> bool:
    """Whether the first `.json` member of a shard has a label; reads no further."""
    first = next(iter(named_format(uri).side_files(uri, ("json",))), None)
    return first is not None and bool(_from_json(first.data))


def from_members(tables: Iterable[pa.Table], images: pa.Table) -> Labels:
    """Join the labels inside shards to the index.

    Args:
        tables: What `read_members` returned, shard by shard.
        images: Columns gid, shard, key, status of the index.

    Raises:
        DataError: there is not one label.
    """
    columns = (images[name].to_pylist() for name in ("gid", "shard", "key"))
    gid_of = {(shard, key): gid for gid, shard, key in zip(*columns, strict=True)}
    found: dict[int, str] = {}
    unmatched = 0
    for row in (row for table in tables for row in table.to_pylist()):
        gid = gid_of.get((row["shard"], row["key"]))
        unmatched += gid is None
        if gid is not None:
            found[gid] = row["label"]
    if not found:
        raise DataError(
            "the shards hold no labels", expected=".cls or .json with label", got="none", fix="give --labels"
        )
    return _numbered(found, images, unmatched)
