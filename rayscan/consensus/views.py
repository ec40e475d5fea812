"""Coordinates in which to look for groups: no single one is best on all pictures, so all are tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.diffusion import diffusion_map, graph_eigenvectors
from rayscan.consensus.graphs import adjacency, diffused
from rayscan.consensus.layout import NEIGHBORS, fuzzy_graph, layout, neighbor_distances
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.space import Space

MAX_VECTORS, MAX_MORE_VECTORS = 256, 384
REGULARISATION = 0.1
WHITENED = 64


@dataclass(frozen=True)
class View:
    """Rows to cluster, and how to refine what is found."""

    name: str
    rows: NDArray[np.float32]
    """[N, columns]."""
    shrinkage: float = 1.0
    """Of the covariance in the discriminant refinement."""


def whitenings(space: Space) -> list[View]:
    """X1, X2, half and full whitening, X2 diffused over its graph."""
    z = space.rows[:, :WHITENED]
    variance = np.square(z, dtype=np.float64).mean(axis=0)
    spread = diffused(space.twice, adjacency(space.ids))
    return [
        View("whitened_once", unit_rows(space.whitened)),
        View("whitened_twice", unit_rows(space.twice)),
        View("fully_whitened", z / np.sqrt(variance).astype(np.float32), shrinkage=0.1),
        View("half_whitened", z / np.power(variance, 0.25).astype(np.float32), shrinkage=0.1),
        View("diffused", unit_rows(spread)),
    ]


def diffusion_maps(space: Space, num_clusters: int, seed: int) -> list[View]:
    """2C vectors of the raw graph, 2C and 3C of the whitened one."""
    count = min(2 * num_clusters, MAX_VECTORS)
    more = min(3 * num_clusters, MAX_MORE_VECTORS)
    values, vectors, scale = graph_eigenvectors(adjacency(space.raw_ids), count, seed)
    raw = diffusion_map(values, vectors, scale)
    values, vectors, scale = graph_eigenvectors(adjacency(space.ids), more, seed, REGULARISATION)
    return [
        View("diffusion_raw", raw),
        View("diffusion", diffusion_map(values[:count], vectors[:, :count], scale)),
        View("diffusion_wide", diffusion_map(values, vectors, scale)),
    ]


def graph_layout(space: Space, seed: int) -> View:
    """10-d layout of the raw graph."""
    ids = space.raw_ids[:, :NEIGHBORS]
    return View("layout", layout(fuzzy_graph(ids, neighbor_distances(space.units, ids)), seed))


def all_views(space: Space, num_clusters: int, seed: int) -> list[View]:
    """Every view, in a fixed order."""
    return [
        *whitenings(space),
        *diffusion_maps(space, num_clusters, seed),
        graph_layout(space, seed),
    ]
