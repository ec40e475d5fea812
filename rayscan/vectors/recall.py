"""A second opinion on mined neighbors: float64 brute force for a sample of queries.

No faiss, no shards, no margins: the sample's scores against every row, span by span. A neighbor counts as
right when its exact score reaches the K-th best one, so that a tie broken the other way is no miss.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rayscan.vectors.duplicates import places_in_sets
from rayscan.vectors.merge import Searched
from rayscan.vectors.parts import Span, spans

NUM_QUERIES = 1000
SAMPLE_SEED = 0
TOLERANCE = 1e-6
"""How far a neighbor may be below the K-th exact score, and a stored score off: ties and rounding."""

ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Question:
    """The sample's neighbors held against one span of rows: one piece of work for a worker."""

    span: Span
    queries: NDArray[np.int64]
    """Sampled rows: [q]."""
    mined: NDArray[np.int64]
    """Their mined neighbors: [q, K]."""
    left_out: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Rows of the span that count for nobody, because enough equal ones stand before them."""


@dataclass(frozen=True)
class Finding:
    """What one span says."""

    best: NDArray[np.float64]
    """The K highest scores within the span, -inf where it has fewer: [q, K], in no order."""
    of_mined: NDArray[np.float64]
    """Exact score of every mined neighbor within the span, -inf for others and for the row itself: [q, K]."""


def sample(num_rows: int, *, seed: int = SAMPLE_SEED, size: int = NUM_QUERIES) -> NDArray[np.int64]:
    """1,000 (`size`) distinct rows, or all if there are fewer, ascending."""
    return np.sort(np.random.default_rng(seed).choice(num_rows, min(size, num_rows), replace=False))


def look_up(question: Question) -> Finding:
    """Exact scores of the sample within one span.

    Raises:
        DataError: a row is not finite or longer than one.
    """
    span, mined = question.span, question.mined
    num_queries, k = mined.shape
    queries = span.rows.take(question.queries).astype(np.float64)
    best = np.full((num_queries, k), -np.inf)
    of_mined = np.full((num_queries, k), -np.inf)
    each = np.arange(num_queries)
    for first in range(span.first, span.stop, ROWS_AT_ONCE):
        stop = min(first + ROWS_AT_ONCE, span.stop)
        scores = queries @ Span(span.rows, first, stop).read().astype(np.float64).T
        is_self = (question.queries >= first) & (question.queries < stop)
        scores[each[is_self], question.queries[is_self] - first] = -np.inf
        left_out = question.left_out[(question.left_out >= first) & (question.left_out < stop)] - first
        is_here = (mined >= first) & (mined < stop)
        query, place = np.nonzero(is_here)
        of_mined[query, place] = scores[query, mined[is_here] - first]
        scores[:, left_out] = -np.inf
        both = np.concatenate([best, scores], axis=1)
        best = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
    return Finding(best, of_mined)


@dataclass(frozen=True)
class Verdict:
    """How the mined neighbors compare with brute force."""

    recall: float
    """Share of the sample's neighbors that are right, 0..1."""
    max_score_error: float
    """Largest difference between a stored and an exact score."""


def judge(findings: Iterable[Finding], scores: NDArray[np.float32]) -> Verdict:
    """Put the spans together.

    Args:
        findings: Of spans that cover all rows once.
        scores: Stored scores of the sample's neighbors: [q, K].
    """
    everything = list(findings)
    kth = kth_best(everything, scores.shape[1])
    exact = np.max([finding.of_mined for finding in everything], axis=0)
    return Verdict(float((exact >= kth[:, None] - TOLERANCE).mean()), float(np.abs(exact - scores).max()))


def kth_best(findings: Sequence[Finding], k: int) -> NDArray[np.float64]:
    """Exact score of the K-th neighbor of every sampled row, from spans that cover all rows: [q]."""
    best = np.concatenate([finding.best for finding in findings], axis=1)
    kth: NDArray[np.float64] = np.partition(best, best.shape[1] - k, axis=1)[:, -k]
    return kth


def questions(
    searched: Searched,
    representatives: NDArray[np.int64],
    asked: NDArray[np.int64],
    mined: NDArray[np.int64],
    span_rows: int,
) -> list[Question]:
    """The sample against every span of rows; beyond `max_copies`, equal rows count for nobody.

    Args:
        searched: The matrix.
        representatives: Of all its rows: [N].
        asked: Sampled rows: [q].
        mined: Their neighbors: [q, K].
        span_rows: Rows of one piece of work.
    """
    beyond = np.empty(0, np.int64)
    if searched.max_copies is not None:
        beyond = np.flatnonzero(places_in_sets(representatives) >= searched.max_copies)
    return [
        Question(span, asked, mined, beyond[(beyond >= span.first) & (beyond < span.stop)])
        for span in spans(searched.rows, span_rows)
    ]
