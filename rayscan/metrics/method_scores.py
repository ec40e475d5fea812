"""Scores of one method on one split, from tables that are counted as the images come.

Comes from best clusters and labels, goes to `stages.evaluate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.metrics.assignment import accuracy, hungarian, hungarian_then_majority
from rayscan.metrics.contingency import Contingency, ContingencySum
from rayscan.metrics.scores import partition_scores
from rayscan.types import Ints


class MethodCounts:
    """What a method says of the labelled images of a split, counted piece by piece."""

    def __init__(self, num_clusters: int, num_classes: int, num_seeds: int = 0) -> None:
        """Count nothing yet.

        Args:
            num_clusters: C.
            num_classes: L.
            num_seeds: Fits that are counted beside the best clusters.
        """
        self.first = ContingencySum(num_clusters, num_classes)
        """Best cluster against class."""
        self.top = ContingencySum(num_clusters, num_classes)
        """Each of the T best clusters of an image against its class."""
        self.seeds = [ContingencySum(num_clusters, num_classes) for _ in range(num_seeds)]
        """Cluster of each fit against class."""

    def add(self, best: Ints, labels: Ints, by_seed: NDArray[Any] | None = None) -> None:
        """Count some images.

        Args:
            best: Best clusters, best first, below 0 where there are fewer: [n, T].
            labels: Their classes: [n].
            by_seed: Clusters by each of several fits: [seeds, n].
        """
        self.first.add(best[:, 0], labels)
        is_cluster = best.ravel() >= 0
        self.top.add(best.ravel()[is_cluster], np.repeat(labels, best.shape[1])[is_cluster])
        for table, clusters in zip(self.seeds, () if by_seed is None else by_seed, strict=True):
            table.add(clusters, labels)

    def scores(self, train: MethodCounts | None) -> dict[str, Any]:
        """All scores of a split with a labelled image.

        Args:
            train: The same method on the train split, where the other mapping is fitted; None on that split.

        Returns:
            `partition_scores`, top5, `acc_tr` where train labels are there, and `seeds`, a list of the same
            without top5, where there are several fits.
        """
        scores = _scores(self.first.table, None if train is None else train.first)
        mapping = hungarian(self.first.table)
        scores["top5"] = top_accuracy(self.top.table, self.first.table.total, mapping)
        if self.seeds:
            learnt = [None] * len(self.seeds) if train is None else train.seeds
            scores["seeds"] = [_scores(s.table, t) for s, t in zip(self.seeds, learnt, strict=True)]
        return scores


class SplitCounts:
    """What there is to know of a split, counted as the images come."""

    def __init__(self, methods: Mapping[str, int], num_clusters: int, num_classes: int) -> None:
        """Count nothing yet.

        Args:
            methods: Name -> number of fits that are counted beside the best clusters.
            num_clusters: C.
            num_classes: L.
        """
        self.methods = {
            name: MethodCounts(num_clusters, num_classes, num_seeds) for name, num_seeds in methods.items()
        }
        self.sizes = np.zeros(num_clusters, np.int64)
        """Images of each cluster, labelled or not [C]."""
        self.labelled = 0
        self.waste = 0
        """Images that a person marked as of no use: no score counts them, nor those of other methods."""

    def add(self, best: Mapping[str, Ints], by_seed: Mapping[str, Ints], labels: Ints, method: str) -> None:
        """Count some images of the split.

        Args:
            best: Method -> best clusters [n, T].
            by_seed: Method -> clusters by each fit [seeds, n], of methods with several.
            labels: Classes, -1 where unlabelled [n].
            method: The run's own.
        """
        is_used = best[method][:, 0] >= 0
        self.waste += int((~is_used).sum())
        has_label = (labels >= 0) & is_used
        self.labelled += int(has_label.sum())
        self.sizes += np.bincount(best[method][is_used, 0], minlength=len(self.sizes))
        for name, counts in self.methods.items():
            seeds = by_seed[name][:, has_label] if name in by_seed else None
            counts.add(best[name][has_label], labels[has_label], seeds)


def _scores(table: Contingency, train: ContingencySum | None) -> dict[str, Any]:
    scores: dict[str, Any] = dict(partition_scores(table))
    if train is not None and not train.is_empty:
        scores["acc_tr"] = accuracy(table, hungarian_then_majority(train.table))
    return scores


def top_accuracy(top: Contingency, num_images: int, mapping: Ints) -> float:
    """Share of the images for which one of their best clusters maps to their class, 0..1 ("top-5").

    The mapping is one-to-one and the best clusters of an image differ, so at most one of them does.

    Args:
        top: Each of the best clusters of an image against its class.
        num_images: N.
        mapping: Class of each cluster, or -1, int64 [C].
    """
    return float(top.counts[mapping[top.clusters] == top.classes].sum() / num_images)
