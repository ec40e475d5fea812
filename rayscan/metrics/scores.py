"""Scores of a grouping against labels: ACC, NMI, AMI, ARI, purity, and a table with one row per cluster.

Comes from a contingency table, goes to `stages.evaluate`. All logarithms are natural; all scores are
0..1, except that AMI and ARI can be slightly negative.

Letters: N images, C clusters, L classes; a_i size of cluster i, b_j size of class j, n_ij images in both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import gammaln

from rayscan.metrics.assignment import NO_CLASS, accuracy, hungarian, hungarian_then_majority, majority
from rayscan.metrics.contingency import Contingency, FloatArray, entropy, mutual_information
from rayscan.types import Ints

CELLS_AT_ONCE = 1 << 20
"""Terms of the expected mutual information held in memory at a time."""


def partition_scores(table: Contingency) -> dict[str, float]:
    """Every score that needs only the hard assignment.

    Returns:
        acc: Hungarian, one-to-one. many_to_one: every cluster stands for its majority class, the figure
            for over-clustering; fitted on the images it scores it equals purity. hungarian_then_majority:
            only when C > L. nmi and ami: normalised by the arithmetic mean of the entropies. ari.
            fowlkes_mallows. purity.
    """
    many_to_one = accuracy(table, majority(table))
    scores = {
        "acc": accuracy(table, hungarian(table)),
        "many_to_one": many_to_one,
        "nmi": nmi(table),
        "ami": ami(table),
        "ari": ari(table),
        "fowlkes_mallows": fowlkes_mallows(table),
        "purity": many_to_one,
    }
    if table.num_clusters > table.num_classes:
        scores["hungarian_then_majority"] = accuracy(table, hungarian_then_majority(table))
    return scores


def nmi(table: Contingency) -> float:
    """Normalised mutual information, 2 I / (H(cluster) + H(class)); 1 when both are a single group."""
    mean_entropy = (entropy(table.cluster_sizes) + entropy(table.class_sizes)) / 2
    return mutual_information(table) / mean_entropy if mean_entropy > 0 else 1.0


def ari(table: Contingency) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985), in exact integers up to the last division."""
    together, in_cluster, in_class = (
        sum(n * (n - 1) // 2 for n in values.tolist())
        for values in (table.counts, table.cluster_sizes, table.class_sizes)
    )
    pairs = table.total * (table.total - 1) // 2
    scale = (in_cluster + in_class) * pairs - 2 * in_cluster * in_class
    return 2 * (together * pairs - in_cluster * in_class) / scale if scale else 1.0


def fowlkes_mallows(table: Contingency) -> float:
    """Geometric mean of precision and recall over pairs of images (Fowlkes and Mallows 1983), 0..1.

    0 where no two images share both cluster and class.
    """
    together, in_cluster, in_class = (
        sum(n * (n - 1) // 2 for n in values.tolist())
        for values in (table.counts, table.cluster_sizes, table.class_sizes)
    )
    return math.sqrt(together / in_cluster) * math.sqrt(together / in_class) if together else 0.0


def ami(table: Contingency) -> float:
    """Adjusted mutual information (Vinh, Epps and Bailey 2010), with the arithmetic mean of the entropies.

    1 for equal partitions, 0 on average for random ones of these sizes.
    """
    if _are_equal_partitions(table):
        return 1.0
    expected = expected_mutual_information(table.cluster_sizes, table.class_sizes)
    mean_entropy = (entropy(table.cluster_sizes) + entropy(table.class_sizes)) / 2
    return (mutual_information(table) - expected) / (mean_entropy - expected)


def _are_equal_partitions(table: Contingency) -> bool:
    clusters, classes = (int(np.count_nonzero(sizes)) for sizes in (table.cluster_sizes, table.class_sizes))
    return len(table.counts) == clusters == classes


def expected_mutual_information(cluster_sizes: Ints, class_sizes: Ints) -> float:
    """Mean of I(cluster; class) over random pairings of these sizes (Vinh et al. 2010, Eq. 24a), nats.

    n_ij is then hypergeometric with mean a b / N. Sizes that occur several times are worked out once, and
    n_ij is followed only as far as t = 10 sqrt(a b / N) + 60 from its mean: by Bernstein's inequality,
    which sampling without replacement obeys (Hoeffding 1963), less than 2 exp(-50) of the probability
    lies beyond.

    Args:
        cluster_sizes: int64 [C].
        class_sizes: int64 [L], with the same sum.
    """
    total = int(cluster_sizes.sum())
    clusters, times_a = np.unique(cluster_sizes[cluster_sizes > 0], return_counts=True)
    classes, times_b = np.unique(class_sizes[class_sizes > 0], return_counts=True)
    expected = 0.0
    for a, times in zip(clusters.tolist(), times_a.tolist(), strict=True):
        widest = 2 * (10 * np.sqrt(a * int(classes[-1]) / total) + 60) + 2
        step = max(1, int(CELLS_AT_ONCE / min(widest, a + 1)))
        for first in range(0, len(classes), step):
            part = slice(first, first + step)
            expected += times * float(times_b[part] @ _expected_terms(a, classes[part], total))
    return expected


def _expected_terms(a: int, classes: Ints, total: int) -> FloatArray:
    """Expected contribution of one cell, for a cluster of `a` images and each class size: float64 [b]."""
    b = classes[:, None]
    mean = a * b / total
    reach = 10 * np.sqrt(mean) + 60
    low = np.maximum(np.maximum(1, a + b - total), np.floor(mean - reach)).astype(np.int64)
    high = np.minimum(np.minimum(a, b), np.ceil(mean + reach)).astype(np.int64)
    n = low + np.arange(int((high - low).max(initial=-1)) + 1)
    inside = n <= high
    n = np.where(inside, n, low)
    sizes = (
        gammaln(a + 1) + gammaln(b + 1) + gammaln(total - a + 1) + gammaln(total - b + 1) - gammaln(total + 1)
    )
    cells = gammaln(n + 1) + gammaln(a - n + 1) + gammaln(b - n + 1) + gammaln(total - a - b + n + 1)
    terms = n / total * (np.log(n) + np.log(total) - np.log(a) - np.log(b)) * np.exp(sizes - cells)
    result: FloatArray = np.where(inside, terms, 0.0).sum(axis=1)
    return result


def per_cluster(table: Contingency, sizes: Ints) -> list[dict[str, Any]]:
    """One row per cluster, empty ones included.

    Args:
        table: Counts of the labelled images.
        sizes: All images of each cluster, labelled or not, int64 [C].

    Returns:
        Rows of cluster; size; labelled (images); majority (class, None if nothing is labelled); matched
        (class by the Hungarian mapping, None if left over); purity (share of the majority class, None
        likewise); entropy (of the classes inside, nats).
    """
    matched, most, labelled = hungarian(table), majority(table), table.cluster_sizes
    starts = np.searchsorted(table.clusters, np.arange(table.num_clusters + 1))
    rows: list[dict[str, Any]] = []
    for cluster in range(table.num_clusters):
        counts = table.counts[starts[cluster] : starts[cluster + 1]]
        rows.append(
            {
                "cluster": cluster,
                "size": int(sizes[cluster]),
                "labelled": int(labelled[cluster]),
                "majority": _class_or_none(most[cluster]),
                "matched": _class_or_none(matched[cluster]),
                "purity": float(counts.max() / counts.sum()) if counts.size else None,
                "entropy": entropy(counts),
            }
        )
    return rows


def _class_or_none(number: np.int64) -> int | None:
    return None if number == NO_CLASS else int(number)
