"""Nearest rows by inner product, itself excluded."""

from __future__ import annotations

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from rayscan.processor import blas_threads, has_bf16_units
from rayscan.types import Ints
from rayscan.vectors.half_limits import MAX_WIDTH, MIN_ROWS
from rayscan.vectors.half_search import HalfSearch

QUERIES = 16_384
MOST_THREADS = 16
"""Of the search in bfloat16, each of which holds 100 MB of scores."""


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length, zero rows left as they are: [n, d] -> float32 [n, d]."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float32] = np.divide(rows, lengths, out=np.array(rows, np.float32), where=lengths > 0)
    return units


def nearest_rows(units: NDArray[np.float32], k: int) -> Ints:
    """The k nearest rows of each row by inner product, best first, itself excluded: exact, in float32.

    Many rows are looked through in bfloat16 first where the processor has units for it (`half_search`).

    Args:
        units: Rows [N, d], N > k; of unit length where cosines are compared.
        k: K.

    Returns:
        int64 [N, k].
    """
    units = np.ascontiguousarray(units, np.float32)
    half = None
    if len(units) >= MIN_ROWS and k < MAX_WIDTH and has_bf16_units():
        half = HalfSearch(units, min(torch.get_num_threads(), MOST_THREADS))
    found = np.empty((len(units), k), np.int64)
    for first in range(0, len(units), QUERIES):
        queries = units[first : first + QUERIES]
        ids = _best(units, half, queries, k + 1)
        itself = ids == np.arange(first, first + len(queries))[:, None]
        itself[~itself.any(axis=1), -1] = True  # more equal rows than k: the last one goes
        found[first : first + len(queries)] = ids[~itself].reshape(len(queries), k)
    return found


def _best(rows: NDArray[np.float32], half: HalfSearch | None, queries: NDArray[np.float32], k: int) -> Ints:
    """Numbers of the k best rows [q, k], by faiss where bfloat16 is not used or did not find them."""
    if half is None:
        with blas_threads(torch.get_num_threads()):
            return np.asarray(faiss.knn(queries, rows, k, metric=faiss.METRIC_INNER_PRODUCT)[1], np.int64)
    _, ids, is_found = half.search(queries, k)
    if not is_found.all():
        ids[~is_found] = _best(rows, None, queries[~is_found], k)
    return ids
