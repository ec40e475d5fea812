"""Vectors to measure on, the bare product they are held against, and shards without Ray."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.vectors.merge import MARGIN, Proposal
from rayscan.vectors.shard_search import QUERY_BLOCK, ROW_BLOCK, ShardSearch

Rows = NDArray[np.float32]
Ids = NDArray[np.int64]


def on_one_thread(module: str) -> None:
    """Start this process again with one thread in every library, unless it has: they read it as they load."""
    wanted = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    wanted["OMP_WAIT_POLICY"] = "PASSIVE"
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]], {**os.environ, **wanted})


def clustered(
    num_rows: int, dim: int, *, seed: int, num_clusters: int | None = None, spectrum: float = 0.0
) -> Rows:
    """Unit rows around centers of unequal weight, so that neighbors are near and clusters differ in size.

    Args:
        num_rows: N.
        dim: D.
        seed: Of the draws.
        num_clusters: A 500th of the rows if left out.
        spectrum: Variance of dimension i falls as i^-spectrum; 0 makes all alike.
    """
    rng = np.random.default_rng(seed)
    num_clusters = num_clusters or max(16, num_rows // 500)
    centers = rng.normal(size=(num_clusters, dim)) * rng.uniform(0.5, 1.5, size=(num_clusters, 1))
    weights = rng.dirichlet(np.ones(num_clusters))
    scale = np.arange(1, dim + 1) ** (-spectrum / 2)
    rows = np.empty((num_rows, dim), np.float32)
    for at in range(0, num_rows, 65_536):
        some = rows[at : at + 65_536]
        some[:] = centers[rng.choice(num_clusters, len(some), p=weights)]
        some += 1.2 * rng.standard_normal(some.shape, dtype=np.float32)
        some *= scale
        some /= np.linalg.norm(some, axis=1, keepdims=True)
    return rows


def gemm_in_tiles(queries: Rows, rows: Rows) -> Callable[[], None]:
    """Product of all queries with all rows, in the tiles of the search, into a preallocated one."""
    out = np.empty((QUERY_BLOCK, ROW_BLOCK), np.float32)
    edge = np.empty((QUERY_BLOCK, len(rows) % ROW_BLOCK or ROW_BLOCK), np.float32)

    def run() -> None:
        for first in range(0, len(queries), QUERY_BLOCK):
            some = queries[first : first + QUERY_BLOCK]
            for at in range(0, len(rows), ROW_BLOCK):
                tile = rows[at : at + ROW_BLOCK]
                into = out if len(tile) == ROW_BLOCK else edge
                np.matmul(some, tile.T, out=into[: len(some)])

    return run


class LocalShards:
    """`merge.Shards` in this process."""

    nprobe = None
    margin = MARGIN

    def exhaustive(self) -> LocalShards:
        """Itself: it reads everything."""
        return self

    def __init__(self, rows: Rows, num_shards: int) -> None:
        """Cut the rows into shards of about equal size."""
        self.shards = [
            ShardSearch(part, threads=1, use_gpu=False, where="benchmark")
            for part in np.array_split(rows, num_shards)
        ]
        self.sizes = [len(shard) for shard in self.shards]

    def propose(self, queries: Rows, width: int) -> list[Proposal]:
        """See `merge.Shards`."""
        return [shard.search(queries, width) for shard in self.shards]

    def score(self, queries: Rows, pairs: Sequence[tuple[Ids, Ids]]) -> list[Rows]:
        """See `merge.Shards`."""
        return [shard.score(queries, *pair) for shard, pair in zip(self.shards, pairs, strict=True)]
