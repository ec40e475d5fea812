"""Scores that do not depend on who computes them.

A product of two float32 is exact in float64, so only the order of the additions matters. Here it is a fixed
tree over the width: no BLAS, no block shape, no vector unit has a say in it, and score(a, b) = score(b, a).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints

VALUES_AT_ONCE = 1 << 18
"""float64 products held at a time: 2 MiB, so that the tree is summed in cache."""


def exact_dots(
    left: NDArray[np.float32], right: NDArray[np.float32] | NDArray[np.float16]
) -> NDArray[np.float32]:
    """Inner products of paired rows: [p, D] twice -> float32 [p], rounded once from float64.

    The upper half of the width is added onto the lower half until one column is left. The relative error is
    at most log2(D) units of float64, far below the float32 it is rounded to.
    """
    sums = np.multiply(left, right, dtype=np.float64)
    width = sums.shape[1]
    while width > 1:
        half = (width + 1) // 2
        sums[:, : width - half] += sums[:, half:width]
        width = half
    return sums[:, 0].astype(np.float32)


def score_pairs(
    queries: NDArray[np.float32],
    rows: NDArray[np.float32] | NDArray[np.float16],
    query_at: Ints,
    row_at: Ints,
) -> NDArray[np.float32]:
    """Exact scores of chosen pairs.

    Args:
        queries: [q, D].
        rows: [n, D].
        query_at: Query of each pair: [p].
        row_at: Row of each pair: [p].

    Returns:
        float32 [p].
    """
    out = np.empty(len(query_at), np.float32)
    step = max(1, VALUES_AT_ONCE // rows.shape[1])
    for low in range(0, len(out), step):
        some = slice(low, low + step)
        out[some] = exact_dots(queries.take(query_at[some], axis=0), rows.take(row_at[some], axis=0))
    return out
