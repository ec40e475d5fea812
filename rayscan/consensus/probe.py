"""Whether groupings can be read off the same rows by linear rules they were not fitted on: no label asked.

A grouping that follows what the features hold is predicted on rows that were left out; one that was cut
anywhere is not. Idea: generalisation of a linear probe (HUME, arXiv 2311.02940; TURTLE, arXiv 2406.07236).
Deviation: mutual information of grouping and prediction instead of accuracy, which a collapsed grouping makes
perfect; and rules in closed form instead of logistic regression. What these need of the rows is their
covariance and their sums by cluster and fold, so that a grouping costs one pass of additions instead of
products of matrices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from rayscan.consensus.discriminant import rule_of_means
from rayscan.consensus.kmeans import cluster_sums
from rayscan.metrics.contingency import Contingency, mutual_information
from rayscan.types import Ints

FOLDS = 5
RIDGE = 1e-3
"""Shrinkage of the regression, as a share of the rows' mean variance."""
MANY = 100
"""Above so many clusters they are looked for and judged otherwise."""
AT_ONCE = 1024
"""Columns of outputs computed together."""
IN_CACHE = 512
"""Rows of them."""
Floats = NDArray[np.float64]


class Probe(ABC):
    """Five-fold predictions of groupings from the same rows."""

    def __init__(self, rows: NDArray[np.float32], order: Ints) -> None:
        """Keep the rows of each fold, and the covariance of all others.

        Args:
            rows: [n, d], n >= 5.
            order: A seeded permutation of 0..n-1, [n]; deals out the folds.
        """
        self._fold = order % FOLDS
        self._rows = [rows[self._fold == fold].astype(np.float64) for fold in range(FOLDS)]
        grams = [part.T @ part for part in self._rows]
        sums = np.stack([part.sum(axis=0) for part in self._rows])
        self._counts = [len(rows) - len(part) for part in self._rows]
        self._means = [(sums.sum(axis=0) - sums[f]) / count for f, count in enumerate(self._counts)]
        self._grams = [
            sum(grams[:f] + grams[f + 1 :]) - count * np.outer(mean, mean)
            for f, (count, mean) in enumerate(zip(self._counts, self._means, strict=True))
        ]

    @abstractmethod
    def _rule(self, fold: int, sums: Floats, sizes: Ints) -> tuple[Floats, Floats]:
        """Slopes [d, H C] and offsets [H C] of the rules fitted on all but a fold.

        Args:
            fold: Number of the fold left out.
            sums: Of the rows less their mean, by grouping and cluster, [H, C, d].
            sizes: Rows of each cluster, [H, C].
        """

    def predict(self, groupings: Sequence[Ints], num_clusters: int) -> list[Ints]:
        """The cluster each row would get from the other four fifths, for each grouping: int64 [n] each.

        The largest output wins, the lowest number at a tie.

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
        for fold, mean in enumerate(self._means):
            held = sizes.sum(axis=0) - sizes[fold]
            apart = sums.sum(axis=0) - sums[fold] - held[:, None] * mean
            shape = len(groupings), num_clusters
            slopes, offsets = self._rule(fold, apart.reshape(*shape, -1), held.reshape(shape))
            rows, left_out = self._rows[fold], np.flatnonzero(self._fold == fold)
            for first in range(0, len(rows), IN_CACHE):
                some = slice(first, first + IN_CACHE)
                outputs = (rows[some] - mean) @ slopes + offsets
                predicted[left_out[some]] = outputs.reshape(len(outputs), *shape).argmax(axis=2)
        return list(np.ascontiguousarray(predicted.T))

    def _by_cluster(self, groupings: Sequence[Ints], num_clusters: int) -> tuple[Floats, Ints]:
        """Sums [5, H C, d] and numbers [5, H C] of the rows by fold, grouping and cluster."""
        total = num_clusters * len(groupings)
        labels = np.stack(groupings, axis=1) + num_clusters * np.arange(len(groupings))
        parts = [cluster_sums(self._rows[fold], labels[self._fold == fold], total) for fold in range(FOLDS)]
        return np.stack([sums for sums, _ in parts]), np.stack([sizes for _, sizes in parts])

    def cv_mi(self, groupings: Sequence[Ints], num_clusters: int) -> list[float]:
        """I(cluster; prediction) / log C of each grouping, 0..1.

        1 when every cluster is predicted without error and all are equally large; 0 when everything is in one
        cluster, or nothing can be predicted.
        """
        return [
            mutual_information(Contingency.count(own, foreseen, num_clusters, num_clusters))
            / math.log(num_clusters)
            for own, foreseen in zip(groupings, self.predict(groupings, num_clusters), strict=True)
        ]


class RidgeProbe(Probe):
    """Ridge regression on one-hot clusters: W = (X'X + r I)^-1 X'Y with X and Y centred."""

    def __init__(self, rows: NDArray[np.float32], order: Ints) -> None:
        """Factor the rows of each fold: see `Probe`."""
        super().__init__(rows, order)
        self._factors = []
        for gram in self._grams:
            ridge = RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
            self._factors.append(cho_factor(gram + ridge * np.eye(len(gram)), lower=True))

    def _rule(self, fold: int, sums: Floats, sizes: Ints) -> tuple[Floats, Floats]:
        cross = sums.reshape(-1, sums.shape[2]).T
        return cho_solve(self._factors[fold], cross), sizes.ravel() / self._counts[fold]


class DiscriminantProbe(Probe):
    """Linear discriminant analysis, for many clusters.

    Regression on indicators hardly ever foresees a small cluster among many (masking: Hastie, Tibshirani,
    Friedman, The Elements of Statistical Learning, Sec. 4.2), so that it favours groupings of equal sizes.
    """

    def _rule(self, fold: int, sums: Floats, sizes: Ints) -> tuple[Floats, Floats]:
        count = self._counts[fold]
        rules = [
            rule_of_means(self._grams[fold] / count, one / np.maximum(held, 1)[:, None], held / count, count)
            for one, held in zip(sums, sizes, strict=True)
        ]
        return np.concatenate([slopes for slopes, _ in rules], axis=1), np.concatenate([b for _, b in rules])


def probe_of(rows: NDArray[np.float32], order: Ints, num_clusters: int) -> Probe:
    """The probe for groupings of so many clusters: see `Probe` for the rest."""
    return (DiscriminantProbe if num_clusters > MANY else RidgeProbe)(rows, order)
