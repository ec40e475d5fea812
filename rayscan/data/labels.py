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
from rayscan.data.sources import named_format, with_folders
from rayscan.data.sources.table import read_table
from rayscan.data.tar_members import storable
from rayscan.errors import DataError
from rayscan.types import Ints

AMBIGUOUS = -2
JOIN_COLUMNS = ("id", "source", "key")
MEMBER_SCHEMA = pa.schema({"shard": pa.int32(), "key": pa.string(), "label": pa.string()})
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
    names, values = _texts(table, column), _texts(table, "label")
    splits = _texts(table, "split") if "split" in table.column_names else [None] * len(table)
    gids = _match(names, splits, images, column)
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
    class_of = _class_names(values, _texts(table, "class"), uri) if "class" in table.column_names else {}
    return _numbered(found, images, sum(gid is None for gid in gids), class_of)


def _read(uri: str) -> pa.Table:
    try:
        table = read_table(addresses.plain(uri), storage.read(uri))
    except pa.ArrowInvalid as error:
        raise DataError(
            "the labels file cannot be read", expected="CSV or Parquet", got=error, where=uri
        ) from error
    if "label" not in table.column_names:
        raise DataError(
            "the labels file has no labels", expected="a column label", got=table.column_names, where=uri
        )
    return table


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


def _texts(table: pa.Table, name: str) -> list[str | None]:
    """A column as text; null, not-a-number and empty fields as None."""
    column = table[name]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return [
        value.strip() or None if value is not None else None for value in column.cast(pa.string()).to_pylist()
    ]


def _match(
    names: Sequence[str | None], splits: Sequence[str | None], images: pa.Table, column: str
) -> list[int | None]:
    """The gid of each row: AMBIGUOUS if several images fit, None if none does.

    A source fits whole, or else by as many of its last parts as the row has.
    """
    is_path = column == "source"
    wanted = [name if name is None or not is_path else _path(name) for name in names]
    depths = {name.count("/") + 1 for name in wanted if name is not None} if is_path else set()
    whole: dict[tuple[str | None, str], int] = {}
    tails: dict[tuple[str | None, str], int] = {}
    ways: tuple[None, ...] | tuple[None, str]
    rows = zip(*(images[name].to_pylist() for name in ("gid", "split", column)), strict=True)
    for gid, split, value in rows:
        if value is None:
            continue
        parts = _path(value).split("/") if is_path else [value]
        ways = (None, split) if any(splits) else (None,)
        for way in ways:
            key = (way, "/".join(parts))
            whole[key] = AMBIGUOUS if key in whole else gid
            for depth in depths:
                if depth < len(parts):
                    key = (way, "/".join(parts[-depth:]))
                    tails[key] = AMBIGUOUS if key in tails else gid
    keys = [None if name is None else (split, name) for name, split in zip(wanted, splits, strict=True)]
    return [None if key is None else whole.get(key, tails.get(key)) for key in keys]


def _path(name: str) -> str:
    """A source as a path: a shard and its member are folder and file."""
    return with_folders(name.removeprefix("file://").removeprefix("./"))


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
    return data.decode("utf-8", "backslashreplace").strip()


def _from_json(data: bytes) -> str:
    try:
        label = json.loads(data).get("label")
    except (ValueError, AttributeError, RecursionError):  # notes are free text to others
        return ""
    return (
        storable(str(label)).strip() if isinstance(label, str | int) and not isinstance(label, bool) else ""
    )


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
