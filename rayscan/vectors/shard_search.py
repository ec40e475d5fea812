"""One shard of the flat index: proposes candidates by faiss, scores chosen ones exactly. Pure.

On a CPU faiss searches the rows where they lie (the kernel of IndexFlatIP, without that index's second copy);
on a GPU a GpuIndexFlatIP holds them.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from rayscan.errors import DataError
from rayscan.vectors.parts import require_unit_rows
from rayscan.vectors.rescore import score_pairs

QUERY_BLOCK, ROW_BLOCK = 1024, 2048
"""Tile of faiss's matrix product: 8 MB of scores, which the selection still finds in cache. `python -m
benchmarks.vectors` measures it against the bare product."""

MIN_RESERVOIR = 1
"""K' from which faiss selects by a reservoir instead of a heap, 100 in itself: 6 % of a search at D = 128."""

GPU_MAX_WIDTH = 2048
"""faiss selects at most this many per query on a GPU."""


class ShardSearch:
    """Flat inner-product search over [n, D] rows of unit length."""

    def __init__(self, rows: NDArray[np.float32], *, threads: int, use_gpu: bool, where: str) -> None:
        """Take the rows.

        Args:
            rows: [n, D], n >= 1.
            threads: OpenMP threads of the search.
            use_gpu: Search on the first visible GPU, if this faiss can.
            where: Name of the shard, for messages.

        Raises:
            DataError: a row is not finite or longer than one.
        """
        require_unit_rows(rows, where)
        self.rows = np.ascontiguousarray(rows)
        self.where = where
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_query_bs = QUERY_BLOCK
        faiss.cvar.distance_compute_blas_database_bs = ROW_BLOCK
        faiss.cvar.distance_compute_min_k_reservoir = MIN_RESERVOIR
        self._gpu_index: Any = None
        if use_gpu and faiss.get_num_gpus():  # a build of faiss without GPUs counts none
            self._gpu_resources = faiss.StandardGpuResources()
            self._gpu_index = faiss.GpuIndexFlatIP(self._gpu_resources, self.rows.shape[1])
            self._gpu_index.add(self.rows)

    def __len__(self) -> int:
        """Rows held (n)."""
        return len(self.rows)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best rows by faiss's float32 arithmetic, best first.

        Args:
            queries: [q, D].
            k: Wanted per query; all rows are given when there are fewer.

        Returns:
            Scores float32 and row numbers within the shard int64: [q, min(k, n)] each.

        Raises:
            DataError: a query has no finite scores.
        """
        width = min(k, len(self.rows))
        queries = np.ascontiguousarray(queries)
        if self._gpu_index is not None and width <= GPU_MAX_WIDTH:
            scores, local = self._gpu_index.search(queries, width)
        else:
            scores, local = faiss.knn(queries, self.rows, width, metric=faiss.METRIC_INNER_PRODUCT)
        if (local < 0).any():
            raise DataError(
                "a query has fewer finite scores than rows",
                expected=f"{width} rows per query",
                got=f"{int((local < 0).any(axis=1).sum())} queries with less",
                where=self.where,
                fix="the query holds NaN or infinity; look at the loss curve of the pretext stage",
            )
        return scores, local

    def score(
        self, queries: NDArray[np.float32], query_at: NDArray[np.int64], row_at: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Exact scores of chosen pairs (`rescore.score_pairs`): [q, D], numbers [p] twice -> float32 [p]."""
        return score_pairs(queries, self.rows, query_at, row_at)
