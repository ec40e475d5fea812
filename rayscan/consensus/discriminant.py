"""Discriminant analysis of a grouping: the linear rule it gives, and the grouping its own directions give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from rayscan.consensus.kmeans import cluster_sums, lloyd
from rayscan.consensus.whitening import shrunk
from rayscan.types import Ints

REPEATS = 10
LLOYD_ROUNDS = 30
SETTLED = 1e-3
"""Share of rows that may still move when a refinement ends."""


@dataclass(frozen=True)
class LinearRule:
    """Outputs of the clusters, x W + b."""

    weights: NDArray[np.float32]
    """W, [q, C]."""
    bias: NDArray[np.float32]
    """b, [C]."""

    def outputs(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs x W + b of rows: [n, q] -> float32 [n, C]."""
        return rows @ self.weights + self.bias


def cluster_means(
    rows: NDArray[np.float32], labels: Ints, num_clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means [C, q] and shares [C] of the clusters; an empty one has mean zero."""
    sums, sizes = cluster_sums(rows, labels, num_clusters)
    return sums.astype(np.float64) / np.maximum(sizes, 1)[:, None], sizes / len(rows)


def within_covariance(
    total: NDArray[np.float64], means: NDArray[np.float64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """St - sum_c share_c m_c m_c' for centred rows: [q, q]."""
    within: NDArray[np.float64] = total - means.T @ (shares[:, None] * means)
    return within


def discriminant_rule(
    rows: NDArray[np.float32], total: NDArray[np.float64], labels: Ints, num_clusters: int, share: float = 0.1
) -> LinearRule:
    """Linear discriminant analysis (Fisher 1936) with shrinkage: log posteriors up to a constant of the row.

    Args:
        rows: Centred, [N, q].
        total: Their covariance, [q, q].
        labels: [N].
        num_clusters: C.
        share: Of the mean variance within, added to its diagonal.
    """
    means, shares = cluster_means(rows, labels, num_clusters)
    slopes, offsets = rule_of_means(total, means, shares, len(rows), share)
    return LinearRule(slopes.astype(np.float32), offsets.astype(np.float32))


def rule_of_means(
    total: NDArray[np.float64],
    means: NDArray[np.float64],
    shares: NDArray[np.float64],
    count: int,
    share: float = 0.1,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slopes [q, C] and offsets [C] of linear discriminant analysis.

    Args:
        total: Covariance of the rows, [q, q].
        means: Of the clusters, less the mean of all rows, [C, q].
        shares: Of the clusters, [C].
        count: N; an empty cluster counts as one row.
        share: Of the mean variance within, added to its diagonal.
    """
    within = shrunk(within_covariance(total, means, shares), share)
    slopes = cho_solve(cho_factor(within, lower=True), means.T)
    return slopes, np.log(np.maximum(shares, 1 / count)) - 0.5 * np.einsum("cq,qc->c", means, slopes)


def discriminant_directions(
    total: NDArray[np.float64], means: NDArray[np.float64], shares: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Directions v of greatest variance between clusters at v' (Sw + s I) v = 1: [d, min(C - 1, d)].

    Sb has rank C - 1: with Sw = L L' they are L^-T times the right singular vectors of sqrt(share) m L^-T.
    """
    factor = cholesky(shrunk(within_covariance(total, means, shares), share), lower=True)
    between = solve_triangular(factor, (np.sqrt(shares)[:, None] * means).T, lower=True)
    left, _, _ = np.linalg.svd(between, full_matrices=False)
    kept = min(len(means) - 1, len(total))
    directions: NDArray[np.float64] = solve_triangular(factor, left[:, :kept], lower=True, trans="T")
    return directions


def refined(
    rows: NDArray[np.float32],
    total: NDArray[np.float64],
    labels: Ints,
    num_clusters: int,
    share: float = 1.0,
    repeats: int = REPEATS,
) -> Ints:
    """L(p): k-means along a grouping's own discriminant directions, again and again until it settles.

    (Ding and Li 2007, Adaptive dimension reduction using discriminant analysis and k-means.)

    Args:
        rows: Z, centred, [N, d].
        total: St, [d, d].
        labels: p, [N].
        num_clusters: C.
        share: Shrinkage of the covariance within.
        repeats: At most so many.

    Returns:
        int64 [N].
    """
    for _ in range(repeats):
        means, shares = cluster_means(rows, labels, num_clusters)
        along = discriminant_directions(total, means, shares, share).astype(np.float32)
        start = (means @ along).astype(np.float32)
        found, _ = lloyd(rows @ along, start[None], LLOYD_ROUNDS)
        moved = float((found[0] != labels).mean())
        labels = found[0]
        if moved < SETTLED:
            break
    return labels
