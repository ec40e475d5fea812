"""The space everything is done in: principal components, and neighbour whitening twice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.consensus.whitening import neighbor_whitening, total_scatter
from rayscan.processor import blas_threads
from rayscan.types import Ints
from rayscan.vectors.pca import moments, solve

COMPONENTS = 256
NEGLIGIBLE = 1e-6
"""Components with less than this share of the first one's variance are dropped."""
RAW_NEIGHBORS = 15
"""Searched for by the features: as many as their graph and layout read; the whitening reads ten."""
NEIGHBORS = 20
"""Searched for in a whitened space: as many as the heads read; its graph and the score read fewer."""
WHOLE_ROWS = 20_000
"""Up to so many, neighbours by the features are searched in their full width."""


@dataclass(frozen=True)
class Space:
    """Rows in the three coordinates of the method, and their neighbours."""

    units: NDArray[np.float32]
    """U, the features: [N, D]."""
    mean: NDArray[np.float32]
    """[D]."""
    components: NDArray[np.float32]
    """Z = (U - mean) components: [D, d]."""
    rows: NDArray[np.float32]
    """Z, [N, d]."""
    total: NDArray[np.float64]
    """St = Z'Z / N, [d, d]."""
    raw_ids: Ints
    """G0, neighbours by the features: [N, K]."""
    whitened: NDArray[np.float32]
    """X1, whitened by G0: [N, q]."""
    projection: NDArray[np.float32]
    """X2 = Z projection: [d, q]."""
    twice: NDArray[np.float32]
    """X2, whitened by the neighbours in X1: [N, q]."""
    ids: Ints
    """G2, neighbours in X2: [N, K]."""


def principal(units: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean [D] and leading components [D, d], d = min(256, D, N - 1) less those of negligible variance."""
    shift = units[:1024].mean(axis=0)
    with blas_threads(torch.get_num_threads()):
        sums = moments(units, shift)
    pca = solve([sums], shift)
    width = min(COMPONENTS, units.shape[1], len(units) - 1)
    held = pca.variances[:width] > NEGLIGIBLE * pca.variances[0]
    components = pca.components[:width][held].T
    return pca.mean.astype(np.float32), np.ascontiguousarray(components, np.float32)


def rebuilt_units(
    rows: NDArray[np.float32], mean: NDArray[np.float32], components: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean + components z to unit length, in coordinates of its own: [N, d + 1].

    Args:
        rows: Z, [N, d].
        mean: [D].
        components: [D, d].
    """
    inside = mean @ components
    outside = np.linalg.norm(mean - components @ inside)
    return unit_rows(np.pad(rows + inside, ((0, 0), (0, 1)), constant_values=outside))


@blas_threads(1)
def make_space(units: NDArray[np.float32], raw_ids: Ints | None = None) -> Space:
    """Whiten features.

    Args:
        units: Unit rows, float32 [N, D].
        raw_ids: Their neighbours by cosine, nearest first, [N, K >= 15]; searched for if there are none,
            beyond 20,000 rows by cosine of what the mean and 256 components say of them.
    """
    most = len(units) - 1
    raw_neighbors, neighbors = min(RAW_NEIGHBORS, most), min(NEIGHBORS, most)
    mean, components = principal(units)
    with blas_threads(torch.get_num_threads()):
        rows = np.asarray((units - mean) @ components, np.float32)
    if raw_ids is not None:
        ids0 = np.asarray(raw_ids, np.int64)
    elif len(units) <= WHOLE_ROWS:
        ids0 = nearest_rows(units, raw_neighbors)
    else:
        ids0 = nearest_rows(rebuilt_units(rows, mean, components), raw_neighbors)
    total = total_scatter(rows) / len(rows)
    once = neighbor_whitening(rows, ids0, total).astype(np.float32)
    whitened = rows @ once
    ids1 = nearest_rows(unit_rows(whitened), min(RAW_NEIGHBORS, most))
    projection = neighbor_whitening(rows, ids1, total).astype(np.float32)
    twice = rows @ projection
    ids2 = nearest_rows(unit_rows(twice), neighbors)
    return Space(units, mean, components, rows, total, ids0, whitened, projection, twice, ids2)
