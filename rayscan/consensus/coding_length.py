"""Length of a code for rows in groups: the number of groups that makes it shortest.

L = sum_k (n_k + d)/2 logdet(I + d / (eps n_k) Z_k' Z_k) - n_k log(n_k / N): each group is coded up to an
error of eps as a Gaussian of its own, and each row says its group (Ma, Derksen, Hong, Wright 2007,
Segmentation of multivariate mixed data via lossy data coding and compression).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rayscan.metrics.merging import Merging
from rayscan.types import Ints

DISTORTION = 0.1
"""eps, of unit rows."""


def group_length(
    scatter: NDArray[np.float64], size: int, num_rows: int, distortion: float = DISTORTION
) -> float:
    """Nats of one group of the sum.

    Args:
        scatter: Z_k' Z_k, [d, d].
        size: n_k; an empty group costs nothing.
        num_rows: N.
        distortion: eps.
    """
    if size == 0:
        return 0.0
    width = len(scatter)
    volume = np.linalg.slogdet(np.eye(width) + width / (distortion * size) * scatter)[1]
    return float((size + width) / 2 * volume - size * math.log(size / num_rows))


def coding_curve(rows: NDArray[np.float32], labels: Ints, merging: Merging) -> tuple[tuple[int, float], ...]:
    """Nats a row at every step of a merging, from the groups given down to one: (groups left, L / N).

    Scatters of joined groups add, so that a step costs one determinant.

    Args:
        rows: Z, unit rows, [N, d].
        labels: Groups before the first step, [N].
        merging: Which join.
    """
    groups = merging.num_clusters
    sizes = np.bincount(labels, minlength=groups)
    scatters = np.stack([_scatter(rows[labels == group]) for group in range(groups)])
    costs = np.array([group_length(*one, len(rows)) for one in zip(scatters, sizes, strict=True)])
    curve = [(int((sizes > 0).sum()), float(costs.sum()) / len(rows))]
    for join in merging.joins:
        scatters[join.into] += scatters[join.joined]
        sizes[join.into] += sizes[join.joined]
        costs[join.joined] = 0.0
        costs[join.into] = group_length(scatters[join.into], sizes[join.into], len(rows))
        curve.append((join.clusters_left, float(costs.sum()) / len(rows)))
    return tuple(curve)


def _scatter(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    scatter: NDArray[np.float64] = wide.T @ wide
    return scatter
