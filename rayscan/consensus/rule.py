"""The linear rule of the result: clusters of new rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.discriminant import LinearRule, discriminant_rule
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.whitening import total_scatter
from rayscan.metrics.assignment import hungarian
from rayscan.metrics.contingency import Contingency
from rayscan.types import Ints


@dataclass(frozen=True)
class Rule:
    """Outputs of clusters for features as they come: (x / |x| - mean) projection W + b."""

    mean: NDArray[np.float32]
    """[D]."""
    projection: NDArray[np.float32]
    """[D, q]."""
    linear: LinearRule
    """W [q, C] and b [C]."""

    def outputs(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs, of which the greatest is the cluster: [n, D] -> float32 [n, C]."""
        rows = np.asarray((unit_rows(features) - self.mean) @ self.projection, np.float32)
        return self.linear.outputs(rows)

    def labels(self, features: NDArray[np.float32]) -> Ints:
        """Clusters: [n, D] -> int64 [n]."""
        return np.asarray(self.outputs(features).argmax(axis=1), np.int64)


def renumbered(head: LinearRule, grouping: Ints, labels: Ints, num_clusters: int) -> LinearRule:
    """A head with its clusters in the order of the result's, matched one to one.

    Args:
        head: [q, C].
        grouping: Its clusters, [N].
        labels: The result, [N].
        num_clusters: C.
    """
    mapping = hungarian(Contingency.count(grouping, labels, num_clusters, num_clusters))
    back = np.argsort(mapping)
    return LinearRule(np.ascontiguousarray(head.weights[:, back]), head.bias[back])


def closest_rule(
    heads: Sequence[LinearRule],
    rows: NDArray[np.float32],
    groupings: Sequence[Ints],
    labels: Ints,
    num_clusters: int,
) -> LinearRule:
    """The head, or the discriminant rule of the result, that gives most rows the result's clusters.

    Args:
        heads: Rules on `rows`.
        rows: Whitened and centred, [N, q].
        groupings: Clusters by each head, [N].
        labels: The result, [N].
        num_clusters: C.
    """
    total = total_scatter(rows) / len(rows)
    rules = [
        renumbered(head, grouping, labels, num_clusters)
        for head, grouping in zip(heads, groupings, strict=True)
    ]
    rules.append(discriminant_rule(rows, total, labels, num_clusters))
    agree = [float((rule.outputs(rows).argmax(axis=1) == labels).mean()) for rule in rules]
    return rules[int(np.argmax(agree))]
