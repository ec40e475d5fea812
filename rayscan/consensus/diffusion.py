"""Diffusion maps of a neighbour graph (Coifman and Lafon 2006): eigenvectors weighted by eigenvalues."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rayscan.consensus.graphs import degrees, normalized
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.sparse import Product, product

TIME = 8
"""Power of the eigenvalues."""
ROUNDS = 8
DEGREE = 10
SPARE = 8
"""Columns beyond those wanted: the last ones converge last."""


def leading_eigenvectors(
    matrix: csr_array, count: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Greatest eigenvalues and their vectors of a symmetric matrix with eigenvalues in [-1, 1].

    Subspace iteration with a Chebyshev filter (Zhou, Saad, Tiago, Chelikowsky 2006): each round multiplies by
    a polynomial that is at most 1 below the least of the values found so far and grows above it, then solves
    the small problem in the span (Rayleigh-Ritz). Only products with the matrix and sums over rows.

    Args:
        matrix: [N, N].
        count: m; at most N are given.
        seed: Of the start.

    Returns:
        Values, greatest first, [m], and vectors [N, m], the largest entry of each positive.
    """
    rows = matrix.shape[0]
    width = min(count + SPARE, rows)
    times = product(matrix, np.float64)
    span = _orthonormal(np.random.default_rng([seed, 10]).standard_normal((rows, width)))
    values, edge = np.ones(width), 0.0
    for _ in range(ROUNDS):
        span = _orthonormal(_filtered(times, span, edge))
        small = span.T @ times(span)
        values, turn = np.linalg.eigh((small + small.T) / 2)
        span = span @ turn
        edge = min(max(float(values[0]), -0.9), 0.99)
    values, span = values[::-1][:count], span[:, ::-1][:, :count]
    signs = np.sign(span[np.abs(span).argmax(axis=0), np.arange(span.shape[1])])
    return values, span * signs


def _orthonormal(span: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns of the same span: torch's QR, since NumPy's takes many times as long on a busy machine."""
    found: NDArray[np.float64] = torch.linalg.qr(torch.from_numpy(span))[0].numpy()
    return found


def _filtered(times: Product[np.float64], span: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    """T_k of the matrix mapped so that [-1, edge] becomes [-1, 1], times the span."""
    half, middle = (edge + 1) / 2, (edge - 1) / 2

    def mapped(block: NDArray[np.float64]) -> NDArray[np.float64]:
        turned: NDArray[np.float64] = (times(block) - middle * block) / half
        return turned

    before, now = span, mapped(span)
    for _ in range(DEGREE - 1):
        before, now = now, 2 * mapped(now) - before
    return now


def diffusion_map(
    values: NDArray[np.float64], vectors: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    """D^-1/2 v times max(l, 0)^8, rows of unit length: float32 [N, m].

    Args:
        values: l, [m].
        vectors: Eigenvectors of D^-1/2 A D^-1/2, [N, m].
        scale: The degrees D, [N].
    """
    half = np.sqrt(np.maximum(scale, np.finfo(np.float64).tiny))[:, None]
    return unit_rows((vectors / half * np.maximum(values, 0) ** TIME).astype(np.float32))


def graph_eigenvectors(
    graph: csr_array, count: int, seed: int, regularisation: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Values [m], vectors [N, m] and degrees [N] of a graph's normalised adjacency."""
    scale = degrees(graph, regularisation)
    values, vectors = leading_eigenvectors(normalized(graph, scale), count, seed)
    return values, vectors, scale
