"""The neighbour graph as a sparse matrix: union of the lists, scaled by degrees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from rayscan.consensus.sparse import product
from rayscan.types import Ints

NEIGHBORS = 15


def lists(ids: Ints, weights: NDArray[np.float32] | None = None) -> csr_array:
    """Directed graph of neighbour lists: row i holds the weights of its neighbours, ones if none are given.

    Args:
        ids: [N, K], no row names a neighbour twice.
        weights: [N, K].
    """
    count, width = ids.shape
    data = np.ones(ids.size, np.float32) if weights is None else np.ravel(weights)
    return csr_array((data, ids.ravel(), np.arange(0, ids.size + 1, width)), shape=(count, count))


def adjacency(ids: Ints, neighbors: int = NEIGHBORS) -> csr_array:
    """A: 1 where i is among the nearest of j or j among those of i, symmetric [N, N].

    Args:
        ids: Nearest first, [N, K].
        neighbors: How many of them count.
    """
    directed = lists(ids[:, :neighbors])
    return csr_array(directed.maximum(directed.T))


def degrees(graph: csr_array, regularisation: float = 0.0) -> NDArray[np.float64]:
    """Sums of the rows, plus a share of their mean: [N].

    Regularised degrees keep tiny components from taking the leading eigenvectors (Chaudhuri, Chung, Tsiatas
    2012).
    """
    sums: NDArray[np.float64] = np.asarray(graph.sum(axis=1), np.float64)
    return sums + regularisation * float(sums.mean())


def normalized(graph: csr_array, scale: NDArray[np.float64]) -> csr_array:
    """D^-1/2 A D^-1/2 for the degrees [N]; rows without an edge stay zero."""
    half = diags_array(_power(scale, -0.5))
    return csr_array(half @ graph @ half)


def diffused(rows: NDArray[np.float32], graph: csr_array, steps: int = 10) -> NDArray[np.float32]:
    """Rows after so many steps X <- (X + D^-1 A X) / 2: float32 [N, q]."""
    walk = product(csr_array(diags_array(_power(degrees(graph), -1.0)) @ graph), np.float32)
    for _ in range(steps):
        rows = np.asarray((rows + walk(rows)) / 2, np.float32)
    return rows


def _power(scale: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.power(scale, exponent, out=np.zeros_like(scale), where=scale > 0)
    return powers
