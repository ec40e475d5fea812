"""Prototypes of clusters and facts about each, from predictions that come in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.types import Ints
from rayscan.vectors.parts import EmbeddingRows

CANDIDATES_PER_PROTOTYPE = 4


class ClusterSummary:
    """Sizes, confidences and most confident images of all clusters."""

    def __init__(self, num_clusters: int, num_prototypes: int) -> None:
        """Count nothing yet.

        Args:
            num_clusters: C.
            num_prototypes: At most so many prototypes are wanted per cluster.
        """
        self.sizes = np.zeros(num_clusters, np.int64)
        """Images of each cluster [C]."""
        self.confidence = np.zeros(num_clusters)
        """Sum of their confidences [C]."""
        self.num_rows = 0
        self.num_prototypes = num_prototypes
        self._clusters = np.empty(0, np.int64)
        self._confidence = np.empty(0, np.float32)
        self._rows = np.empty(0, np.int64)

    def add(self, clusters: NDArray[Any], confidence: NDArray[np.float32]) -> None:
        """Count the next rows: their clusters and confidences, [n] each."""
        self.sizes += np.bincount(clusters, minlength=len(self.sizes))
        np.add.at(
            self.confidence, clusters, confidence.astype(np.float64)
        )  # in order, as if all came at once
        rows = np.arange(self.num_rows, self.num_rows + len(clusters))
        self.num_rows += len(clusters)
        clusters = np.concatenate([self._clusters, clusters])
        confidence = np.concatenate([self._confidence, confidence])
        rows = np.concatenate([self._rows, rows])
        order = np.lexsort((rows, -confidence, clusters))
        place = np.arange(len(order)) - np.searchsorted(clusters[order], clusters[order])
        kept = order[place < CANDIDATES_PER_PROTOTYPE * self.num_prototypes]
        self._clusters, self._confidence, self._rows = clusters[kept], confidence[kept], rows[kept]

    def candidates(self) -> dict[int, Ints]:
        """The most confident rows of each cluster that has any, rising; the lower row at a tie."""
        starts = np.searchsorted(self._clusters, np.arange(len(self.sizes) + 1))
        return {c: np.sort(self._rows[a:b]) for c, (a, b) in enumerate(pairwise(starts)) if b > a}

    def cluster_list(self, gids: Ints, prototypes: Mapping[int, list[int]]) -> list[dict[str, Any]]:
        """Every cluster with its size, mean confidence, prototypes and a name for the user to edit.

        Args:
            gids: Of all rows [N].
            prototypes: Rows of each cluster's prototypes.
        """
        sizes, sums = self.sizes, self.confidence
        return [
            {
                "cluster": c,
                "name": f"cluster {c}",
                "size": int(sizes[c]),
                "mean_confidence": round(float(sums[c] / sizes[c]), 6) if sizes[c] else 0.0,
                "prototypes": [int(gids[row]) for row in prototypes.get(c, [])],
            }
            for c in range(len(sizes))
        ]


def find_prototypes(summary: ClusterSummary, embed: Artifact) -> dict[int, list[int]]:
    """Rows of each cluster's prototypes: of its most confident images, those nearest to their mean feature.

    Nearest first; ties by row. SCAN Sec. 3.5 shows the most confident images nearest to the mean of the
    confident ones.

    Args:
        summary: Of all rows.
        embed: Embeddings of the same rows.
    """
    candidates = summary.candidates()
    wanted = np.unique(np.concatenate(list(candidates.values()))) if candidates else np.empty(0, np.int64)
    features = EmbeddingRows(embed).take(wanted)
    chosen = {}
    for cluster, rows in candidates.items():
        mine = features[np.searchsorted(wanted, rows)].astype(np.float64)
        closeness = mine @ mine.mean(0)
        chosen[cluster] = rows[np.lexsort((rows, -closeness))][: summary.num_prototypes].tolist()
    return chosen
