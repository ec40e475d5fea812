"""How sure the consensus is of a row: what its heads say, and how far other groupings bear that out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.metrics.assignment import accuracy, hungarian
from rayscan.metrics.contingency import Contingency
from rayscan.types import Ints

TINY = 1e-12
HALVINGS = 40
AT_MOST = 1 << 24
"""Probabilities that a temperature is fitted to: of more, those of evenly spaced rows."""


def translation(grouping: Ints, labels: Ints, num_clusters: int) -> NDArray[np.float64]:
    """Shares of the clusters of the result in each cluster of a head: [C of the head, C of the result].

    A cluster that the head leaves empty says nothing: all shares equal.
    """
    pairs = np.bincount(grouping * num_clusters + labels, minlength=num_clusters**2)
    table = pairs.reshape(num_clusters, num_clusters).astype(np.float64)
    sizes = table.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.where(sizes > 0, table / np.maximum(sizes, 1), 1 / num_clusters)
    return shares


def agreement(groupings: Sequence[Ints], labels: Ints, num_clusters: int) -> NDArray[np.float32]:
    """Share of its cluster by a head that is in its cluster of the result, mean over heads: [N], 0..1."""
    total = np.zeros(len(labels))
    for grouping in groupings:
        total += translation(grouping, labels, num_clusters)[grouping, labels]
    return (total / len(groupings)).astype(np.float32)


def reproduced(groupings: Sequence[Ints], labels: Ints, num_clusters: int) -> float:
    """Share of rows that another grouping puts into the matching cluster, mean over groupings: 0..1.

    Clusters are matched one to one. Rows whose cluster depends on the view of the features are wrong in some.
    """
    shares = []
    for grouping in groupings:
        table = Contingency.count(grouping, labels, num_clusters, num_clusters)
        shares.append(accuracy(table, hungarian(table)))
    return float(np.mean(shares))


def temperature(probabilities: NDArray[np.float32], wanted: float) -> float:
    """T at which the mean of the greatest probabilities, p^(1/T) / sum p^(1/T), is the wanted one.

    Guo, Pleiss, Sun, Weinberger 2017 fit T to labels; here it is fitted to a mean.

    Args:
        probabilities: [N, C].
        wanted: 0..1; what cannot be reached gives the end of the range 1/64..64.
    """
    some = probabilities[:: -(-probabilities.size // AT_MOST)]
    logs = np.log(np.maximum(some, TINY)).astype(np.float64)
    logs -= logs.max(axis=1, keepdims=True)
    low, high = -6.0, 6.0  # log2 T; the mean falls as T grows
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        mean = float((1 / np.exp(logs * 2.0**-middle).sum(axis=1)).mean())
        low, high = (middle, high) if mean > wanted else (low, middle)
    return float(2 ** ((low + high) / 2))


def tempered(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """p^(1/T) / sum p^(1/T) of each row: float32 [n, C]; the order of the clusters stays."""
    logs = np.log(np.maximum(probabilities, TINY)) / np.float32(temperature)
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    scaled: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return scaled
