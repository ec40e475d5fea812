"""A map of images: 2-D coordinates in which neighbors lie together.

Attraction along the edges of the neighbor graph, repulsion of rows drawn at random, as UMAP does it (McInnes,
Healy, Melville, arXiv 1802.03426, Sec. 3.2 and algorithm 5), from the first two principal components.

Deviations: b of the curve 1 / (1 + a r^2b) is 7/8, where UMAP fits 0.895: roots make the power, so that only
operations that round correctly decide. An epoch is done in blocks of edges whose changes are added up before
they count, so that nothing depends on threads. Memory and time grow with the number of edges.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rayscan.exports.graph import Graph

CURVE_A, CURVE_B = np.float32(1.581), np.float32(7 / 8)
"""1 / (1 + a r^2b): its fit to min(1, exp(0.1 - r)) over 0..3, which is UMAP's at minimum distance 0.1."""
EPOCHS = 200
LONG_EPOCHS, LONG_UNTIL = 500, 10_000
"""More passes up to so many rows, as in UMAP."""
NEGATIVES = 5
CLIP = 4.0
EXTENT = 10.0
"""Largest coordinate of the start."""
MOST_EDGES, LEAST_EDGES, BLOCKS = 32_768, 1024, 10
"""Edges of a block at most; between these, an epoch has so many blocks."""
NEAR, LEAST = np.float32(1e-3), np.float32(1e-9)
"""UMAP's epsilon, which parts rows in one place gently; the least square of a distance."""

Places = NDArray[np.float32]
"""[N, 2]."""


def map_layout(graph: Graph, start: Places, seed: int) -> Places:
    """Place rows by their neighbors.

    Args:
        graph: Neighbors of each row; rows without any stay where the others push them.
        start: First two principal components [N, 2], at any scale.
        seed: Of the noise, the edges and the negatives drawn.

    Returns:
        float32 [N, 2], the same bits for any number of threads.
    """
    rng = np.random.default_rng([seed, 12])
    scale = EXTENT / max(float(np.abs(start).max(initial=0)), 1e-12)
    places = (start * scale + rng.normal(scale=1e-4, size=start.shape)).astype(np.float32)
    heads, tails, chance = _edges(graph)
    if not len(heads):
        return places
    epochs = LONG_EPOCHS if len(places) <= LONG_UNTIL else EPOCHS
    for epoch in range(epochs):
        rate = np.float32(1 - epoch / epochs)
        taken = np.flatnonzero(rng.random(len(chance), np.float32) < chance)
        rng.shuffle(taken)
        count = max(math.ceil(len(taken) / MOST_EDGES), min(BLOCKS, math.ceil(len(taken) / LEAST_EDGES)))
        for block in np.array_split(taken, max(1, count)):
            negatives = rng.integers(len(places), size=(NEGATIVES, len(block)), dtype=np.int32)
            _move(places, heads[block], tails[block], negatives, rate)
    return places


def _edges(graph: Graph) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Ends of all edges, each in both directions, and how likely an epoch takes each."""
    from rayscan.consensus.layout import fuzzy_graph

    count, k = graph.ids.shape
    if k < 2:
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32)
    is_there = np.isfinite(graph.distances)
    # where there are fewer neighbors, the row itself fills up, at the distance of the last one
    last = np.where(is_there, graph.distances, -np.inf).max(axis=1, keepdims=True)
    distances = np.where(is_there, graph.distances, np.where(np.isfinite(last), last, 0))
    ids = np.where(is_there, graph.ids, np.arange(count)[:, None])
    weights = csr_array(fuzzy_graph(ids, distances.astype(np.float32)))
    weights.sum_duplicates()
    edges = weights.tocoo()
    heads, tails = (end.astype(np.int32) for end in edges.coords)
    is_edge = heads != tails
    chance = edges.data[is_edge].astype(np.float32)
    return heads[is_edge], tails[is_edge], chance / chance.max(initial=np.float32(1e-12))


def _move(
    places: Places,
    heads: NDArray[np.int32],
    tails: NDArray[np.int32],
    negatives: NDArray[np.int32],
    rate: np.float32,
) -> None:
    """Add what a block of edges changes: heads and tails come nearer, negatives push heads away.

    Args:
        places: Changed in place [N, 2].
        heads: [m].
        tails: [m].
        negatives: [n, m].
        rate: Step.
    """
    x, y = np.ascontiguousarray(places.T)
    from_x, from_y = x[heads], y[heads]
    dx, dy = from_x - x[tails], from_y - y[tails]
    square = dx * dx + dy * dy
    # r^2b is the square over its eighth root
    pull = -2 * CURVE_A * CURVE_B / (_eighth_root(np.maximum(square, LEAST)) + CURVE_A * square)
    pull_x, pull_y = _clipped(pull * dx), _clipped(pull * dy)
    push_x, push_y = np.zeros_like(pull_x), np.zeros_like(pull_y)
    for some in negatives:
        dx, dy = from_x - x[some], from_y - y[some]
        square = dx * dx + dy * dy
        root = _eighth_root(np.maximum(square, LEAST))
        push = 2 * CURVE_B * root / ((NEAR + square) * (root + CURVE_A * square))
        push_x += _clipped(push * dx)
        push_y += _clipped(push * dy)
    for axis, (pulled, pushed) in enumerate(((pull_x, push_x), (pull_y, push_y))):
        change = np.bincount(heads, pulled + pushed, len(places)) - np.bincount(tails, pulled, len(places))
        places[:, axis] += rate * change.astype(np.float32)


def _eighth_root(values: NDArray[np.float32]) -> NDArray[np.float32]:
    root: NDArray[np.float32] = np.sqrt(np.sqrt(np.sqrt(values)))
    return root


def _clipped(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(values, -CLIP, CLIP, out=values)
