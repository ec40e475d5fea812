"""Consensus of as many rows and clusters as ImageNet has, beside k-means and UMAP.

    python -m benchmarks.consensus_many [--quick] [--json F]

Rows are made, not read: 1,281,167 of 256 columns in 1,000 groups, the largest ten times the smallest, a
hundred families of ten, and 48 directions that vary within all groups and say nothing. `--quick`: 24,000
rows, 150 groups. As the stage does, groupings are found on a seeded sample of `consensus.max_rows`, and
their rule assigns all rows. k-means (faiss, 20 rounds) sees all rows; UMAP (umap-learn) and k-means the
sample alone. One round: it takes most of an hour. Quick is no test of speed.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Sequence

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.clusterers import umap_kmeans
from benchmarks.consensus_scale import matched
from benchmarks.harness import Goal, Report, options
from rayscan.config.consensus import ConsensusConfig
from rayscan.consensus.cluster import consensus
from rayscan.consensus.neighbors import unit_rows
from rayscan.types import Ints

WIDTH, INFORMATIVE, NUISANCE = 256, 64, 48
ROWS, CLUSTERS = 1_281_167, 1_000
QUICK_ROWS, QUICK_SAMPLE, QUICK_CLUSTERS = 24_000, 12_000, 150
SMALLER = 160_000
"""Rows that the growth is measured from."""
ROUNDS = 20
AT_ONCE = 65_536


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all of them once."""
    asked = options(__doc__, arguments)
    report = Report(asked, "consensus_many")
    count, clusters = (QUICK_ROWS, QUICK_CLUSTERS) if asked.quick else (ROWS, CLUSTERS)
    sample = QUICK_SAMPLE if asked.quick else ConsensusConfig().max_rows
    smaller = count // 2 if asked.quick else SMALLER
    rows, groups = made(count, clusters, 1)
    report.detail("rows", count)
    report.detail("clusters", clusters)
    report.detail("sample", sample)

    def tell(key: str, value: float, goal: Goal | None = None) -> None:
        """Keep a value, and print it now: the whole takes long."""
        report.value(key, value, goal=None if asked.quick else goal)
        print(f"  {key} {value:.5g}", flush=True)

    (fitted, fit), rule = ours(rows, clusters, sample)
    tell("fit_seconds", fit)
    tell("rule_seconds", rule)
    tell("minutes", (fit + rule) / 60, ("<=", 75))
    tell("acc", matched(fitted, groups, clusters))
    tell("peak_gib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, ("<=", 14))

    begun = time.perf_counter()
    found = faiss_kmeans(rows, clusters)
    tell("kmeans_seconds", time.perf_counter() - begun)
    tell("kmeans_acc", matched(found, groups, clusters))
    (_, few), little = ours(rows[:smaller], clusters, sample)
    tell(f"seconds_{smaller}", few + little)
    growth = math.log((fit + rule) / (few + little)) / math.log(count / smaller)
    tell("growth_exponent", growth, ("<=", 1.2))

    chosen = drawn(count, sample)
    tell("acc_of_the_sample", matched(fitted[chosen], groups[chosen], clusters))
    begun = time.perf_counter()
    theirs = umap_kmeans(rows[chosen], clusters, 0)
    tell("umap_sample_seconds", time.perf_counter() - begun)
    tell("umap_sample_acc", matched(theirs, groups[chosen], clusters))
    report.finish()


def ours(rows: NDArray[np.float32], clusters: int, sample: int) -> tuple[tuple[Ints, float], float]:
    """Clusters of all rows [N] and seconds of the fit; seconds of the rule."""
    begun = time.perf_counter()
    model = consensus(rows[drawn(len(rows), sample)], clusters, 0).ensemble
    middle = time.perf_counter()
    parts = [
        model.probabilities((rows[first : first + AT_ONCE],)).argmax(axis=1)
        for first in range(0, len(rows), AT_ONCE)
    ]
    return (np.concatenate(parts).astype(np.int64), middle - begun), time.perf_counter() - middle


def drawn(count: int, sample: int) -> Ints:
    """A seeded sample of rows, ascending; all if there are no more."""
    rng = np.random.default_rng([0, count])
    return np.sort(rng.choice(count, min(count, sample), replace=False))


def faiss_kmeans(rows: NDArray[np.float32], clusters: int) -> Ints:
    """k-means of unit rows, every row seen in each round: [N]."""
    units = unit_rows(rows)
    fit = faiss.Kmeans(WIDTH, clusters, niter=ROUNDS, seed=1, max_points_per_centroid=len(rows))
    fit.train(units)
    _, found = fit.index.search(units, 1)
    return found[:, 0].astype(np.int64)


def made(count: int, clusters: int, seed: int) -> tuple[NDArray[np.float32], Ints]:
    """Rows [count, 256] and the group of each."""
    rng = np.random.default_rng(seed)
    families = max(2, clusters // 10)
    means = rng.normal(size=(families, INFORMATIVE))[np.arange(clusters) % families]
    means = means + 0.8 * rng.normal(size=(clusters, INFORMATIVE))
    shares = rng.permutation(np.geomspace(1, 0.1, clusters))
    groups = rng.choice(clusters, count, p=shares / shares.sum())
    directions = rng.normal(size=(INFORMATIVE, WIDTH)) / math.sqrt(INFORMATIVE)
    nuisance = rng.normal(size=(NUISANCE, WIDTH)) / math.sqrt(WIDTH)
    nuisance *= np.geomspace(6, 0.6, NUISANCE)[:, None]
    rows = np.empty((count, WIDTH), np.float32)
    for first in range(0, count, AT_ONCE):
        some = groups[first : first + AT_ONCE]
        inner = means[some] + 1.2 * rng.normal(size=(len(some), INFORMATIVE))
        within = rng.normal(size=(len(some), NUISANCE)) @ nuisance
        rest = 0.35 * rng.normal(size=(len(some), WIDTH))
        rows[first : first + len(some)] = inner @ directions + within + rest
    return rows, groups.astype(np.int64)


if __name__ == "__main__":
    main()
