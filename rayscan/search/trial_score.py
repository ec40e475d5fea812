"""The score of a search: how good a grouping is, said without a label, and when there is nothing to score.

All trials of a search are judged on one neighbor graph and one feature space, which none of them can change
(`search.judged_space`). The score is S of `consensus.score`, with its parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.probe import Probe
from rayscan.metrics.label_free import collapse, nmi_nn
from rayscan.types import Ints

NEARLY_ALL = 0.95
FEW = 0.2
"""Degenerate: nearly all images in at most this share of the clusters, or in one."""


def degenerate(clusters: NDArray[Any], num_clusters: int) -> str:
    """Why a grouping is no grouping; empty if it is one. A long tail is legitimate.

    Args:
        clusters: Cluster of each image, integers [n].
        num_clusters: C.
    """
    sizes = np.sort(np.bincount(np.asarray(clusters, np.int64), minlength=num_clusters))[::-1]
    few = max(1, math.floor(FEW * num_clusters))
    share = float(sizes[:few].sum() / sizes.sum())
    if share < NEARLY_ALL:
        return ""
    return f"{share:.1%} of the images in {few} of {num_clusters} clusters"


@dataclass(frozen=True)
class Judge:
    """What all trials are judged on: the neighbour graph and the coordinates of one whitened space."""

    anchors: Ints
    """gids of the train images, int64 [N]."""
    judged: Ints
    """Rows of `anchors` that the graph has, ascending, int64 [n]."""
    ids: Ints
    """Their neighbors among them, as positions in `judged`, nearest first, int64 [n, K] with K >= 5."""
    probed: Ints
    """Rows of `anchors` whose coordinates the probe has, int64 [m]."""
    probe: Probe
    num_clusters: int

    def neighbors_agree(self, clusters: NDArray[Any]) -> float:
        """`nmi_nn` of the clusters of the anchors [N]."""
        of = np.asarray(clusters, np.int64)[self.judged]
        return nmi_nn(of, np.arange(len(of)), self.ids, self.num_clusters)

    def score(self, clusters: NDArray[Any]) -> dict[str, float]:
        """All that is said of a grouping, higher `score` is better: clusters of the anchors, integers [N].

        Returns:
            score = S = (2 nmi_nn + cv_mi) / 3, both parts, and the facts of `label_free.collapse`.
        """
        agree = self.neighbors_agree(clusters)
        generalizes = self.probe.cv_mi([np.asarray(clusters, np.int64)[self.probed]], self.num_clusters)[0]
        facts = collapse(clusters, self.num_clusters)
        return {"score": (2 * agree + generalizes) / 3, "nmi_nn": agree, "cv_mi": generalizes, **facts}
