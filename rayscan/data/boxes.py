"""Crops as images: each box of a picture becomes an image of its own, with the picture's source.

The key of a crop is that of its picture, `#`, and the number of the box among those of the picture. Boxes are
in pixels of the upright picture; what lies outside it is cut off.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rayscan.data.box_files import SIDES, Boxes, without_ending
from rayscan.data.inspection import OK
from rayscan.data.label_names import AMBIGUOUS, match
from rayscan.data.table import BOX_SCHEMA, IMAGE_SCHEMA
from rayscan.errors import DataError
from rayscan.types import Ints

EMPTY, OUTSIDE = "box-empty", "box-outside"
"""Status of a crop: of a box without width or height, or with no pixel in its picture."""


@dataclass(frozen=True)
class Crops:
    """The images of an index of boxes."""

    rows: pa.Table
    """By `IMAGE_SCHEMA`."""
    boxes: pa.Table
    """By `BOX_SCHEMA`, a row for each image."""
    metadata: pa.Table
    """By gid: of the picture, then the box as it was given, in px."""
    counts: Mapping[str, int]
    """How many boxes were `clipped`, and how many are of pictures that are not there, `unmatched`; how many
    pictures have no box, `without`."""


def fingerprint(boxes: Boxes, margin: float) -> str:
    """Sha256 over boxes and margin."""
    sink = pa.BufferOutputStream()
    pq.write_table(boxes.table.combine_chunks(), sink)
    told = f"{margin} {boxes.is_relative} {boxes.has_endings}".encode()
    return hashlib.sha256(told + memoryview(sink.getvalue())).hexdigest()


def crops_of(rows: pa.Table, boxes: Boxes, margin: float, told: pa.Table | None, where: str) -> Crops:
    """The crops of pictures.

    Args:
        rows: The pictures, by `IMAGE_SCHEMA`.
        boxes: With the names of their pictures.
        margin: What is added on every side, as a part of the box's width or height.
        told: Metadata of the pictures by gid.
        where: File of the boxes, for errors.

    Raises:
        DataError: no box finds its picture, or a name fits several.
    """
    picture, number = _matched(rows, boxes, where)
    order = np.lexsort((number, picture))
    picture, number = picture[order], number[order]
    first = np.searchsorted(picture, picture)
    sides = np.stack([boxes.table[side].to_numpy()[number] for side in SIDES], axis=1)
    size = np.stack([rows[name].to_numpy()[picture] for name in ("width", "height")], axis=1).astype(float)
    if boxes.is_relative:
        sides = sides * np.tile(size, 2)
    corners, status, is_clipped = _corners(sides, size, margin)
    statuses = rows["status"].take(pa.array(picture)).to_pylist()
    statuses = [was if was != OK else now for was, now in zip(statuses, status, strict=True)]
    keys = rows["key"].take(pa.array(picture)).to_pylist()
    values = {
        "gid": np.arange(len(picture)),
        "key": [f"{key}#{n}" for key, n in zip(keys, np.arange(len(picture)) - first, strict=True)],
        "width": corners[:, 2] - corners[:, 0],
        "height": corners[:, 3] - corners[:, 1],
        "status": statuses,
    }
    crops = rows.take(pa.array(picture))
    for name, column in values.items():
        field = IMAGE_SCHEMA.field(name)
        crops = crops.set_column(crops.column_names.index(name), field, pa.array(column, field.type))
    columns = [values["gid"], *corners.T, *size.T]
    table = pa.table(
        [pa.array(c, field.type) for c, field in zip(columns, BOX_SCHEMA, strict=True)], schema=BOX_SCHEMA
    )
    counts = Counter(
        clipped=int(is_clipped.sum()),
        unmatched=len(boxes.table) - len(np.unique(number)),
        without=len(rows) - len(np.unique(picture)),
    )
    return Crops(crops, table, _metadata(told, picture, sides, boxes.table.take(pa.array(number))), counts)


def _matched(rows: pa.Table, boxes: Boxes, where: str) -> tuple[Ints, Ints]:
    """Which row each box is in, and its row in the table of boxes; a box may be in both splits."""
    names = boxes.table["name"].to_pylist()
    if not boxes.has_endings:
        sources = pa.array([without_ending(source) for source in rows["source"].to_pylist()], pa.string())
        rows = rows.set_column(rows.column_names.index("source"), "source", sources)
    pictures, numbers = [], []
    for split in ("train", "eval"):
        own = rows.filter(pc.equal(rows["split"], split))
        found = match(names, [None] * len(names), own, "source")
        by_key = match(names, [None] * len(names), own, "key")
        for number, gids in enumerate(zip(found, by_key, strict=True)):
            gid = next((one for one in gids if one is not None and one != AMBIGUOUS), None)
            if gid is None and AMBIGUOUS in gids:
                raise DataError(
                    "boxes are of a picture whose name fits several",
                    expected="one picture each",
                    got=names[number],
                    where=where,
                    fix="write longer paths into the boxes",
                )
            if gid is not None:
                pictures.append(gid)
                numbers.append(number)
    if not pictures:
        raise DataError(
            "no box is in a picture that is here",
            expected=f"names such as {rows['source'].slice(0, 3).to_pylist()}",
            got=names[:3],
            where=where,
            fix="write names of these pictures, or the last parts of their paths; --data has to hold them",
        )
    return np.asarray(pictures), np.asarray(numbers)


def _corners(
    sides: npt.NDArray[np.float64], size: npt.NDArray[np.float64], margin: float
) -> tuple[Ints, list[str], npt.NDArray[np.bool_]]:
    """Whole pixels of boxes within their pictures.

    Args:
        sides: left, top, width, height in px [n, 4].
        size: Width and height of the picture, px [n, 2].
        margin: What is added on every side.

    Returns:
        left, top, right, bottom [n, 4], zeros where there is no pixel; the status; whether some was cut off.
    """
    is_empty = np.logical_not(np.isfinite(sides).all(1) & (sides[:, 2:] > 0).all(1))
    sides = np.where(is_empty[:, None], 0.0, sides)
    more = margin * sides[:, 2:]
    given = np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1)
    wide = np.concatenate([np.floor(given[:, :2] - more), np.ceil(given[:, 2:] + more)], axis=1)
    corners = np.clip(wide, 0, np.tile(size, 2)).astype(np.int64)
    # The margin may be cut off; the box itself loses something if it lies outside by a pixel or more.
    is_clipped = (given[:, :2] <= -1).any(1) | (given[:, 2:] >= size + 1).any(1)
    inside = (np.minimum(given[:, 2:], size) - np.maximum(given[:, :2], 0) > 0).all(1)
    status = np.where(is_empty, EMPTY, np.where(inside, OK, OUTSIDE))
    corners[np.not_equal(status, OK)] = 0
    return corners, status.tolist(), is_clipped & (status == OK)


def _metadata(
    told: pa.Table | None, picture: Ints, sides: npt.NDArray[np.float64], given: pa.Table
) -> pa.Table:
    table = pa.table({"gid": pa.array(np.arange(len(picture)), pa.int64())})
    if told is not None:
        taken = told.take(pc.index_in(pa.array(picture, pa.int64()), told["gid"])).drop_columns(["gid"])
        for name in taken.column_names:
            table = table.append_column(name, taken[name])
    for name, column in zip(SIDES, sides.T, strict=True):
        table = table.append_column(f"box_{name}", pa.array(column))
    for name in given.column_names:
        if name in ("name", *SIDES):
            continue
        own = name if name.startswith("box_") or name not in table.column_names else f"box_{name}"
        if own not in table.column_names:
            table = table.append_column(own, given[name])
    return table
