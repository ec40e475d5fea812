"""Graph layout in a few dimensions: attraction along edges, repulsion of rows drawn at random.

Weights, gradients and schedule of UMAP (McInnes, Healy, Melville, arXiv 1802.03426; minimum distance 0).
Deviation: an epoch is done in blocks of edges whose changes are added up before they count, so that the
result does not depend on threads, and sums of several workers can be added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from rayscan.consensus.diffusion import graph_eigenvectors
from rayscan.consensus.graphs import lists
from rayscan.types import Ints

Block = tuple[Ints, Ints, Ints]
"""Heads and tails of edges, [m] each, and the rows that repel each head, [m, n]."""
NEIGHBORS = 15
DIMENSIONS = 10
EPOCHS = 200
BLOCKS = 16
PIECE, MOST_PIECES = 8192, 4
"""Edges that are worth a thread, and pieces of a block that are worth adding up."""
IN_CACHE = 8192
"""Edges whose forces are worked out at a time."""
NEGATIVES = 5
CURVE_A, CURVE_B = 1.929, 0.7915
"""1 / (1 + a r^2b), which fits exp(-r)."""
CLIP = 4.0
EXTENT = 10.0
"""Largest coordinate of the start."""
BISECTIONS = 40


def neighbor_distances(units: NDArray[np.float32], ids: Ints) -> NDArray[np.float32]:
    """Cosine distances 1 - u_i u_j of unit rows [N, D] to some others [N, K]: float32 [N, K]."""
    distances = np.empty(ids.shape, np.float32)
    for at, column in enumerate(ids.T):
        for first in range(0, len(units), 4096):
            some = slice(first, first + 4096)
            distances[some, at] = 1 - np.einsum("nd,nd->n", units[some], units[column[some]])
    return np.maximum(distances, 0)


def fuzzy_graph(ids: Ints, distances: NDArray[np.float32]) -> csr_array:
    """Symmetric weights a + b - ab of the directed ones exp(-(d_ij - rho_i) / sigma_i).

    rho_i is the nearest distance, sigma_i makes the weights of a row sum to log2 K.

    Args:
        ids: [N, K].
        distances: [N, K], ascending.

    Returns:
        [N, N].
    """
    above = np.maximum(distances - distances[:, :1], 0).astype(np.float64)
    wanted = math.log2(ids.shape[1])
    low, high = np.zeros(len(ids)), np.full(len(ids), np.inf)
    sigma = np.ones(len(ids))
    for _ in range(BISECTIONS):
        too_many = np.exp(-above / sigma[:, None]).sum(axis=1) > wanted
        high, low = np.where(too_many, sigma, high), np.where(too_many, low, sigma)
        sigma = np.where(np.isinf(high), 2 * sigma, (low + np.minimum(high, 1e300)) / 2)
        sigma = np.maximum(sigma, 1e-3 * distances.mean(axis=1) + 1e-12)
    directed = lists(ids, np.exp(-above / sigma[:, None]).astype(np.float32))
    reverse = csr_array(directed.T)
    return csr_array(directed + reverse - directed * reverse)


def layout(graph: csr_array, seed: int, epochs: int = EPOCHS) -> NDArray[np.float32]:
    """Coordinates in which neighbours lie together: float32 [N, 10].

    Args:
        graph: `fuzzy_graph`.
        seed: Of the start, the edges drawn and the negatives.
        epochs: Passes over the edges.
    """
    rng = np.random.default_rng([seed, 11])
    places = _start(graph, seed, rng)
    blocks = _epochs(graph, rng)
    with ThreadPoolExecutor(torch.get_num_threads() + 1, thread_name_prefix="layout") as pool:
        following = pool.submit(next, blocks)
        for epoch in range(epochs):
            rate = np.float32(1 - epoch / epochs)
            drawn = following.result()
            if epoch + 1 < epochs:
                following = pool.submit(next, blocks)  # random numbers take a third of the time
            for block in drawn:
                places += rate * _summed(pool, places, block)
    return places


def _epochs(graph: csr_array, rng: np.random.Generator) -> Iterator[list[Block]]:
    """What each epoch draws: edges by their weight, in blocks, and rows that repel."""
    edges = graph.tocoo()
    heads, tails = edges.coords
    chance = (edges.data / edges.data.max()).astype(np.float32)
    while True:
        taken = np.flatnonzero(rng.random(len(chance), np.float32) < chance)
        blocks = []
        for block in np.array_split(rng.permutation(taken), BLOCKS):
            negatives = rng.integers(graph.shape[0], size=(len(block), NEGATIVES))
            blocks.append((heads[block], tails[block], negatives))
        yield blocks


def _summed(pool: ThreadPoolExecutor, places: NDArray[np.float32], block: Block) -> NDArray[np.float32]:
    """Changes by a block; a large one is cut into pieces, the same ones for any number of threads."""
    pieces = 1
    while 2 * pieces <= min(MOST_PIECES, len(block[0]) // PIECE):
        pieces *= 2
    first, *others = pool.map(partial(changes, places), *(np.array_split(of, pieces) for of in block))
    for more in others:
        first += more
    return first


def _start(graph: csr_array, seed: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Eigenvectors 2..11, scaled to +-10, with a little noise to part equal rows."""
    _, vectors, _ = graph_eigenvectors(graph, DIMENSIONS + 1, seed)
    places = vectors[:, 1:] * (EXTENT / max(float(np.abs(vectors[:, 1:]).max()), 1e-12))
    places = places + rng.normal(scale=1e-4, size=places.shape)
    return places.astype(np.float32)


def changes(places: NDArray[np.float32], heads: Ints, tails: Ints, negatives: Ints) -> NDArray[np.float32]:
    """What a block of edges adds to the places at rate 1: float32 [N, dimensions].

    Args:
        places: [N, dimensions].
        heads: One end of each edge, [m].
        tails: The other, [m].
        negatives: Rows that repel each head, [m, n].
    """
    spans = [slice(at, at + IN_CACHE) for at in range(0, len(heads), IN_CACHE)]
    pulls = [_pulls(places, heads[span], tails[span], negatives[span]) for span in spans]
    values = np.concatenate([own for own, _ in pulls] + [other for _, other in pulls])
    ends = np.concatenate([heads, tails])
    members = csc_array(
        (np.ones(len(ends), np.float32), ends, np.arange(len(ends) + 1)), (len(places), len(ends))
    )
    added: NDArray[np.float32] = members @ values
    return added


def _pulls(
    places: NDArray[np.float32], heads: Ints, tails: Ints, negatives: Ints
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What moves the heads and the tails of edges: [m, dimensions] each."""
    own = places.take(heads, axis=0)
    apart = own - places.take(np.concatenate([tails[None], negatives.T]), axis=0)
    square = np.einsum("kmp,kmp->km", apart, apart)
    power = np.power(square, CURVE_B)
    force = np.empty_like(square)
    force[0] = -2 * CURVE_A * CURVE_B * power[0] / (square[0] * (1 + CURVE_A * power[0]) + 1e-30)
    force[1:] = 2 * CURVE_B / ((0.001 + square[1:]) * (1 + CURVE_A * power[1:]))
    apart *= np.repeat(force.ravel(), apart.shape[-1]).reshape(apart.shape)  # sooner than broadcast
    np.clip(apart, -CLIP, CLIP, out=apart)
    return apart[0] + apart[1:].sum(axis=0), -apart[0]
