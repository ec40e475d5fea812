"""Squared distances of paired rows in float64: a fixed order of additions, whatever rows are beside."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints

VALUES_AT_ONCE = 1 << 18
"""float64 differences held at a time: 2 MiB."""


def exact_squares(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared distances of paired rows in float64, by a fixed tree over the width: [p, D] twice -> [p]."""
    sums = np.subtract(left, right, dtype=np.float64)
    sums *= sums
    width = sums.shape[1]
    while width > 1:
        half = (width + 1) // 2
        sums[:, : width - half] += sums[:, half:width]
        width = half
    found: NDArray[np.float64] = sums[:, 0]
    return found


def exact_distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distances of paired rows, rounded once: [p, D] twice -> float32 [p]."""
    each = np.arange(len(left))
    return squares_of_pairs(left, each, right, each).astype(np.float32)


def squares_of_pairs(
    left: NDArray[np.float32], left_at: Ints, right: NDArray[np.float32], right_at: Ints
) -> NDArray[np.float64]:
    """`exact_squares` of chosen pairs, some at a time, to stay in cache: [p]."""
    squared = np.empty(len(left_at))
    step = max(1, VALUES_AT_ONCE // left.shape[1])
    for at in range(0, len(squared), step):
        some = slice(at, at + step)
        squared[some] = exact_squares(left[left_at[some]], right[right_at[some]])
    return squared
