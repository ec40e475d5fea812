"""Numbers of the images of an index: an image that an earlier index knows keeps its gid, new ones come after.

Those that are gone keep their row and their gid, so that no other image ever has it. Train rows still come
before eval rows: where there is an eval split, its gids move on by as many as train images came.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from rayscan.data.index_chunks import FORMER
from rayscan.data.inspection import GONE, OK
from rayscan.data.table import IMAGE_SCHEMA
from rayscan.types import Ints

_WAYS = (("split", "source"), ("split", "key"), ("split", "length", "crc32"))
"""Columns by which an image is known again, in this order: place, name, content."""


def former_gids(rows: pa.Table, former: pa.Table) -> Ints:
    """Which image of a former index each image is; -1 if it is new.

    Args:
        rows: With `FORMER`, and the columns of the index but gid.
        former: Rows of the former index.

    Returns:
        int64 [n]; no image of the former index comes twice.
    """
    found: Ints = rows[FORMER].to_numpy().copy()
    for columns in _WAYS:
        free = np.setdiff1d(former["gid"].to_numpy(), found)
        lost = np.flatnonzero(found < 0)
        if not len(free) or not len(lost):
            break
        places: dict[tuple[Any, ...], list[int]] = {}
        for gid, values in zip(free.tolist(), _values(former.take(free), columns), strict=True):
            places.setdefault(values, []).append(gid)
        for row, values in zip(lost.tolist(), _values(rows.take(lost), columns), strict=True):
            is_empty = "length" in columns and not values[1]
            if not is_empty and (left := places.get(values)):
                found[row] = left.pop(0)
    return found


def _values(rows: pa.Table, columns: Iterable[str]) -> Iterable[tuple[Any, ...]]:
    return zip(*(rows[name].to_pylist() for name in columns), strict=True)


def with_gids(rows: pa.Table, former: pa.Table | None) -> tuple[pa.Table, pa.Table, Mapping[str, int]]:
    """Number the images of an index.

    Args:
        rows: With `FORMER`, and the columns of the index but gid, in any order of their shards.
        former: Rows of a former index; none, or one that shares no image, leaves no gap.

    Returns:
        The rows in their order with their gids; the rows of images that are gone; and how many images are
        `kept` as they were, `changed`, `new` and `gone`.
    """
    found = np.full(len(rows), -1) if former is None else former_gids(rows, former)
    if former is None or (found < 0).all():
        former = IMAGE_SCHEMA.empty_table()
    splits, shards = np.asarray(rows["split"].to_pylist()), rows["shard"].to_numpy()
    before = np.asarray(former["split"].to_pylist(), dtype=splits.dtype)
    gids, shifted, first = np.empty(len(rows), np.int64), np.empty(len(former), np.int64), 0
    for split in ("train", "eval"):
        old = np.flatnonzero(before == split)
        shifted[old] = first + np.arange(len(old))
        mine = np.flatnonzero(splits == split)
        gids[mine[found[mine] >= 0]] = shifted[found[mine[found[mine] >= 0]]]
        new = mine[found[mine] < 0]
        new = new[np.argsort(shards[new], kind="stable")]
        gids[new] = first + len(old) + np.arange(len(new))
        first += len(old) + len(new)
    lost = np.setdiff1d(np.arange(len(former)), found)
    counts = _counts(rows, found, former, lost)
    return (
        rows.drop_columns([FORMER]).append_column("gid", pa.array(gids)),
        _gone(former, lost, shifted),
        counts,
    )


def _gone(former: pa.Table, lost: Ints, gids: Ints) -> pa.Table:
    """Rows of images that are not there any more: in no shard."""
    rows = former.take(lost)
    for name, values in (
        ("gid", pa.array(gids[lost], pa.int64())),
        ("shard", pa.array(np.full(len(lost), -1), pa.int32())),
        ("status", pa.array([GONE] * len(lost), pa.string())),
    ):
        rows = rows.set_column(rows.column_names.index(name), IMAGE_SCHEMA.field(name), values)
    return rows


def _counts(rows: pa.Table, found: Ints, former: pa.Table, lost: Ints) -> Counter[str]:
    known = np.flatnonzero(found >= 0)
    was, now = former.take(found[known]), rows.take(known)
    same = sum(
        one == other and one[2] == OK
        for one, other in zip(
            _values(was, ("length", "crc32", "status")),
            _values(now, ("length", "crc32", "status")),
            strict=True,
        )
    )
    left = sum(status != GONE for status in former.take(lost)["status"].to_pylist())
    return Counter(kept=same, changed=len(known) - same, new=len(rows) - len(known), gone=left)
