"""The contingency table: how many images of each class lie in each cluster. Every score is read from it.

Comes from cluster ids and labels, goes to `assignment`, `scores` and `label_free`. Only cells that hold
an image are kept, so 10,000 clusters against 1,000 classes cost what the images cost, and nothing is ever
N x N.

Letters: N images, C clusters, L classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.errors import DataError
from rayscan.types import Ints

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Contingency:
    """Counts [C, L] in coordinate form; cells are unique and sorted by (cluster, class)."""

    clusters: Ints
    """Cluster of each cell, int64 [cells]."""
    classes: Ints
    """Class of each cell, int64 [cells]."""
    counts: Ints
    """Images in each cell, all > 0, int64 [cells]."""
    num_clusters: int
    """C, empty clusters included."""
    num_classes: int
    """L, empty classes included."""

    @classmethod
    def count(
        cls, clusters: NDArray[Any], labels: NDArray[Any], num_clusters: int, num_classes: int
    ) -> Contingency:
        """Count the pairs.

        Args:
            clusters: Cluster of each image, integers [N] in 0..C-1.
            labels: Class of each image, integers [N] in 0..L-1.
            num_clusters: C.
            num_classes: L.

        Raises:
            DataError: the two differ in length, are empty, or hold a number out of range.
        """
        rows, columns = np.asarray(clusters, np.int64), np.asarray(labels, np.int64)
        if rows.shape != columns.shape or rows.ndim != 1 or not rows.size:
            raise DataError(
                "clusters and labels cannot be compared",
                expected="two equally long, non-empty lists",
                got=f"shapes {rows.shape} and {columns.shape}",
                fix="label at least one image of the split",
            )
        for name, values, stop in (("cluster", rows, num_clusters), ("class", columns, num_classes)):
            if values.min() < 0 or values.max() >= stop:
                raise DataError(
                    f"a {name} number is out of range",
                    expected=f"0..{stop - 1}",
                    got=f"{values.min()}..{values.max()}",
                )
        cells, counts = np.unique(rows * num_classes + columns, return_counts=True)
        return cls(
            cells // num_classes, cells % num_classes, counts.astype(np.int64), num_clusters, num_classes
        )

    @classmethod
    def joined(cls, tables: Sequence[Contingency]) -> Contingency:
        """The table of all images, from those of parts of them, in any order."""
        first = tables[0]
        keys = np.concatenate([t.clusters * first.num_classes + t.classes for t in tables])
        cells, at = np.unique(keys, return_inverse=True)
        counts = np.zeros(len(cells), np.int64)
        np.add.at(counts, at, np.concatenate([t.counts for t in tables]))
        return cls(
            cells // first.num_classes,
            cells % first.num_classes,
            counts,
            first.num_clusters,
            first.num_classes,
        )

    @cached_property
    def total(self) -> int:
        """N."""
        return int(self.counts.sum())

    @cached_property
    def cluster_sizes(self) -> Ints:
        """Images per cluster, int64 [C]."""
        return self._sums(self.clusters, self.num_clusters)

    @cached_property
    def class_sizes(self) -> Ints:
        """Images per class, int64 [L]."""
        return self._sums(self.classes, self.num_classes)

    def rows_of(self, clusters: Ints) -> Ints:
        """Rows of the whole table, int64 [len(clusters), L], for ascending clusters."""
        at = np.minimum(np.searchsorted(clusters, self.clusters), max(len(clusters) - 1, 0))
        is_asked = clusters[at] == self.clusters if len(clusters) else np.zeros(len(at), bool)
        table = np.zeros((len(clusters), self.num_classes), np.int64)
        table[at[is_asked], self.classes[is_asked]] = self.counts[is_asked]
        return table

    def dense(self) -> Ints:
        """The whole table, int64 [C, L]."""
        table = np.zeros((self.num_clusters, self.num_classes), np.int64)
        table[self.clusters, self.classes] = self.counts
        return table

    def _sums(self, groups: Ints, num_groups: int) -> Ints:
        sums = np.zeros(num_groups, np.int64)
        np.add.at(sums, groups, self.counts)  # integers throughout: bincount's weights would be float64
        return sums


class ContingencySum:
    """A contingency table of images that come in pieces."""

    def __init__(self, num_clusters: int, num_classes: int) -> None:
        """Count nothing yet."""
        self._shape = num_clusters, num_classes
        self._table: Contingency | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no image was counted."""
        return self._table is None

    @property
    def table(self) -> Contingency:
        """The table of all images so far.

        Raises:
            DataError: there are none.
        """
        return self._table or Contingency.count(np.empty(0), np.empty(0), *self._shape)

    def add(self, clusters: NDArray[Any], labels: NDArray[Any]) -> None:
        """Count some images, see `Contingency.count`."""
        if len(clusters):
            piece = Contingency.count(clusters, labels, *self._shape)
            self._table = piece if self._table is None else Contingency.joined([self._table, piece])


def entropy(sizes: NDArray[Any]) -> float:
    """Shannon entropy of a partition given its group sizes, in nats; empty groups add nothing."""
    kept = np.asarray(sizes, np.float64)
    kept = kept[kept > 0]
    if kept.size <= 1:
        return 0.0
    share = kept / kept.sum()
    return float(-(share * np.log(share)).sum())


def mutual_information(table: Contingency) -> float:
    """I(cluster; class) = sum n_ij / N * log(N n_ij / (a_i b_j)), in nats, never below 0."""
    n = table.counts.astype(np.float64)
    a = table.cluster_sizes[table.clusters].astype(np.float64)
    b = table.class_sizes[table.classes].astype(np.float64)
    terms = n / table.total * (np.log(n) + np.log(table.total) - np.log(a) - np.log(b))
    return max(float(terms.sum()), 0.0)
