"""The nearest centroids of rows: what every k-means here assigns by."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray


def nearest_centroids(
    rows: NDArray[np.float32], centroids: NDArray[np.float32], k: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `k` nearest centroids of each row and the squared distances to them, in float32 arithmetic.

    Args:
        rows: [n, D].
        centroids: [C, D].
        k: Wanted per row; all C if that is less.

    Returns:
        Numbers int32 and squared distances float32, nearest first and the lower number at a tie:
        [n, min(k, C)] each.
    """
    k = min(k, len(centroids))
    if not len(rows):
        return np.empty((0, k), np.int32), np.empty((0, k), np.float32)
    distances, labels = faiss.knn(
        np.ascontiguousarray(rows, np.float32),
        np.ascontiguousarray(centroids, np.float32),
        k,
        metric=faiss.METRIC_L2,
    )
    if k > 1:  # faiss leaves the order of equal distances to its heap
        order = np.lexsort((labels, distances), axis=1)
        distances = np.take_along_axis(distances, order, axis=1)
        labels = np.take_along_axis(labels, order, axis=1)
    return labels.astype(np.int32), distances


def nearest_centroid(
    rows: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The nearest centroid of each row and the squared distance to it: int32 [n] and float32 [n]."""
    labels, distances = nearest_centroids(rows, centroids)
    return labels[:, 0], distances[:, 0]
