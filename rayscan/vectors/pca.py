"""Principal components in one pass over the rows, shard by shard.

Rows are shifted by the mean of the first of them before they are squared: without that, float32 loses what
distinguishes them (relative error of the covariance 4e-3 instead of 1e-7 on rows of mean 3, deviation 0.1).
Blocks are multiplied in float32 and added up in float64.

Letters: N rows, D wide, P components.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.errors import ConfigError, DataError
from rayscan.vectors.parts import EmbeddingRows

BLOCK_ROWS = 1024
SHIFT_ROWS = 1024
"""First rows whose mean is the shift."""


@dataclass(frozen=True)
class Moments:
    """Sums over rows less the shift; those of row ranges add up to those of all."""

    count: int
    total: NDArray[np.float64]
    """Sum: [D]."""
    scatter: NDArray[np.float64]
    """Sum of outer products: [D, D]."""


@dataclass(frozen=True)
class MomentsTask:
    """Rows [first, stop) to take the moments of: one piece of work for a worker."""

    rows: EmbeddingRows
    first: int
    stop: int
    shift: NDArray[np.float32]
    """[D]."""


@dataclass(frozen=True)
class Pca:
    """A rotation of the rows, and how to apply it."""

    mean: NDArray[np.float64]
    """[D]."""
    components: NDArray[np.float64]
    """Orthonormal rows, the largest variance first: [P, D]."""
    variances: NDArray[np.float64]
    """Variance along each, with N - 1: [P]."""
    total_variance: float
    """Variance along all D directions together."""
    is_whitened: bool = False
    """Whether `project` divides by the standard deviations."""

    @staticmethod
    def read(artifact: Artifact) -> Pca:
        """The components in a result of stage pca, or in a k-means that carries a copy."""
        note = artifact.read_json("pca.json")
        return Pca(
            artifact.read_array("mean.npy"),
            artifact.read_array("components.npy"),
            artifact.read_array("variances.npy"),
            note["total_variance"],
            note["is_whitened"],
        )

    def project(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates of rows: [n, D] -> float32 [n, P]."""
        return (rows - self.mean.astype(np.float32)) @ self.basis.astype(np.float32).T

    @property
    def basis(self) -> NDArray[np.float64]:
        """What centred rows are multiplied by: the components, whitened where that is asked for, [P, D]."""
        basis = self.components
        if self.is_whitened:
            # Below what float32 resolves, a direction says nothing: zero, rather than rounding blown up.
            is_known = self.variances > 1e-6 * self.variances[0]
            deviations = np.sqrt(self.variances)[:, None]
            basis = np.divide(basis, deviations, out=np.zeros_like(basis), where=is_known[:, None])
        return basis


def shift_of(rows: EmbeddingRows) -> NDArray[np.float32]:
    """Mean of the first rows: float32 [D]."""
    mean: NDArray[np.float32] = rows.read(0, min(SHIFT_ROWS, rows.train_rows)).mean(axis=0)
    return mean


def range_moments(task: MomentsTask) -> Moments:
    """The moments of one range of stored rows."""
    return moments(task.rows.read(task.first, task.stop), task.shift)


def moments(rows: NDArray[np.float32], shift: NDArray[np.float32]) -> Moments:
    """Moments of rows [n, D] about the shift [D].

    Raises:
        DataError: a value is NaN or infinite.
    """
    dim = rows.shape[1]
    total, scatter = np.zeros(dim), np.zeros((dim, dim))
    for at in range(0, len(rows), BLOCK_ROWS):
        block = rows[at : at + BLOCK_ROWS] - shift
        total += block.sum(axis=0, dtype=np.float64)
        scatter += block.T @ block
    if not np.isfinite(scatter).all():
        raise DataError(
            "PCA needs finite rows", got="NaN or infinity", fix="look at the pretext stage's loss"
        )
    return Moments(len(rows), total, scatter)


def solve(
    parts: Iterable[Moments],
    shift: NDArray[np.float32],
    num_components: int | None = None,
    *,
    whiten: bool = False,
) -> Pca:
    """Components from the moments of all rows, added in the order given.

    The sign of a component makes its largest entry positive, the first of equal ones.

    Args:
        parts: Moments that cover all rows once.
        shift: What they are about: [D].
        num_components: P; all D if not given.
        whiten: Whether `project` shall give unit variances.

    Raises:
        ConfigError: P is not within 1..min(N, D).
    """
    first, *others = parts
    count, total, scatter = first.count, first.total.copy(), first.scatter.copy()
    for part in others:
        count += part.count
        total += part.total
        scatter += part.scatter
    dim, limit = len(total), min(len(total), count)
    kept = limit if num_components is None else num_components
    if not 1 <= kept <= limit or count < 2:
        raise ConfigError(
            "PCA cannot keep that many components",
            expected=f"1..{limit}: {count:,} rows, {dim} wide",
            got=num_components,
            where="pca.num_components",
            fix="pass a smaller --pca.num-components, or none",
        )
    mean = total / count
    covariance = (scatter - count * np.outer(mean, mean)) / (count - 1)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    values, components = np.maximum(values[::-1], 0.0), vectors[:, ::-1].T
    at = np.abs(components).argmax(axis=1)
    signs = np.where(components[np.arange(dim), at] < 0, -1.0, 1.0)
    return Pca(mean + shift, (components * signs[:, None])[:kept], values[:kept], float(values.sum()), whiten)
