"""Parquet files that hold encoded images, a row each, as Hugging Face and img2dataset write them.

The key of an image is its `path` where every row of a file has one of its own, else file and row. Columns of
labels are not read.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayscan.data.inspection import inspected
from rayscan.data.sequential import SequentialFile
from rayscan.data.sources.base import Files, Format, Images, Rows, Scan, SourceFile
from rayscan.data.sources.parquet_cells import LastGroup
from rayscan.data.sources.parquet_columns import image_column
from rayscan.data.sources.parquet_scan import (
    MAX_GROUPS,
    MAX_ROWS,
    ROW_ADDRESS,
    Found,
    found_images,
    further_columns,
)
from rayscan.data.tar_members import storable
from rayscan.data.tones import PLAIN, Decoding
from rayscan.storage import open_file

OPENERS = 16
"""Files whose columns are asked for at once."""
MISSING = "missing"
"""Status of a row without bytes."""
_LAST = LastGroup()


@dataclass(frozen=True)
class ParquetImages(Format):
    """Many images per file, in cells of a column."""

    column: str | None = None
    """Name of the column, if the user gave one."""

    name = "Parquet files"
    suffixes = (".parquet",)
    has_many = True
    is_unpacked = True
    gives_way = True

    def with_column(self, column: str) -> Format:
        """See `Format.with_column`."""
        return replace(self, column=column)

    def holding(self, uris: Sequence[str]) -> list[str]:
        """See `Format.holding`: those with a column of images."""
        with ThreadPoolExecutor(OPENERS, thread_name_prefix="rayscan-list") as pool:
            found = list(pool.map(self._holds, uris))
        return [uri for uri, holds in zip(uris, found, strict=True) if holds]

    def _holds(self, uri: str) -> bool:
        try:
            with open_file(uri) as stream:
                schema = pq.read_schema(pa.PythonFile(stream, mode="r"))
        except (OSError, pa.ArrowException):
            return True  # the scan says what is wrong with it; to leave it out would lose its images silently
        return image_column(schema, self.column, uri) is not None

    def scan(self, entry: SourceFile, *, max_pixels: int, how: Decoding = PLAIN) -> Scan:
        """See `Format.scan`."""
        with SequentialFile(entry.uri, is_hashing=True) as file:
            images = [_row(found, max_pixels, how) for found in found_images(file, self.column)]
            size, sha256 = file.size, file.sha256
        paths = [path for path, _ in images]
        has_paths = None not in paths and "" not in paths and len(set(paths)) == len(paths)
        rows = [
            {
                "key": storable(path) if has_paths and path else f"{entry.key}#{number}",
                "source": f"{entry.uri}#{number}",
                **row,
            }
            for number, (path, row) in enumerate(images)
        ]
        return Scan(entry.uri, size, sha256, rows, {"other": 0}, further_columns(entry.uri, self.column))

    def read(self, files: Files, rows: Rows) -> Images:
        """See `Format.read`: ranges, and cells of row groups, of which each thread keeps the last."""
        in_groups = rows.offset >= ROW_ADDRESS
        if not in_groups.any():
            return files.ranges(rows)
        images = Images([b""] * len(rows.shard), np.zeros(len(rows.shard), np.int64))
        if not in_groups.all():
            chosen = np.flatnonzero(~in_groups)
            _put(images, chosen, files.ranges(Rows(*(column[chosen] for column in rows))))
        order = np.flatnonzero(in_groups)
        order = order[np.lexsort((rows.offset[order], rows.shard[order]))]
        for number in order.tolist():
            where, row = divmod(int(rows.offset[number]) - ROW_ADDRESS, MAX_ROWS)
            cells = _LAST.cells(files, int(rows.shard[number]), *divmod(where, MAX_GROUPS))
            images.data[number] = cells.at(row)
            images.openings[number] = cells.opening
        return images


def _row(found: Found, max_pixels: int, how: Decoding) -> tuple[str | None, dict[str, Any]]:
    """The path of an image, and what the index keeps of it."""
    data = found.data or b""
    row = {
        "id": found.id,
        "offset": found.offset,
        "length": len(data),
        "crc32": zlib.crc32(data),
        **inspected(data, max_pixels=max_pixels, how=how),
    }
    return found.path, row | ({"status": MISSING} if found.data is None else {})


def _put(images: Images, chosen: Any, part: Images) -> None:
    images.openings[chosen] = part.openings
    for number, data in zip(chosen.tolist(), part.data, strict=True):
        images.data[number] = data
