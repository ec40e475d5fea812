"""Seconds of consensus against UMAP (umap-learn) and k-means on the same rows, in the same run.

    python -m benchmarks.consensus_scale [--quick] [--json F]

Rows are made, not read: Gaussian groups of uneven sizes along 40 directions, noise along all 1280, negative
entries cut off as a rectifier does. 4,000 and 50,000 of them, C 10; `--quick`: 1,000 and 2,000. One round:
a round of the large size takes minutes, and the ratio is between contenders of the same round. Neighbours are
searched for by both. `busy_ratio`: the small size again while a process for every CPU does nothing but count,
over its time alone; who shares the CPUs fairly takes twice as long.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from benchmarks.clusterers import umap_kmeans
from benchmarks.harness import Report, options
from rayscan.consensus.cluster import consensus
from rayscan.metrics.assignment import accuracy, hungarian
from rayscan.metrics.contingency import Contingency
from rayscan.types import Ints

WIDTH, INFORMATIVE, CLUSTERS = 1280, 40, 10
SMALL, LARGE = 4_000, 50_000
QUICK = 1_000, 2_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both sizes."""
    asked = options(__doc__, arguments)
    report = Report(asked, "consensus_scale")
    small, large = QUICK if asked.quick else (SMALL, LARGE)
    umap_kmeans(made(500, 0)[0], CLUSTERS, 0)  # compiles
    for count, name in ((small, "4k"), (large, "50k")):
        rows, groups = made(count, 1)
        ours, seconds = timed(by_consensus, rows)
        theirs, umap_seconds = timed(umap_kmeans, rows)
        report.detail(f"rows_{name}", count)
        report.value(f"seconds_{name}", seconds, goal=("<=", 30) if name == "4k" else None)
        report.value(f"umap_seconds_{name}", umap_seconds)
        report.value(
            f"ratio_vs_umap_{name}", seconds / umap_seconds, goal=("<=", 2) if name == "50k" else None
        )
        report.value(f"acc_{name}", matched(ours, groups))
        report.value(f"umap_acc_{name}", matched(theirs, groups))
    rows, _ = made(small, 1)
    _, alone = timed(by_consensus, rows)
    with busy_machine():
        _, busy = timed(by_consensus, rows)
    report.value("busy_ratio", busy / alone, goal=("<=", 3))
    report.finish()


def timed(
    method: Callable[[NDArray[np.float32], int, int], Ints], rows: NDArray[np.float32]
) -> tuple[Ints, float]:
    """Clusters of rows [n, D], and the seconds they took."""
    begun = time.perf_counter()
    found = method(rows, CLUSTERS, 0)
    return found, time.perf_counter() - begun


def by_consensus(rows: NDArray[np.float32], num_clusters: int, seed: int) -> Ints:
    """The result of our method."""
    return consensus(rows, num_clusters, seed).labels


@contextmanager
def busy_machine() -> Iterator[None]:
    """A process for every CPU that counts until the end."""
    counting = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(counting) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.terminate()
            other.wait()


def made(count: int, seed: int) -> tuple[NDArray[np.float32], Ints]:
    """Rows [count, 1280], none negative, and the group of each."""
    rng = np.random.default_rng(seed)
    shares = np.linspace(1, 3, CLUSTERS)
    groups = rng.choice(CLUSTERS, count, p=shares / shares.sum())
    directions = rng.normal(size=(INFORMATIVE, WIDTH)) / np.sqrt(INFORMATIVE)
    means = rng.normal(size=(CLUSTERS, INFORMATIVE))
    inner = means[groups] + 0.7 * rng.normal(size=(count, INFORMATIVE))
    rows = inner @ directions + rng.normal(size=(count, WIDTH))
    return np.maximum(rows, 0).astype(np.float32), groups.astype(np.int64)


def matched(clusters: Ints, groups: Ints, count: int = CLUSTERS) -> float:
    """Accuracy under the best one-to-one match."""
    table = Contingency.count(clusters, groups, count, count)
    return accuracy(table, hungarian(table))


if __name__ == "__main__":
    main()
