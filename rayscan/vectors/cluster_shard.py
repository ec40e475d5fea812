"""One shard of a k-means: assigns its rows, and adds them up without a trace of who added them.

Rows are rounded to multiples of a power of two (`grid_of`) that is coarse enough for float64 to add every row
of the matrix without a rounding. Sums are then exact, whatever the order: any number of shards gives the same
centroids, bit by bit. Distances are computed in blocks that begin at multiples of BLOCK_ROWS of the whole
matrix, so they too know nothing of the shards. Where the processor has units for bfloat16 and it pays, all
rows are assigned by these (`half_nearest`): labels are then those of exact distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rayscan.errors import DataError
from rayscan.processor import has_bf16_units
from rayscan.types import Ints
from rayscan.vectors.exact_distances import exact_distances
from rayscan.vectors.half_limits import pays
from rayscan.vectors.nearest import nearest_centroid

if TYPE_CHECKING:
    from rayscan.vectors.half_nearest import Nearest, Rounding

BLOCK_ROWS = 8192
"""Rows assigned at a time; shards are whole numbers of blocks."""

FLOAT64_BITS = 53
MAX_GRID_BITS = 40


@dataclass(frozen=True)
class Extent:
    """What must be known of the rows before they are added up; extents of shards join to that of all."""

    num_rows: int
    largest: float
    """Largest absolute value."""
    squares: tuple[float, ...]
    """Sum of squares of every block."""

    @staticmethod
    def joined(extents: list[Extent]) -> Extent:
        """The extent of all shards, in any order."""
        squares = tuple(value for extent in extents for value in extent.squares)
        return Extent(sum(e.num_rows for e in extents), max(e.largest for e in extents), squares)

    @property
    def grid(self) -> float:
        """Spacing to which rows are rounded: no sum of num_rows of them needs more than 53 bits."""
        bits = min(MAX_GRID_BITS, FLOAT64_BITS - max(1, math.ceil(math.log2(self.num_rows + 1))))
        return 2.0 ** (math.frexp(self.largest)[1] - bits) if self.largest else 1.0

    @property
    def total_squares(self) -> float:
        """Sum of squares of all values, the same in whatever order the blocks come."""
        return math.fsum(self.squares)


@dataclass(frozen=True)
class ClusterSums:
    """What a shard says of its rows under some centroids."""

    sums: NDArray[np.float64]
    """Sum of the rows of each cluster, exact multiples of the grid: [C, D]."""
    counts: Ints
    """Rows of each cluster: [C]."""
    distance: float
    """Sum of squared distances to the centroids, by float32; only of a batch (`cluster_sums_of`)."""
    far_distances: NDArray[np.float32]
    """Squared distances of the rows farthest from their centroid, falling: [m]."""
    far_rows: Ints
    """Their numbers in the whole matrix: [m]."""
    far_vectors: NDArray[np.float32]
    """The rows themselves: [m, D]."""

    @staticmethod
    def joined(shards: list[ClusterSums], far: int) -> ClusterSums:
        """The sums of all shards, in any order; of far rows the farthest, the lower number at a tie."""
        distances = np.concatenate([t.far_distances for t in shards])
        rows = np.concatenate([t.far_rows for t in shards])
        vectors = np.concatenate([t.far_vectors for t in shards])
        first = np.lexsort((rows, -distances))[:far]
        sums, counts = shards[0].sums.copy(), shards[0].counts.copy()
        for shard in shards[1:]:
            sums += shard.sums
            counts += shard.counts
        distance = math.fsum(shard.distance for shard in shards)
        return ClusterSums(sums, counts, distance, distances[first], rows[first], vectors[first])


class ClusterShard:
    """Rows [first, first + n) of a matrix, float32 [n, D]."""

    def __init__(self, rows: NDArray[np.float32], first: int, *, threads: int, where: str) -> None:
        """Hold the rows.

        Args:
            rows: [n, D].
            first: Number of the first row in the whole matrix, a multiple of BLOCK_ROWS.
            threads: Threads of the distance computation.
            where: Name of the shard, for messages.

        Raises:
            DataError: a value is NaN or infinite.
        """
        assert first % BLOCK_ROWS == 0, first
        self.rows = np.ascontiguousarray(rows, np.float32)
        if wrong := sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in self._blocks()):
            raise DataError(
                "k-means needs finite rows",
                got=f"{wrong} rows that are not",
                where=where,
                fix="look at the loss curve of the pretext stage",
            )
        self.first = first
        self._rounds: list[NDArray[np.float32]] = []
        self._nearest = np.full(len(rows), np.inf, np.float32)
        self._threads = threads
        self._rounding: list[Rounding] = []
        self.settled = np.zeros(3, np.int64)
        """Rows assigned so far by bfloat16: see `half_nearest.Nearest`."""
        faiss.omp_set_num_threads(threads)

    def extent(self) -> Extent:
        """Size and magnitude of the rows."""
        squares = tuple(float(np.square(block, dtype=np.float64).sum()) for block in self._blocks())
        largest = max((float(np.abs(block).max(initial=0.0)) for block in self._blocks()), default=0.0)
        return Extent(len(self.rows), largest, squares)

    def cluster_sums(self, centroids: NDArray[np.float32], grid: float, far: int) -> ClusterSums:
        """Assign all rows and add them up.

        Args:
            centroids: [C, D].
            grid: `Extent.grid` of the whole matrix.
            far: Farthest rows wanted.
        """
        numbers = np.arange(self.first, self.first + len(self.rows))
        if not (pays(centroids) and has_bf16_units()):
            labels, distances = self._assigned(self.rows, centroids)
        else:
            found = self._by_half(centroids)
            labels, distances = found.labels, np.full(len(numbers), -np.inf, np.float32)
            some = found.may_be_farthest(far)
            distances[some] = exact_distances(self.rows[some], centroids[labels[some]])
        return self._added(self.rows, numbers, labels, distances, len(centroids), grid, far)

    def cluster_sums_of(
        self, centroids: NDArray[np.float32], grid: float, far: int, numbers: Ints
    ) -> ClusterSums:
        """Sums over some rows, by number in the whole matrix; those of other shards are passed over."""
        mine = numbers[(numbers >= self.first) & (numbers < self.first + len(self.rows))]
        rows = self.rows[mine - self.first]
        labels, distances = self._assigned(rows, centroids)
        found = self._added(rows, mine, labels, distances, len(centroids), grid, far)
        return replace(found, distance=float(distances.sum(dtype=np.float64)))

    def take(self, numbers: Ints) -> NDArray[np.float32]:
        """The rows among `numbers` that lie here, in the order asked for: [m, D]."""
        mine = numbers[(numbers >= self.first) & (numbers < self.first + len(self.rows))]
        return self.rows[mine - self.first]

    def costs(self, rounds: Sequence[NDArray[np.float32]]) -> list[float]:
        """Sum of squared distances to the nearest candidate, for each block of rows; see `seeding.parallel`.

        Args:
            rounds: Candidates so far, [m, D] of each round; distances to earlier rounds are remembered.
        """
        nearest = self._to_candidates(rounds)
        return [float(nearest[at].sum(dtype=np.float64)) for at in self._slices()]

    def draw(
        self, rounds: Sequence[NDArray[np.float32]], factor: float, seed: Sequence[int]
    ) -> NDArray[np.float32]:
        """Rows that become candidates, each with probability `factor` times its squared distance: [m, D]."""
        nearest = self._to_candidates(rounds)
        is_drawn = np.zeros(len(self.rows), bool)
        for at in self._slices():
            rng = np.random.default_rng([*seed, (self.first + at.start) // BLOCK_ROWS])
            is_drawn[at] = rng.random(len(nearest[at])) < factor * nearest[at].astype(np.float64)
        return self.rows[is_drawn]

    def weigh(self, candidates: NDArray[np.float32]) -> Ints:
        """Rows that are nearest to each candidate: [m, D] -> int64 [m]."""
        counts = np.zeros(len(candidates), np.int64)
        for block in self._blocks():
            counts += np.bincount(nearest_centroid(block, candidates)[0], minlength=len(candidates))
        return counts

    def _to_candidates(self, rounds: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Squared distance of every row to the nearest candidate: [n].

        It goes round by round, so that a shard that has just been loaded again gives the bits of one that
        remembers.
        """
        known = len(self._rounds)
        if not all(map(np.array_equal, self._rounds, rounds)) or known > len(rounds):
            self._rounds, known = [], 0
            self._nearest = np.full(len(self.rows), np.inf, np.float32)
        for candidates in rounds[known:]:
            for at in self._slices():
                distances = nearest_centroid(self.rows[at], candidates)[1]
                np.minimum(self._nearest[at], distances, out=self._nearest[at])
        self._rounds = list(rounds)
        return self._nearest

    def labels(self, centroids: NDArray[np.float32]) -> NDArray[np.int32]:
        """Cluster of every row: int32 [n]."""
        if pays(centroids) and has_bf16_units():
            return self._by_half(centroids).labels
        return np.concatenate([nearest_centroid(block, centroids)[0] for block in self._blocks()])

    def _blocks(self) -> Iterator[NDArray[np.float32]]:
        yield from (self.rows[at] for at in self._slices())

    def _slices(self) -> Iterator[slice]:
        starts = range(0, len(self.rows), BLOCK_ROWS)
        yield from (slice(at, min(at + BLOCK_ROWS, len(self.rows))) for at in starts)

    def _assigned(
        self, rows: NDArray[np.float32], centroids: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Labels and squared distances by float32, block by block: [m] each."""
        labels, distances = np.empty(len(rows), np.int32), np.empty(len(rows), np.float32)
        for at in range(0, len(rows), BLOCK_ROWS):
            some = slice(at, at + BLOCK_ROWS)
            labels[some], distances[some] = nearest_centroid(rows[some], centroids)
        return labels, distances

    def _by_half(self, centroids: NDArray[np.float32]) -> Nearest:
        """All rows by bfloat16; what is known of their rounding is kept, 28 bytes a row."""
        from rayscan.vectors.half_nearest import HalfNearest, Nearest, Rounding  # torch: a second to import

        if not self._rounding:
            self._rounding = [Rounding.of(block) for block in self._blocks()]
        half = HalfNearest(centroids, self._threads)
        parts = [
            half.nearest(block, known) for block, known in zip(self._blocks(), self._rounding, strict=True)
        ]
        found = Nearest.joined(parts)
        self.settled += found.settled
        return found

    def _added(
        self,
        rows: NDArray[np.float32],
        numbers: Ints,
        labels: NDArray[np.int32],
        distances: NDArray[np.float32],
        num_clusters: int,
        grid: float,
        far: int,
    ) -> ClusterSums:
        sums, counts = np.zeros((num_clusters, rows.shape[1])), np.bincount(labels, minlength=num_clusters)
        for at in range(0, len(rows), BLOCK_ROWS):
            some = slice(at, at + BLOCK_ROWS)
            sums += _sums(np.rint(rows[some].astype(np.float64) * (1 / grid)), labels[some], num_clusters)
        far = min(far, len(rows))
        candidates = np.argpartition(-distances, far - 1)[:far] if far else np.empty(0, np.int64)
        if far and far < len(rows):  # all that tie with the last place, so that numbers decide
            candidates = np.flatnonzero(distances >= distances[candidates].min())
        first = candidates[np.lexsort((numbers[candidates], -distances[candidates]))][:far]
        return ClusterSums(sums * grid, counts, 0.0, distances[first], numbers[first], rows[first])


def _sums(values: NDArray[np.float64], labels: NDArray[np.int32], num_clusters: int) -> NDArray[np.float64]:
    """Sum of the values of each label: [m, D] -> [C, D]."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    starts = np.searchsorted(labels[order], np.arange(num_clusters + 1)).astype(np.int32)
    indicator = csr_array((np.ones(len(labels)), order, starts), shape=(num_clusters, len(labels)))
    sums: NDArray[np.float64] = indicator @ values
    return sums


def shard_bounds(num_rows: int, num_shards: int) -> list[tuple[int, int]]:
    """Rows [first, stop) of at most `num_shards` shards, whole blocks each, none empty."""
    blocks = np.arange(math.ceil(num_rows / BLOCK_ROWS))
    parts = np.array_split(blocks, max(1, min(num_shards, len(blocks))))
    return [(int(p[0]) * BLOCK_ROWS, min((int(p[-1]) + 1) * BLOCK_ROWS, num_rows)) for p in parts if len(p)]
