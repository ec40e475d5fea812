"""The heads of a round as one model: probabilities of clusters, for old rows and new ones alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.confidence import tempered, translation
from rayscan.consensus.discriminant import LinearRule
from rayscan.consensus.readings import Features, Reading
from rayscan.types import Ints

ROWS_AT_ONCE = 16_384


@dataclass(frozen=True)
class Member:
    """Linear heads in one whitened space, each translated into the clusters of the result."""

    reading: Reading
    mean: NDArray[np.float32]
    """[D]."""
    projection: NDArray[np.float32]
    """[D, q]."""
    weights: NDArray[np.float32]
    """[H, q, C]."""
    biases: NDArray[np.float32]
    """[H, C]."""
    translations: NDArray[np.float32]
    """Shares of the result's clusters in those of each head: [H, C, C]."""

    @staticmethod
    def of(
        reading: Reading,
        mean: NDArray[np.float32],
        projection: NDArray[np.float32],
        heads: Sequence[LinearRule],
        groupings: Sequence[Ints],
        labels: Ints,
        num_clusters: int,
    ) -> Member:
        """Put heads together.

        Args:
            reading: Of the features.
            mean: Of the unit rows, [D].
            projection: To the space of the heads, [D, q].
            heads: Rules in that space.
            groupings: Clusters of the rows by each head, [N].
            labels: The result, [N].
            num_clusters: C.
        """
        return Member(
            reading,
            np.asarray(mean, np.float32),
            np.asarray(projection, np.float32),
            np.stack([head.weights for head in heads]).astype(np.float32),
            np.stack([head.bias for head in heads]).astype(np.float32),
            np.stack([translation(one, labels, num_clusters) for one in groupings]).astype(np.float32),
        )

    def summed(self, features: Sequence[Features]) -> NDArray[np.float32]:
        """Sum over the heads of their softmax outputs: [n, D] of each source -> float32 [n, C]."""
        rows = (self.reading.units(features) - self.mean) @ self.projection
        total = np.zeros((len(rows), self.biases.shape[1]), np.float32)
        for weights, bias, shares in zip(self.weights, self.biases, self.translations, strict=True):
            outputs = rows @ weights + bias
            outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
            total += (outputs / outputs.sum(axis=1, keepdims=True)) @ shares
        return total


@dataclass(frozen=True)
class Ensemble:
    """Heads in one or several spaces."""

    members: tuple[Member, ...]
    temperature: float = 1.0
    """Of the probabilities, `confidence.temperature`."""

    def probabilities(self, features: Sequence[Features]) -> NDArray[np.float32]:
        """Mean over all heads of their softmax outputs, tempered: float32 [n, C], rows sum to 1.

        Args:
            features: [n, D] of each source, as they came to the fit.
        """
        return tempered(self.mean(features), self.temperature)

    def mean(self, features: Sequence[Features]) -> NDArray[np.float32]:
        """The mean before it is tempered: see `probabilities`."""
        parts = [
            self._of_rows([rows[first : first + ROWS_AT_ONCE] for rows in features])
            for first in range(0, len(features[0]), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self._clusters), np.float32)

    def _of_rows(self, features: Sequence[Features]) -> NDArray[np.float32]:
        total = sum(member.summed(features) for member in self.members)
        heads = sum(len(member.weights) for member in self.members)
        mean: NDArray[np.float32] = np.asarray(total, np.float32) / np.float32(heads)
        return mean

    @property
    def _clusters(self) -> int:
        return int(self.members[0].biases.shape[1])
