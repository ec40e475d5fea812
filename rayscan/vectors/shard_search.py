"""One shard of the flat index: proposes candidates, scores chosen ones exactly. Pure.

On a CPU faiss searches the rows where they lie (the kernel of IndexFlatIP, without that index's second copy),
or, where the CPU has units for bfloat16, what a search in bfloat16 leaves (`half_search`);
on a GPU a GpuIndexFlatIP holds them. Given rows on storage, it holds them in half precision, searches tile by
tile in float32, and reads those it must score.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from numpy.typing import NDArray

from rayscan.errors import DataError
from rayscan.processor import has_bf16_units
from rayscan.types import Ints
from rayscan.vectors.gpu_memory import require_gpu_memory
from rayscan.vectors.half_limits import MAX_WIDTH, MIN_ROWS
from rayscan.vectors.parts import require_unit_rows
from rayscan.vectors.rescore import score_pairs
from rayscan.vectors.stored_rows import StoredRows, rows_at_once

if TYPE_CHECKING:
    from rayscan.vectors.half_search import HalfSearch

QUERY_BLOCK, ROW_BLOCK = 1024, 2048
"""Tile of faiss's matrix product: 8 MB of scores, which the selection still finds in cache. `python -m
benchmarks.vectors` measures it against the bare product."""

MIN_RESERVOIR = 1
"""K' from which faiss selects by a reservoir instead of a heap, 100 in itself: 6 % of a search at D = 128."""

GPU_MAX_WIDTH = 2048
"""faiss selects at most this many per query on a GPU."""


class ShardSearch:
    """Flat inner-product search over [n, D] rows of unit length."""

    def __init__(
        self,
        rows: NDArray[np.float32] | StoredRows,
        *,
        threads: int,
        use_gpu: bool,
        where: str,
        gpu_share: float = 1.0,
    ) -> None:
        """Hold the rows.

        Args:
            rows: [n, D], n >= 1; or where they lie, to hold them in half precision.
            threads: OpenMP threads of the search.
            use_gpu: Search on the first visible GPU, if this faiss can.
            where: Name of the shard, for messages.
            gpu_share: Of that GPU, which others may use as well.

        Raises:
            DataError: a row is not finite or longer than one.
            FleetError: the rows do not fit on the GPU.
        """
        self._stored: StoredRows | None = None
        self.rows: NDArray[np.float32] | NDArray[np.float16]
        if isinstance(rows, StoredRows):
            self.rows = rows.half()
            if not rows.rows.is_half:
                self._stored = rows
        else:
            require_unit_rows(rows, where)
            self.rows = np.ascontiguousarray(rows)
        self.where = where
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_query_bs = QUERY_BLOCK
        faiss.cvar.distance_compute_blas_database_bs = ROW_BLOCK
        faiss.cvar.distance_compute_min_k_reservoir = MIN_RESERVOIR
        self._gpu_index: Any = None
        if use_gpu and faiss.get_num_gpus():  # a build of faiss without GPUs counts none
            self._put_on_gpu(gpu_share)
        self._half: HalfSearch | None = None
        if self._gpu_index is None and self._stored is None:
            self._half = _half_search(self.rows, threads)
        self.by_half = self.by_float = 0
        """Queries of the last search that bfloat16 settled, and those that it left to float32."""

    def __len__(self) -> int:
        """Rows held (n)."""
        return len(self.rows)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], Ints]:
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
            scores, local = self._on_cpu(queries, width)
        if (local < 0).any():
            raise DataError(
                "a query has fewer finite scores than rows",
                expected=f"{width} rows per query",
                got=f"{int((local < 0).any(axis=1).sum())} queries with less",
                where=self.where,
                fix="the query holds NaN or infinity; look at the loss curve of the pretext stage",
            )
        return scores, local

    def score(self, queries: NDArray[np.float32], query_at: Ints, row_at: Ints) -> NDArray[np.float32]:
        """Exact scores of chosen pairs (`rescore.score_pairs`): [q, D], numbers [p] twice -> float32 [p]."""
        if self._stored is not None:
            return self._stored.score(queries, query_at, row_at)
        return score_pairs(queries, self.rows, query_at, row_at)

    def _on_cpu(self, queries: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], Ints]:
        """By half precision, and in float32 what that leaves."""
        self.by_half, self.by_float = 0, len(queries)
        if self._half is None or width > MAX_WIDTH:
            return self._by_tiles(queries, width)
        scores, local, is_found = self._half.search(queries, width)
        self.by_half, self.by_float = int(is_found.sum()), int((~is_found).sum())
        if self.by_float:
            scores[~is_found], local[~is_found] = self._by_tiles(queries[~is_found], width)
        return scores, local

    def _put_on_gpu(self, share: float) -> None:
        import torch

        (num_rows, dim), value_bytes = self.rows.shape, self.rows.itemsize
        if torch.cuda.is_available():  # a torch without GPUs beside a faiss with them cannot tell
            free, total = torch.cuda.mem_get_info()
            require_gpu_memory(
                num_rows, dim, value_bytes, free=free, total=total, share=share, where=self.where
            )
        settings = faiss.GpuIndexFlatConfig()
        settings.useFloat16 = value_bytes == 2
        self._gpu_resources = faiss.StandardGpuResources()
        self._gpu_index = faiss.GpuIndexFlatIP(self._gpu_resources, dim, settings)
        for tile in self._tiles():
            self._gpu_index.add(tile)

    def _tiles(self) -> Iterator[NDArray[np.float32]]:
        """The rows in float32: all at once if they are held so."""
        if self.rows.dtype == np.float32:
            yield self.rows.astype(np.float32, copy=False)
            return
        step = rows_at_once(self.rows.shape[1])
        for first in range(0, len(self.rows), step):
            yield self.rows[first : first + step].astype(np.float32)

    def _by_tiles(self, queries: NDArray[np.float32], width: int) -> tuple[NDArray[np.float32], Ints]:
        """The `width` best rows on the CPU, best first: [q, width] each."""
        best: tuple[NDArray[np.float32], Ints] | None = None
        first = 0
        for tile in self._tiles():
            scores, local = faiss.knn(queries, tile, min(width, len(tile)), metric=faiss.METRIC_INNER_PRODUCT)
            local[local >= 0] += first
            first += len(tile)
            if best is not None:
                scores = np.concatenate([best[0], scores], axis=1)
                local = np.concatenate([best[1], local], axis=1)
                order = np.argsort(-scores, axis=1, kind="stable")[:, :width]
                scores = np.take_along_axis(scores, order, axis=1)
                local = np.take_along_axis(local, order, axis=1)
            best = scores, local
        assert best is not None  # a shard holds a row
        return best


def _half_search(rows: NDArray[np.float32] | NDArray[np.float16], threads: int) -> HalfSearch | None:
    """A search in bfloat16 of rows that are many and held in float32."""
    if rows.dtype != np.float32 or len(rows) < MIN_ROWS or not has_bf16_units():
        return None
    from rayscan.vectors.half_search import HalfSearch  # torch, a second of the start of a shard

    return HalfSearch(rows.astype(np.float32, copy=False), threads)
