"""Owner-merge: from what the shards propose to neighbors that do not depend on the sharding.

Every shard proposes its K' best by float32 arithmetic, whose error depends on tiles and threads. The owner of
the queries keeps all proposals within MARGIN of the last place wanted, has just these scored exactly where
they lie, and sorts by (-score, row). A shard whose worst proposal is itself within MARGIN of that place may
be hiding a neighbor: those queries are asked again with K' doubled, until every shard is below it or has told
all its rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints
from rayscan.vectors.duplicates import Copies, expand, first_per_query, limited, without_self
from rayscan.vectors.parts import EmbeddingRows

MARGIN = 1e-5
"""Above twice the error of a float32 inner product of unit rows: roundings of up to 2^-24 each add up like a
random walk, to sqrt(D) 2^-24 = 2.7e-6 at D = 2048, were every partial sum 1."""

SPARE = 8
"""Proposals beyond the places wanted. Where more rows than these crowd within MARGIN of the last place, a
query is asked again; elsewhere further proposals only cost (K' = 56 instead of 29: 6 % of the search at
D = 128)."""

PROPOSALS_AT_ONCE = 1 << 23
"""Proposals the owner holds at a time; bounds its memory to about 200 MB."""

Proposal: TypeAlias = tuple[NDArray[np.float32], Ints]
"""Scores and local rows, [q, width] each."""


class Shards(Protocol):
    """The shards as their client sees them: all are asked at once and answer in shard order."""

    sizes: Sequence[int]
    """Rows of each shard."""
    nprobe: int | None
    """Lists read per query where shards search approximately; None where they are exact."""

    margin: float
    """How far a proposed score may be off, twice: MARGIN for float32, infinite for 8-bit codes."""

    def exhaustive(self) -> Shards:
        """These shards, reading all lists."""
        ...

    def propose(self, queries: NDArray[np.float32], width: int) -> list[Proposal]:
        """Scores and local rows of the `width` best of every shard: [q, min(width, n_s)] each."""
        ...

    def score(
        self, queries: NDArray[np.float32], pairs: Sequence[tuple[Ints, Ints]]
    ) -> list[NDArray[np.float32]]:
        """Exact scores of (query, local row) pairs, one pair of arrays per shard."""
        ...


def nearest(queries: NDArray[np.float32], shards: Shards, keep: int) -> tuple[NDArray[np.float32], Ints]:
    """The `keep` best rows of all shards for every query.

    Args:
        queries: [q, D].
        shards: Contiguous ranges of the searched rows, in order.
        keep: Wanted per query; all rows are given when there are fewer.

    Returns:
        Exact scores float32 and positions over all shards int64, in the order (-score, position):
        [q, min(keep, rows)] each.
    """
    begins = np.cumsum(shards.sizes) - shards.sizes
    keep = min(keep, sum(shards.sizes))
    out_scores = np.empty((len(queries), keep), np.float32)
    out_positions = np.empty((len(queries), keep), np.int64)
    spare = SPARE if np.isfinite(shards.margin) else keep + SPARE
    work = [(np.arange(len(queries)), keep + spare)]
    while work:
        left, width = work.pop()
        for some in _pieces(left, PROPOSALS_AT_ONCE // sum(min(width, size) for size in shards.sizes)):
            proposals = shards.propose(queries[some], width)
            if shards.nprobe is not None:
                lacking = sum((local >= 0).sum(axis=1) for _, local in proposals) < keep
                if lacking.any():  # the lists read hold too few rows: read all of them
                    at = some[lacking]
                    out_scores[at], out_positions[at] = nearest(queries[at], shards.exhaustive(), keep)
                    some, proposals = some[~lacking], [(s[~lacking], p[~lacking]) for s, p in proposals]
            last = _last_place(proposals, keep) - np.float32(shards.margin)
            hiding = _may_hide(proposals, shards.sizes, last) if shards.nprobe is None else last > np.inf
            if hiding.any():
                work.append((some[hiding], 2 * width))
            if (settled := np.flatnonzero(~hiding)).size:
                pairs = [_contenders(proposal, last, settled) for proposal in proposals]
                score = np.concatenate(shards.score(queries[some[settled]], pairs))
                query = np.concatenate([at for at, _ in pairs])
                position = np.concatenate(
                    [local + begin for (_, local), begin in zip(pairs, begins, strict=True)]
                )
                best = first_per_query(query, score, position, keep)
                out_scores[some[settled]], out_positions[some[settled]] = score[best], position[best]
    return out_scores, out_positions


@dataclass(frozen=True)
class Block:
    """Consecutive rows whose neighbors are found together: the unit of work and of recovery."""

    first: int
    """Number of the first row."""
    representatives: Ints
    """Representative of every row of the block: [m]."""

    @property
    def rows(self) -> Ints:
        """Row numbers: [m]."""
        return np.arange(self.first, self.first + len(self.representatives))

    @property
    def name(self) -> str:
        """Name of its part: the range, so that parts of another block size are not mistaken for it."""
        return f"rows-{self.first:012d}-{self.first + len(self.representatives):012d}"


def blocks(representatives: Ints, size: int) -> list[Block]:
    """All rows [N], cut into blocks of `size`."""
    return [
        Block(first, representatives[first : first + size]) for first in range(0, len(representatives), size)
    ]


def split_rows(uniques: Ints, num_shards: int) -> list[Ints]:
    """The searched rows [U] in at most `num_shards` contiguous shards of about equal size, none empty."""
    return np.array_split(uniques, max(1, min(num_shards, len(uniques))))


@dataclass(frozen=True)
class IndexedRows:
    """What the owner of a block must know of the matrix that is searched."""

    rows: EmbeddingRows
    uniques: Ints
    """Row number of every searched row, ascending: [U]."""
    copies: Copies
    """Sets of equal rows, for at least K + 1 copies each."""
    max_copies: int | None = None
    """Copies of one row among the neighbors of another; no limit if none."""


def neighbors_of(
    block: Block, indexed: IndexedRows, shards: Shards, num_neighbors: int
) -> tuple[NDArray[np.float32], Ints]:
    """The K nearest of all rows for every row of a block, itself excluded by number.

    Args:
        block: m rows.
        indexed: The matrix the shards hold.
        shards: `indexed.uniques`, in contiguous ranges.
        num_neighbors: K, below the number of rows.

    Returns:
        Scores float32 and row numbers int64, in the order (-score, row): [m, K] each.
    """
    return neighbors_of_rows(block.rows, block.representatives, indexed, shards, num_neighbors)


def neighbors_of_rows(
    rows: Ints,
    representatives: Ints,
    indexed: IndexedRows,
    shards: Shards,
    num_neighbors: int,
) -> tuple[NDArray[np.float32], Ints]:
    """The K nearest of all rows for any rows [m], whose representatives are known [m]; see `neighbors_of`."""
    heads, query_of_row = np.unique(representatives, return_inverse=True)
    scores, positions = nearest(indexed.rows.take(heads), shards, num_neighbors + 1)
    if indexed.max_copies is not None:
        found = indexed.uniques[positions]
        limit = min(indexed.max_copies, num_neighbors)
        return limited(scores[query_of_row], found[query_of_row], indexed.copies, rows, limit)
    scores, ids = expand(scores, indexed.uniques[positions], indexed.copies, num_neighbors + 1)
    return without_self(scores[query_of_row], ids[query_of_row], rows)


def _pieces(items: Ints, size: int) -> Iterator[Ints]:
    size = max(1, size)
    yield from (items[at : at + size] for at in range(0, len(items), size))


def _last_place(proposals: Sequence[Proposal], keep: int) -> NDArray[np.float32]:
    """The `keep`-th best proposed score of each query: [q]."""
    scores = np.concatenate([scores for scores, _ in proposals], axis=1)
    at = scores.shape[1] - keep
    last: NDArray[np.float32] = np.partition(scores, at, axis=1)[:, at]
    return last


def _may_hide(
    proposals: Sequence[Proposal], sizes: Sequence[int], last: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Queries for which some shard has rows left that could still come in: bool [q]."""
    hiding = np.zeros(len(last), bool)
    for (scores, _), size in zip(proposals, sizes, strict=True):
        if scores.shape[1] < size:
            hiding |= scores[:, -1] >= last
    return hiding


def _contenders(proposal: Proposal, last: NDArray[np.float32], settled: Ints) -> tuple[Ints, Ints]:
    """Pairs (number within `settled`, local row) of one shard that can come in."""
    scores, local = proposal
    query, column = np.nonzero((scores[settled] >= last[settled, None]) & (local[settled] >= 0))
    return query, local[settled[query], column]
