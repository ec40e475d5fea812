"""Breathing k-means: out of a bad local optimum by splits and merges.

Fritzke 2020 (arXiv 2006.15666). Lloyd's algorithm cannot move a centroid from where two share a group to
where one holds two, and among hundreds of groups every start has such places. A breath adds centroids where
the error is largest, then removes those that are missed least, and counts if the inertia falls; the next one
is half as deep if it does not. Deviations: a breath is an eighth of the centroids deep at first, few rounds
of Lloyd's algorithm follow within it, and breaths are limited.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.discriminant import cluster_means
from rayscan.consensus.kmeans import OUTPUTS, lloyd
from rayscan.types import Ints

DEPTH = 8
"""Centroids for each one that the first breath adds."""
BREATHS = 8
INNER_ROUNDS = 3
GAIN = 1e-4
"""Share of the inertia that a breath must gain to count."""
OFFSET = 0.01
"""Distance of a new centroid from the one it is to share a group with, of the mean error's root."""


def breathed(
    rows: NDArray[np.float32], centroids: NDArray[np.float32], key: Sequence[int], breaths: int = BREATHS
) -> Ints:
    """Groups of rows, from centroids that are no k-means yet: int64 [N].

    Args:
        rows: [N, q].
        centroids: Where to start, [C, q].
        key: Of the random numbers.
        breaths: At most so many.
    """
    rng = np.random.default_rng(key)
    square = float(np.einsum("nq,nq->", rows, rows, dtype=np.float64))
    labels, least = _settled(rows, centroids, square)
    depth = len(centroids) // DEPTH
    for _ in range(breaths):
        if depth == 0:
            break
        centroids = _means(rows, labels, centroids)
        deep = _in(rows, centroids, depth, np.sqrt(least / len(rows)), rng)
        tried, inertia = _settled(rows, _out(rows, deep, depth), square)
        if inertia < least * (1 - GAIN):
            labels, least = tried, inertia
        else:
            depth //= 2
    return labels


def _in(
    rows: NDArray[np.float32],
    centroids: NDArray[np.float32],
    depth: int,
    scale: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Some centroids more, each beside one of largest error, and a few rounds: [C + depth, q]."""
    labels, nearest, _ = two_nearest(rows, centroids)
    worst = np.argsort(-np.bincount(labels, nearest, len(centroids)), kind="stable")[:depth]
    moved = OFFSET * scale * rng.standard_normal((depth, rows.shape[1]))
    deep = np.concatenate([centroids, centroids[worst] + moved.astype(np.float32)])
    found, _ = lloyd(rows, deep[None], INNER_ROUNDS)
    return _means(rows, found[0], deep)


def _out(rows: NDArray[np.float32], centroids: NDArray[np.float32], depth: int) -> NDArray[np.float32]:
    """All but those whose rows lose least by going to their next one: [C, q].

    Of a centroid that goes the nearest one stays, since it takes over the rows, unless too few are left.
    """
    labels, nearest, second = two_nearest(rows, centroids)
    order = np.argsort(np.bincount(labels, second - nearest, len(centroids)), kind="stable")
    apart = np.einsum("cq,cq->c", centroids, centroids) - 2 * (centroids @ centroids.T)
    np.fill_diagonal(apart, np.inf)
    heir = apart.argmin(axis=1)
    stays, goes = np.zeros(len(centroids), bool), np.zeros(len(centroids), bool)
    for one in order:
        if goes.sum() < depth and not stays[one]:
            goes[one], stays[heir[one]] = True, True
    rest = order[~goes[order]]
    goes[rest[: depth - int(goes.sum())]] = True
    return centroids[~goes]


def two_nearest(
    rows: NDArray[np.float32], centroids: NDArray[np.float32]
) -> tuple[Ints, NDArray[np.float32], NDArray[np.float32]]:
    """The nearest of two or more centroids, its squared distance and that of the second: [N] each."""
    lengths = np.einsum("cq,cq->c", centroids, centroids)
    labels, distances = np.empty(len(rows), np.int64), np.empty((2, len(rows)), np.float32)
    at_once = max(1, OUTPUTS // len(centroids))
    for first in range(0, len(rows), at_once):
        block = rows[first : first + at_once]
        some, own = slice(first, first + len(block)), np.arange(len(block))
        scores = lengths - block @ (2 * centroids.T)
        labels[some] = best = scores.argmin(axis=1)
        distances[0, some] = scores[own, best]
        scores[own, best] = np.inf
        distances[1, some] = scores.min(axis=1)
    nearest, second = np.maximum(distances + np.einsum("nq,nq->n", rows, rows), 0)
    return labels, nearest, second


def _settled(rows: NDArray[np.float32], centroids: NDArray[np.float32], square: float) -> tuple[Ints, float]:
    """Labels [N] and inertia of Lloyd's algorithm."""
    labels, inertia = lloyd(rows, centroids[None])
    return labels[0], float(inertia[0]) + square


def _means(rows: NDArray[np.float32], labels: Ints, before: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of the groups; an empty one keeps its centroid: [C, q]."""
    means, shares = cluster_means(rows, labels, len(before))
    held: NDArray[np.float32] = np.where(shares[:, None] > 0, means, before).astype(np.float32)
    return held
