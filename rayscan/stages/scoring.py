"""Scores of one method on one split, with the mappings that give clusters their class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.metrics.assignment import accuracy, hungarian, hungarian_then_majority, top_accuracy
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores

SEEDS = "seeds.npy"
"""In a result of assign: clusters by every seed of a k-means, int32 [seeds, rows]."""

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What a method says of every image."""

    best: Ints
    """Best clusters, best first: [n, T]."""
    num_clusters: int
    """C."""
    by_seed: Ints | None = None
    """Clusters by each of several fits: [seeds, n]."""


def method_scores(
    found: Found, labels: Ints, scored: Mask, train: Mask | None, num_classes: int
) -> dict[str, Any]:
    """Scores of one method on the images of a split.

    Args:
        found: Of all images.
        labels: Class of every image, whatever it is where neither mask is set: [n].
        scored: Labelled images of the split: [n].
        train: Labelled train images, on which the other mapping is fitted; None on the train split itself.
        num_classes: L.

    Returns:
        `partition_scores`, top5, `acc_tr` where train labels are there, and `seeds`, a list of the same
        without top5, where there are several fits.
    """

    def one(clusters: Ints) -> tuple[Contingency, dict[str, Any]]:
        table = Contingency.count(clusters[scored], labels[scored], found.num_clusters, num_classes)
        scores: dict[str, Any] = dict(partition_scores(table))
        if train is not None and train.any():
            learnt = Contingency.count(clusters[train], labels[train], found.num_clusters, num_classes)
            scores["acc_tr"] = accuracy(table, hungarian_then_majority(learnt))
        return table, scores

    table, scores = one(found.best[:, 0])
    scores["top5"] = top_accuracy(found.best[scored], labels[scored], hungarian(table))
    if found.by_seed is not None:
        scores["seeds"] = [one(clusters)[1] for clusters in found.by_seed]
    return scores
