"""The neighbors of every image by row number: mined ones as they are, missing ones searched for.

A run mines the neighbors of its train images; eval images, predictions and k-means have none. They are
searched among all rows: exactly while that takes at most PAIRS inner products, beyond that among the
principal components of the rows by lists of an inverted file (faiss `IndexIVFFlat`), whose memory and time
grow with the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.run import Run
from rayscan.tables import as_rows, row_groups
from rayscan.training.space_rows import rows_of
from rayscan.types import Ints
from rayscan.vectors.neighbor_table import FILE
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.pca import Pca, moments, shift_of, solve

NEIGHBORS = 15
PAIRS = 4_000_000_000
"""Inner products of an exact search: 60,000 rows among themselves."""
QUERIES, STORED = 4096, 65_536
"""Rows of a block that asks, and of one that is asked."""
COMPONENTS = 64
"""Principal components that an inverted file holds."""
PROBES = 16
"""Lists read for each query."""
NONE = -1


@dataclass(frozen=True)
class Graph:
    """Nearest rows of every row by cosine, itself excluded."""

    ids: Ints
    """Row numbers, nearest first; NONE where there are fewer: int64 [N, K]."""
    distances: NDArray[np.float32]
    """1 - cosine, in the space that was mined; infinite where there is none: [N, K]."""


def neighbor_graph(run: Run, rows: EmbeddingRows, gids: Ints, k: int = NEIGHBORS) -> Graph:
    """Neighbors of the images of an export.

    Args:
        run: Whose neighbors are taken, if it has some.
        rows: Embeddings of the images.
        gids: Images in the order of the export, rising [N]; all have embeddings.
        k: Neighbors of each at most.
    """
    k = min(k, len(gids) - 1)
    graph = Graph(np.full((len(gids), k), NONE), np.full((len(gids), k), np.inf, np.float32))
    if "mine" in run.record["stages"]:
        _take_mined(run, gids, graph)
    lonely = np.flatnonzero(graph.ids[:, :1].ravel() == NONE) if k > 0 else np.empty(0, np.int64)
    if not len(lonely):
        return graph
    at = rows_of(rows, gids)
    if len(lonely) * len(gids) <= PAIRS:
        _search_all(rows, at, lonely, graph)
    else:
        _search_lists(rows, at, lonely, graph)
    return graph


def _take_mined(run: Run, gids: Ints, graph: Graph) -> None:
    """Fill in what was mined, row group by row group."""
    k, order_of = graph.ids.shape[1], np.argsort(gids)
    last = len(gids) - 1
    for group in row_groups(run.artifact("mine"), FILE, ["gid", "ids", "scores"]):
        asked, found = group["gid"].to_numpy(), as_rows(group["ids"])
        at, to = (
            order_of[np.searchsorted(gids, some, sorter=order_of).clip(max=last)] for some in (asked, found)
        )
        is_there = gids[to] == found
        distances = np.where(is_there, np.maximum(1 - as_rows(group["scores"]), 0), np.inf)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        known = gids[at] == asked
        nearest = np.take_along_axis(np.where(is_there, to, NONE), order, axis=1)
        graph.ids[at[known], : order.shape[1]] = nearest[known]
        graph.distances[at[known], : order.shape[1]] = np.take_along_axis(distances, order, axis=1)[known]


def _search_all(rows: EmbeddingRows, at: Ints, lonely: Ints, graph: Graph) -> None:
    """Exactly, block by block."""
    import faiss

    k = graph.ids.shape[1]
    for stored in blocks(len(at)):
        there = rows.take(at[stored])
        for part in blocks(len(lonely), QUERIES):
            asking = lonely[part]
            scores, ids = faiss.knn(
                rows.take(at[asking]), there, min(k + 1, len(there)), metric=faiss.METRIC_INNER_PRODUCT
            )
            _merge(graph, asking, ids + stored.start, 1 - scores)


def _search_lists(rows: EmbeddingRows, at: Ints, lonely: Ints, graph: Graph) -> None:
    """Nearly, among principal components of unit length.

    The lists are those of faiss's k-means with its fixed seed.
    """
    import faiss

    pca = components(rows, at, COMPONENTS)
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(pca.components.shape[0]),
        pca.components.shape[0],
        int(4 * np.sqrt(len(at))),
        faiss.METRIC_INNER_PRODUCT,
    )
    index.nprobe = PROBES
    step = max(1, len(at) // (64 * index.nlist))
    index.train(_unit(pca.project(rows.take(at[::step]))))
    for stored in blocks(len(at)):
        index.add(_unit(pca.project(rows.take(at[stored]))))
    k = graph.ids.shape[1]
    for part in blocks(len(lonely), QUERIES):
        scores, ids = index.search(_unit(pca.project(rows.take(at[lonely[part]]))), k + 1)
        _merge(graph, lonely[part], ids, np.where(ids >= 0, 1 - scores, np.inf))


def _merge(graph: Graph, asking: Ints, ids: Ints, distances: NDArray[np.float32]) -> None:
    """Put some more neighbors to those that rows have: the nearest stay, of equal ones the lower number."""
    k = graph.ids.shape[1]
    distances = np.where(ids == asking[:, None], np.inf, np.maximum(distances, 0))
    all_ids = np.hstack([graph.ids[asking], np.where(np.isinf(distances), NONE, ids)])
    all_distances = np.hstack([graph.distances[asking], distances])
    order = np.lexsort((all_ids, all_distances))[:, :k]
    graph.ids[asking] = np.take_along_axis(all_ids, order, axis=1)
    graph.distances[asking] = np.take_along_axis(all_distances, order, axis=1)


def components(rows: EmbeddingRows, at: Ints, count: int) -> Pca:
    """Principal components of rows, in one pass of blocks.

    Args:
        rows: The matrix.
        at: Its rows that count.
        count: Components at most.
    """
    shift = shift_of(rows) if rows.train_rows else rows.read(0, 1)[0]
    parts = [moments(rows.take(at[some]), shift) for some in blocks(len(at))]
    return solve(parts, shift, min(count, rows.dim, len(at)))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.maximum(lengths, 1e-12), np.float32)


def blocks(count: int, size: int = STORED) -> Iterator[slice]:
    """Cut rows 0..count into consecutive slices."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))
