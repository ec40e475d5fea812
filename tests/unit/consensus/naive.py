"""Slow twins of the consensus method: loops over rows, dense N x N matrices, float64."""

from __future__ import annotations

import math

import numpy as np


def blobs(
    sizes: tuple[int, ...], dim: int, seed: int = 0, spread: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian groups of unit noise around random means, and the group of each row."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    means = spread * rng.normal(size=(len(sizes), dim))
    order = rng.permutation(len(group))
    return (means[group] + rng.normal(size=(len(group), dim)))[order].astype(np.float32), group[order]


def nearest(rows: np.ndarray, k: int) -> np.ndarray:
    """Neighbours by cosine, one row after the other."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = []
    for i in range(len(units)):
        cosine = units @ units[i]
        cosine[i] = -np.inf
        found.append(np.argsort(-cosine, kind="stable")[:k])
    return np.array(found)


def mutual_information(a: np.ndarray, b: np.ndarray, num: int) -> float:
    """Of two labellings, term by term."""
    joint = np.zeros((num, num))
    for x, y in zip(a, b, strict=True):
        joint[x, y] += 1 / len(a)
    total = 0.0
    for i in range(num):
        for j in range(num):
            if joint[i, j] > 0:
                total += joint[i, j] * math.log(joint[i, j] / (joint[i].sum() * joint[:, j].sum()))
    return total


def dense_graph(ids: np.ndarray) -> np.ndarray:
    """1 where one row is in the list of the other."""
    graph = np.zeros((len(ids), len(ids)))
    for i, row in enumerate(ids):
        for j in row:
            graph[i, j] = graph[j, i] = 1
    return graph


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two labellings differ in the names of clusters only."""
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})
