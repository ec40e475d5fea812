"""Arrow columns whose lists are equally long, and matrices: the one form on storage, the other in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def as_rows(column: pa.ChunkedArray) -> NDArray[Any]:
    """The lists as [n, K]."""
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    rows: NDArray[Any] = flat.reshape(len(column), -1)
    return rows


def as_lists(rows: NDArray[Any]) -> pa.ListArray:
    """The rows [n, K] as lists, K >= 1."""
    offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.ravel()))
