"""How far an image lies from all others, from its mined neighbors alone.

The distance to the k-th neighbor (Ramaswamy, Rastogi, Shim, "Efficient algorithms for mining outliers from
large data sets", SIGMOD 2000), as a quantile over the images. Strangers put into collections are found by it
better than by the local outlier factor on the same lists (docs/results/duplicates.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def knn_distance(scores: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Euclidean distance of unit rows to their k-th neighbor: [n].

    Args:
        scores: Cosines with the neighbors, nearest first [n, K].
        k: At most K.
    """
    cosine = np.clip(scores[:, k - 1].astype(np.float64), -1.0, 1.0)
    distance: NDArray[np.float64] = np.sqrt(2.0 - 2.0 * cosine)
    return distance


def quantiles(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Share of all values that are at most each one, above 0, at most 1: [N]; equal values share one."""
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, side="right") / len(values)).astype(np.float32)
