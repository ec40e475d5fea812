"""A second opinion on mined neighbors: float64 brute force for a sample of queries.

No faiss, no shards, no margins: the sample's scores against every row, range by range. A neighbor counts as
right when its exact score reaches the K-th best one, so that a tie broken the other way is no miss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints
from rayscan.vectors.duplicates import places_in_sets
from rayscan.vectors.merge import IndexedRows
from rayscan.vectors.parts import RowRange, row_ranges

NUM_QUERIES = 1000
SAMPLE_SEED = 0
TOLERANCE = 1e-6
"""How far a neighbor may be below the K-th exact score, and a stored score off: ties and rounding."""

ROWS_AT_ONCE = 8192
ROWS_PER_RANGE = 65_536
"""Rows of one piece of hashing or checking."""


@dataclass(frozen=True)
class RecallTask:
    """The sample's neighbors held against one range of rows: one piece of work for a worker."""

    rows: RowRange
    queries: Ints
    """Sampled rows: [q]."""
    mined: Ints
    """Their mined neighbors: [q, K]."""
    left_out: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows of the range that count for nobody, because enough equal ones stand before them."""


@dataclass(frozen=True)
class ExactScores:
    """What one range of rows says."""

    best: NDArray[np.float64]
    """The K highest scores within the range, -inf where it has fewer: [q, K], in no order."""
    mined_scores: NDArray[np.float64]
    """Exact score of every mined neighbor in the range, -inf for others and for the row itself: [q, K]."""


def sample(num_rows: int, *, seed: int = SAMPLE_SEED, size: int = NUM_QUERIES) -> Ints:
    """1,000 (`size`) distinct rows, or all if there are fewer, ascending."""
    return np.sort(np.random.default_rng(seed).choice(num_rows, min(size, num_rows), replace=False))


def exact_scores(task: RecallTask) -> ExactScores:
    """Exact scores of the sample within one range of rows.

    Raises:
        DataError: a row is not finite or longer than one.
    """
    part, mined = task.rows, task.mined
    num_queries, k = mined.shape
    queries = part.rows.take(task.queries).astype(np.float64)
    best = np.full((num_queries, k), -np.inf)
    mined_scores = np.full((num_queries, k), -np.inf)
    each = np.arange(num_queries)
    for first in range(part.first, part.stop, ROWS_AT_ONCE):
        stop = min(first + ROWS_AT_ONCE, part.stop)
        scores = queries @ RowRange(part.rows, first, stop).read().astype(np.float64).T
        is_self = (task.queries >= first) & (task.queries < stop)
        scores[each[is_self], task.queries[is_self] - first] = -np.inf
        left_out = task.left_out[(task.left_out >= first) & (task.left_out < stop)] - first
        is_here = (mined >= first) & (mined < stop)
        query, place = np.nonzero(is_here)
        mined_scores[query, place] = scores[query, mined[is_here] - first]
        scores[:, left_out] = -np.inf
        both = np.concatenate([best, scores], axis=1)
        best = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
    return ExactScores(best, mined_scores)


@dataclass(frozen=True)
class RecallCheck:
    """How the mined neighbors compare with brute force."""

    recall: float
    """Share of the sample's neighbors that are right, 0..1."""
    max_score_error: float
    """Largest difference between a stored and an exact score."""


def check_recall(found: Iterable[ExactScores], scores: NDArray[np.float32]) -> RecallCheck:
    """Put the ranges together.

    Args:
        found: Of row ranges that cover all rows once.
        scores: Stored scores of the sample's neighbors: [q, K].
    """
    ranges = list(found)
    kth = kth_best(ranges, scores.shape[1])
    exact = np.max([one.mined_scores for one in ranges], axis=0)
    return RecallCheck(float((exact >= kth[:, None] - TOLERANCE).mean()), float(np.abs(exact - scores).max()))


def kth_best(found: Sequence[ExactScores], k: int) -> NDArray[np.float64]:
    """Exact score of the K-th neighbor of every sampled row, from row ranges that cover all rows: [q]."""
    best = np.concatenate([one.best for one in found], axis=1)
    kth: NDArray[np.float64] = np.partition(best, best.shape[1] - k, axis=1)[:, -k]
    return kth


def recall_tasks(
    indexed: IndexedRows,
    representatives: Ints,
    sampled: Ints,
    mined: Ints,
    rows_per_range: int,
) -> list[RecallTask]:
    """The sample against every range of rows; beyond `max_copies`, equal rows count for nobody.

    Args:
        indexed: The matrix.
        representatives: Of all its rows: [N].
        sampled: Their rows: [q].
        mined: Their neighbors: [q, K].
        rows_per_range: Rows of one piece of work.
    """
    beyond = np.empty(0, np.int64)
    if indexed.max_copies is not None:
        beyond = np.flatnonzero(places_in_sets(representatives) >= indexed.max_copies)
    return [
        RecallTask(part, sampled, mined, beyond[(beyond >= part.first) & (beyond < part.stop)])
        for part in row_ranges(indexed.rows, rows_per_range)
    ]
