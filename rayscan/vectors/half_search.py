"""Exact flat search by proposals in bfloat16: what a processor's matrix units are fast at.

Rows and queries are rounded to bfloat16 and multiplied; how far a product can be off is known from what the
rounding left over, so that every row which may be among the k best is kept, and these alone are scored in
float32. Proof of the bound: docs/design/020-half-precision-proposals.md.

A query for which this is no gain (many rows within the bound of its last place, scores below it, numbers that
are not finite) is left to the caller.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rayscan.types import Ints
from rayscan.vectors.half_limits import QUERY_BLOCK, ROW_TILE, TILES

GROUP = 16
"""Scores of which only the largest is looked at first."""
MOST = 1024
"""Candidates of a query beyond which float32 is quicker."""
CROWD = 128
"""Groups of a tile a query, on average, above which queries with more than so many are left to float32."""
NOTHING = np.iinfo(np.int16).max
VALUES_AT_ONCE = 1 << 18
"""Values of rows gathered at a time, to stay in cache."""

Found = tuple[NDArray[np.float32], Ints, NDArray[np.bool_]]


@dataclass(frozen=True)
class _Tile:
    """Candidates of one tile: query, row, and the bits of a bfloat16, which order as integers above zero."""

    query: Ints
    row: Ints
    bits: NDArray[np.int16]


class HalfSearch:
    """Rows [n, D] in float32, and rounded to bfloat16 beside."""

    def __init__(self, rows: NDArray[np.float32], threads: int) -> None:
        """Round the rows; half as much memory again.

        Args:
            rows: [n, D], finite; n >= `half_limits.MIN_ROWS`, or float32 is quicker.
            threads: Blocks of queries searched at a time.
        """
        self._rows, self._threads = rows, threads
        self._half = torch.empty(rows.shape, dtype=torch.bfloat16)
        self._longest = self._left_over = 0.0
        for at in range(0, len(rows), ROW_TILE):
            half, left_over, longest = rounded(rows[at : at + ROW_TILE])
            self._half[at : at + ROW_TILE] = half
            self._left_over = max(self._left_over, float(left_over.max()))
            self._longest = max(self._longest, float(longest.max()))

    def search(self, queries: NDArray[np.float32], width: int) -> Found:
        """The `width` best rows, best first, by scores in float32.

        Args:
            queries: [q, D].
            width: At most `half_limits.MAX_WIDTH`.

        Returns:
            Scores float32 and row numbers int64 [q, width], and whether they are found [q]; where they are
            not, the rest means nothing.
        """
        starts = range(0, len(queries), QUERY_BLOCK)
        blocks = [queries[at : at + QUERY_BLOCK] for at in starts]
        if self._threads == 1 or len(blocks) == 1:
            found = [self._block(block, width) for block in blocks]
        else:
            with ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                found = list(pool.map(self._block, blocks, [width] * len(blocks)))
        scores, rows, is_found = zip(*found, strict=True)
        return np.concatenate(scores), np.concatenate(rows), np.concatenate(is_found)

    def _block(self, queries: NDArray[np.float32], width: int) -> Found:
        half, left_over, length = rounded(queries)
        error = self._error(left_over, length)
        is_lost = ~np.isfinite(error)
        candidates: list[_Tile] = []
        best: NDArray[np.int16] | None = None
        cut = np.zeros(len(queries), np.int16)
        for first in range(0, len(self._rows), TILES * ROW_TILE):
            tiles = []
            for at in range(first, min(first + TILES * ROW_TILE, len(self._rows)), ROW_TILE):
                scores = self._scores(half, at)
                largest = scores.max(axis=1)
                seen = largest if best is None else np.concatenate([best, largest], axis=1)
                best = np.partition(seen, seen.shape[1] - width, axis=1)[:, -width:]
                tiles.append((at, scores, largest))
            assert best is not None
            cut = lowest(best.min(axis=1), error)
            is_lost |= cut <= 0
            cut[is_lost] = NOTHING
            for at, scores, largest in tiles:
                is_near = largest >= cut[:, None]
                if np.count_nonzero(is_near) > CROWD * len(queries):
                    is_lost |= is_near.sum(axis=1) > CROWD
                    is_near[is_lost], cut[is_lost] = False, NOTHING
                candidates.append(_candidates(scores, is_near, cut, at))
        return self._scored(queries, candidates, cut, is_lost, width)

    def _error(self, left_over: NDArray[np.float64], length: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bound on |bfloat16 product before it is rounded - exact product|, for each query: [q]."""
        dim = self._rows.shape[1]
        rounding = left_over * self._longest + (length + left_over) * self._left_over
        additions = dim * 2.0**-23 * (length + left_over) * (self._longest + self._left_over)
        error: NDArray[np.float64] = rounding + additions + dim * 2.0**-120
        return error

    def _scores(self, half: torch.Tensor, first: int) -> NDArray[np.int16]:
        """Bits of products with a tile: [q, GROUP, groups]; group g holds the columns g, g + groups, ..."""
        tile = self._half[first : first + ROW_TILE]
        out = torch.mm(half, tile.T)
        if len(tile) % GROUP:
            whole = torch.full((len(half), -(-len(tile) // GROUP) * GROUP), -0.0, dtype=torch.bfloat16)
            whole[:, : len(tile)] = out
            out = whole
        bits: NDArray[np.int16] = out.view(torch.int16).numpy()
        return bits.reshape(len(half), GROUP, -1)

    def _scored(
        self,
        queries: NDArray[np.float32],
        tiles: list[_Tile],
        cut: NDArray[np.int16],
        is_lost: NDArray[np.bool_],
        width: int,
    ) -> Found:
        """The best of the candidates by float32 scores."""
        query = np.concatenate([tile.query for tile in tiles])
        row = np.concatenate([tile.row for tile in tiles])
        bits = np.concatenate([tile.bits for tile in tiles])
        stays = (bits >= cut[query]) & ~is_lost[query]
        query, row = query[stays], row[stays]
        count = np.bincount(query, minlength=len(queries))
        is_lost |= count > MOST
        stays = ~is_lost[query]
        query, row = query[stays], row[stays]
        score = np.empty(len(query), np.float32)
        step = max(1, VALUES_AT_ONCE // queries.shape[1])
        for at in range(0, len(score), step):
            some = slice(at, at + step)
            score[some] = np.einsum("pd,pd->p", queries[query[some]], self._rows[row[some]])
        order = np.argsort(_descending(query, score))
        begins = np.searchsorted(query[order], np.arange(len(queries)))
        # a lost query reads somebody else's, which means nothing
        at = np.minimum(begins[:, None] + np.arange(width), max(len(order) - 1, 0))
        if not len(order):
            return np.zeros(at.shape, np.float32), np.zeros(at.shape, np.int64), ~is_lost
        return score[order][at], row[order][at], ~is_lost


def rounded(
    rows: NDArray[np.float32],
) -> tuple[torch.Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Rows [n, D] in bfloat16; lengths [n] of what rounding left over and of rows, a little too long."""
    exact = torch.from_numpy(np.ascontiguousarray(rows))
    half = exact.to(torch.bfloat16)
    left_over = (exact - half.to(torch.float32)).numpy()
    dim = rows.shape[1]
    up = 1 + 2 * dim * 2.0**-24  # sums of squares in float32, in any order

    def length(x: NDArray[np.float32]) -> NDArray[np.float64]:
        squares = np.einsum("nd,nd->n", x, x).astype(np.float64)
        lengths: NDArray[np.float64] = np.sqrt(squares) * up + dim * 2.0**-70
        return lengths

    return half, length(left_over), length(rows)


def lowest(last: NDArray[np.int16], error: NDArray[np.float64]) -> NDArray[np.int16]:
    """Bits of the score below which no row is among the k best.

    Args:
        last: Bits of a score that k rows reach: [q].
        error: Bound on the products before they were rounded to bfloat16: [q].

    Returns:
        [q]; zero or less where there is no such score above zero.
    """
    score = (last.astype(np.int32) << 16).view(np.float32).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        half_place = np.ldexp(
            1.0, np.frexp(score)[1] - 9
        )  # of 8 bits, the first of which is 2^(exponent - 1)
        off = error + half_place
        bound = (score - 2 * off).astype(np.float32)
    # without the lower 16 bits: towards zero, which is downwards for all that are above it
    bits: NDArray[np.int16] = (bound.view(np.int32) >> 16).astype(np.int16)
    return np.where(np.isfinite(bound) & (bound > 0), bits, np.int16(0)).astype(np.int16)


def _candidates(
    scores: NDArray[np.int16], is_near: NDArray[np.bool_], cut: NDArray[np.int16], first: int
) -> _Tile:
    """Everything that is above the cut, by the groups whose largest is."""
    groups = is_near.shape[1]
    near = np.flatnonzero(is_near)
    query, group = near // groups, near % groups
    values = scores[query, :, group]  # [p, GROUP]
    above = np.flatnonzero(values >= cut[query, None])
    at, place = above // GROUP, above % GROUP
    return _Tile(query[at], first + place * groups + group[at], values.ravel()[above])


def _descending(query: Ints, score: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Keys that order pairs by query, then by score downwards: one integer sorts faster than two columns."""
    bits = score.view(np.uint32)
    upwards = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (query.astype(np.uint64) << np.uint64(32)) | (~upwards).astype(np.uint64)
