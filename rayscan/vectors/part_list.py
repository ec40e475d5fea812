"""The list of the parts of an embedding matrix, as `EmbeddingRows` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from rayscan.artifacts import Draft, FileEntry
from rayscan.types import Ints


class Part(Protocol):
    """Rows [first, stop) in a file of their own."""

    @property
    def number(self) -> int:
        """Its place among the parts."""
        ...

    @property
    def name(self) -> str:
        """Its file."""
        ...

    @property
    def first(self) -> int:
        """Its first row."""
        ...

    @property
    def stop(self) -> int:
        """The row behind its last."""
        ...


def write_part_list(draft: Draft, parts: Sequence[Part], gids: Ints) -> dict[str, FileEntry]:
    """Write which part holds which rows, and whose these are.

    Args:
        draft: Of the matrix; the parts are written by others.
        parts: In the order of their rows.
        gids: Image number of every row.

    Returns:
        The two files.
    """
    table = {
        "part": pa.array([part.number for part in parts], pa.int32()),
        "name": [part.name for part in parts],
        "first_row": pa.array([part.first for part in parts], pa.int64()),
        "rows": pa.array([part.stop - part.first for part in parts], pa.int64()),
    }
    return {
        "parts.parquet": draft.write_table("parts.parquet", pa.table(table)),
        "gids.npy": draft.write_array("gids.npy", gids),
    }
