"""Whether many groupings can be read off the same rows by linear rules they were not fitted on.

`metrics.generalization.LinearProbe` for one grouping after the other; here for many at once: what a ridge
regression on one-hot clusters needs of the rows is their sum by cluster and fold, so that a grouping costs
one pass of additions instead of five products of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from rayscan.consensus.kmeans import cluster_sums
from rayscan.metrics.contingency import Contingency, mutual_information
from rayscan.metrics.generalization import FOLDS, RIDGE
from rayscan.types import Ints

AT_ONCE = 1024
"""Columns of outputs computed together."""


class RidgeProbe:
    """Five-fold ridge predictions of groupings from the same rows."""

    def __init__(self, rows: NDArray[np.float32], order: Ints) -> None:
        """Factor the rows of each fold.

        Args:
            rows: [n, d], n >= 5.
            order: A seeded permutation of 0..n-1, [n]; deals out the folds.
        """
        self._fold = order % FOLDS
        self._rows = [rows[self._fold == fold].astype(np.float64) for fold in range(FOLDS)]
        grams = [part.T @ part for part in self._rows]
        self._sums = np.stack([part.sum(axis=0) for part in self._rows])
        self._factors = []
        for fold, part in enumerate(self._rows):
            count = len(rows) - len(part)
            mean = (self._sums.sum(axis=0) - self._sums[fold]) / count
            gram = sum(grams[:fold] + grams[fold + 1 :]) - count * np.outer(mean, mean)
            ridge = RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
            self._factors.append((count, mean, cho_factor(gram + ridge * np.eye(len(gram)), lower=True)))

    def predict(self, groupings: Sequence[Ints], num_clusters: int) -> list[Ints]:
        """The cluster each row would get from the other four fifths, for each grouping: int64 [n] each.

        W = (X'X + r I)^-1 X'Y with X and Y centred; the largest output wins, the lowest number at a tie.

        Args:
            groupings: H of [n].
            num_clusters: C.
        """
        width = max(1, AT_ONCE // num_clusters)
        found: list[Ints] = []
        for first in range(0, len(groupings), width):
            found += self._predicted(groupings[first : first + width], num_clusters)
        return found

    def _predicted(self, groupings: Sequence[Ints], num_clusters: int) -> list[Ints]:
        sums, sizes = self._by_cluster(groupings, num_clusters)
        predicted = np.empty((len(self._fold), len(groupings)), np.int64)
        for fold, (count, mean, factor) in enumerate(self._factors):
            shares = (sizes.sum(axis=0) - sizes[fold]) / count  # [H C]
            cross = (sums.sum(axis=0) - sums[fold]).T - count * np.outer(mean, shares)
            outputs = (self._rows[fold] - mean) @ cho_solve(factor, cross) + shares
            of_head = outputs.reshape(len(outputs), len(groupings), num_clusters)
            predicted[self._fold == fold] = of_head.argmax(axis=2)
        return list(np.ascontiguousarray(predicted.T))

    def _by_cluster(self, groupings: Sequence[Ints], num_clusters: int) -> tuple[NDArray[np.float64], Ints]:
        """Sums [5, H C, d] and numbers [5, H C] of the rows by fold, grouping and cluster."""
        total = num_clusters * len(groupings)
        labels = np.stack(groupings, axis=1) + num_clusters * np.arange(len(groupings))
        parts = [cluster_sums(self._rows[fold], labels[self._fold == fold], total) for fold in range(FOLDS)]
        return np.stack([sums for sums, _ in parts]), np.stack([sizes for _, sizes in parts])

    def cv_mi(self, groupings: Sequence[Ints], num_clusters: int) -> list[float]:
        """I(cluster; prediction) / log C of each grouping, 0..1."""
        return [
            mutual_information(Contingency.count(own, foreseen, num_clusters, num_clusters))
            / math.log(num_clusters)
            for own, foreseen in zip(groupings, self.predict(groupings, num_clusters), strict=True)
        ]
