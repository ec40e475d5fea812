"""Whether a grouping can be read off frozen features by a linear rule it was not fitted on: no label asked.

A grouping that follows what the features hold is predicted on images that were left out; one that was cut
anywhere is not. Idea: generalisation of a linear probe (HUME, arXiv 2311.02940; TURTLE, arXiv 2406.07236).
Deviation: mutual information of grouping and prediction instead of accuracy, which a collapsed grouping makes
perfect; and least squares instead of logistic regression: it has a closed form, and its factors do
not depend on the grouping, so that all trials of a search share them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from rayscan.metrics.contingency import Contingency, mutual_information
from rayscan.types import Ints

FOLDS = 5
RIDGE = 1e-3
"""Shrinkage, as a share of the features' mean variance."""


class LinearProbe:
    """Five-fold predictions of any grouping from the same features [n, D]."""

    def __init__(self, features: NDArray[Any], order: Ints) -> None:
        """Factor the features of each fold.

        Args:
            features: [n, D], one row an image, n >= 5.
            order: A seeded permutation of 0..n-1, int64 [n]; deals out the folds.
        """
        self._x = x = np.asarray(features, np.float64)
        self._fold = order % FOLDS
        self._parts = []
        for fold in range(FOLDS):
            seen = x[self._fold != fold]
            mean = seen.mean(axis=0)
            gram = seen.T @ seen - len(seen) * np.outer(mean, mean)
            ridge = RIDGE * max(float(np.trace(gram)) / len(gram), 1e-12)
            self._parts.append((mean, cho_factor(gram + ridge * np.eye(len(gram)), lower=True)))

    def predict(self, clusters: NDArray[Any], num_clusters: int) -> Ints:
        """The cluster each image would get from the other four fifths: int64 [n].

        Ridge regression on one-hot clusters, W = (X'X + r I)^-1 X'Y with X and Y centered; the largest output
        wins, the lowest number at a tie.

        Args:
            clusters: Cluster of each image, integers [n].
            num_clusters: C.
        """
        predicted = np.empty(len(clusters), np.int64)
        one_hot = np.eye(num_clusters)[np.asarray(clusters)]
        for fold, (mean, factor) in enumerate(self._parts):
            left_out = self._fold == fold
            shares = one_hot[~left_out].mean(axis=0)
            targets = np.where(
                left_out[:, None], 0.0, one_hot - shares
            )  # sums to 0, so X need not be centered
            weights = cho_solve(factor, self._x.T @ targets)
            predicted[left_out] = ((self._x[left_out] - mean) @ weights + shares).argmax(axis=1)
        return predicted

    def cv_mi(self, clusters: NDArray[Any], num_clusters: int) -> float:
        """I(cluster; prediction) / log C, 0..1.

        1 when every cluster is predicted without error and all are equally large; 0 when everything is in one
        cluster, or nothing can be predicted.
        """
        table = Contingency.count(
            np.asarray(clusters), self.predict(clusters, num_clusters), num_clusters, num_clusters
        )
        return mutual_information(table) / math.log(num_clusters)
