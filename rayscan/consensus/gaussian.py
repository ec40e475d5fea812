"""Expectation maximisation of a Gaussian mixture with one shared full covariance and free weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from rayscan.consensus.whitening import shrunk, total_scatter
from rayscan.types import Ints

ROUNDS = 20
SHRINKAGE = 0.01


def tied_mixture(rows: NDArray[np.float32], labels: Ints, num_clusters: int, rounds: int = ROUNDS) -> Ints:
    """The likeliest component of each row after some rounds from a grouping: int64 [N].

    The within covariance is St - sum_c w_c m_c m_c', so a round needs sums of the rows by component only.

    Args:
        rows: Centred, [N, q].
        labels: Where to start, [N].
        num_clusters: C.
        rounds: Of maximisation and expectation.
    """
    total = total_scatter(rows) / len(rows)
    shares = np.eye(num_clusters, dtype=np.float32)[labels]
    for _ in range(rounds):
        weights = shares.sum(axis=0, dtype=np.float64)
        means = (shares.T @ rows).astype(np.float64) / np.maximum(weights, 1e-9)[:, None]
        weights = weights / len(rows)
        within = shrunk(total - means.T @ (weights[:, None] * means), SHRINKAGE)
        slopes = cho_solve(cho_factor(within, lower=True), means.T)
        offsets = np.log(np.maximum(weights, 1e-12)) - 0.5 * np.einsum("cq,qc->c", means, slopes)
        outputs = rows @ slopes.astype(np.float32) + offsets.astype(np.float32)
        outputs -= outputs.max(axis=1, keepdims=True)
        shares = np.exp(outputs)
        shares /= shares.sum(axis=1, keepdims=True)
    found: Ints = shares.argmax(axis=1)
    return found
