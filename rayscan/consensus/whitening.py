"""Neighbour whitening: directions in which rows differ much in total and little from their neighbours.

Locality preserving projection (He and Niyogi 2003) with strong shrinkage; the label-free counterpart of
linear discriminant analysis, neighbours in place of classes. Directions that vary within classes (pose,
light, background) vary between neighbours too, and are weighted down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from rayscan.types import Ints

NEIGHBORS = 10
WIDTH = 64
SHRINKAGE = 1.0
BLOCK_ROWS = 2048


def neighbor_scatter(rows: NDArray[np.float32], ids: Ints, first: int = 0) -> NDArray[np.float64]:
    """Sum over i and its neighbours j of (z_i - z_j)(z_i - z_j)': those of row ranges add up.

    Args:
        rows: Z, [N, d].
        ids: Neighbours of the rows first, first + 1, ...: int64 [n, K].
        first: The row that `ids` begins with.

    Returns:
        float64 [d, d].
    """
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    for at in range(0, len(ids), BLOCK_ROWS):
        some = ids[at : at + BLOCK_ROWS]
        own = rows[first + at : first + at + len(some)]
        for column in some.T:
            difference = own - rows[column]
            scatter += difference.T @ difference
    return scatter


def total_scatter(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Z'Z of rows [n, d]: float64 [d, d]; those of row ranges add up."""
    scatter = np.zeros((rows.shape[1], rows.shape[1]))
    for at in range(0, len(rows), BLOCK_ROWS):
        block = rows[at : at + BLOCK_ROWS]
        scatter += block.T @ block
    return scatter


def shrunk(covariance: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """The covariance plus a share of its mean variance on the diagonal: [d, d] -> [d, d]."""
    dim = len(covariance)
    mean = max(float(np.trace(covariance)) / dim, 1e-12)
    return covariance + share * mean * np.eye(dim)


def contrast(
    total: NDArray[np.float64], within: NDArray[np.float64], width: int = WIDTH, share: float = SHRINKAGE
) -> NDArray[np.float64]:
    """Directions v of greatest v' total v at v' within v = 1, the greatest first.

    A direction's largest entry is positive.

    Args:
        total: Covariance of all rows, [d, d].
        within: Covariance of what shall count for nothing, [d, d].
        width: q, at most d are given.
        share: Of the mean variance, added to `within`.

    Returns:
        float64 [d, min(q, d)].
    """
    dim = len(total)
    kept = min(width, dim)
    _, vectors = eigh(
        (total + total.T) / 2, shrunk((within + within.T) / 2, share), subset_by_index=(dim - kept, dim - 1)
    )
    vectors = vectors[:, ::-1]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
    directions: NDArray[np.float64] = vectors * signs
    return directions


def neighbor_whitening(
    rows: NDArray[np.float32], ids: Ints, total: NDArray[np.float64], width: int = WIDTH
) -> NDArray[np.float64]:
    """NW(Z, G): the projection of centred rows that neighbour differences give.

    Sn = sum (z_i - z_j)(z_i - z_j)' / (2 K N) over the 10 nearest neighbours, St = Z'Z / N.

    Args:
        rows: Z, centred, [N, d].
        ids: Neighbours, nearest first, int64 [N, K >= 10] (all, where there are fewer).
        total: St, [d, d].
        width: q.

    Returns:
        V, float64 [d, q]; Z V is the whitened space.
    """
    used = ids[:, :NEIGHBORS]
    return contrast(total, neighbor_scatter(rows, used) / (2 * used.size), width)
