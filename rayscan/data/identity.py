"""What the images of an index are, wherever they lie: the hash that stages downstream depend on."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.compute as pc


def content_identity(rows: pa.Table, boxes: pa.Table | None = None) -> str:
    """Sha256 over split, key, length, crc32 and status of every row: what the images are, not where they lie.

    Lengths and bytes of strings are hashed apart, so that no two different columns give the same stream.

    Args:
        rows: Of the index.
        boxes: Where the images are crops: their pixels, integers.
    """
    total = hashlib.sha256()
    for name in ("split", "key", "length", "crc32", "status"):
        column = rows[name]
        if pa.types.is_string(column.type):
            sizes, text = hashlib.sha256(), hashlib.sha256()
            for values in column.chunks:
                sizes.update(pc.binary_length(values).to_numpy(zero_copy_only=False).astype("<i8").tobytes())
                text.update("".join(values.to_pylist()).encode())
            total.update(sizes.digest() + text.digest())
        else:
            total.update(hashlib.sha256(column.to_numpy().astype("<i8").tobytes()).digest())
    for column in () if boxes is None else boxes.columns:
        total.update(hashlib.sha256(column.to_numpy().astype("<i8").tobytes()).digest())
    return total.hexdigest()
