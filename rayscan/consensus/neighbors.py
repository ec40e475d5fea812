"""Nearest rows by cosine or distance, itself excluded."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints

QUERIES = 4096


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length, zero rows left as they are: [n, d] -> float32 [n, d]."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(rows, lengths, out=np.array(rows, np.float32), where=lengths > 0)
    return units


def nearest_rows(units: NDArray[np.float32], k: int, metric: int = faiss.METRIC_INNER_PRODUCT) -> Ints:
    """The k nearest rows of each row, best first, itself excluded: exact, in float32.

    Args:
        units: Rows [N, d], N > k; of unit length where inner products are compared.
        k: K.
        metric: Of faiss; `METRIC_L2` compares distances.

    Returns:
        int64 [N, k].
    """
    units = np.ascontiguousarray(units, np.float32)
    found = np.empty((len(units), k), np.int64)
    for first in range(0, len(units), QUERIES):
        queries = units[first : first + QUERIES]
        _, ids = faiss.knn(queries, units, k + 1, metric=metric)
        itself = ids == np.arange(first, first + len(queries))[:, None]
        itself[~itself.any(axis=1), -1] = True  # more equal rows than k: the last one goes
        found[first : first + len(queries)] = ids[~itself].reshape(len(queries), k)
    return found
