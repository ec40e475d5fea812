"""Exact neighbors, k-means and PCA beside the bare product, scikit-learn and faiss.

    python -m benchmarks.vectors [--quick] --json FILE

--quick (at most 10 minutes on two cores; one thread each, CPU seconds):
    neighbors   50,000 x 128 and 50,000 x 512, K = 20, all against all. `speed_vs_fp32_gemm_*`: time of
                sgemm of the same size, in the same tiles, into a preallocated output, over ours. At 128 also
                `ratio_vs_sklearn` (brute force by cosine) and `ratio_vs_faiss` (IndexFlatIP as it comes, in a
                process of its own: its threads wait as it has them wait). Times are those of 8,192 queries.
    sharding    200,000 x 128, K = 20, 8,192 queries: 4 shards through Ray actors over 1 shard through Ray.
    k-means     200,000 x 128, 1,000 clusters: Lloyd over shards against MiniBatchKMeans run as arXiv
                2008.10312 runs it (batches of 2,048, partial_fit, 60 passes; the time of 4 passes times 15,
                the inertia of those 4 extrapolated is never below that of ours: it is stated beside), and
                against faiss.Kmeans of 25 iterations.
    assignment  32,768 rows to 1,000 centroids, 128 and 512 wide: seconds in float32 over those by bfloat16
                (`assignment_half_vs_float32_*`), what is known of the rounding of rows kept.
    PCA         100,000 x 256: relative error of the covariance against float64.
Without --quick: MiniBatchKMeans runs all its 60 passes, every query is asked, and 320,292, 640,584 and
1,281,167 clustered vectors are mined with the approximate search at recall >= 0.99 (`growth_exponent`: slope
of log time over log rows, start-up excluded).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import ROOT, Options, Report, Times, interleaved, options, ratio
from benchmarks.mining.growth import growth
from benchmarks.mining.sets import LocalShards, clustered, gemm_in_tiles, on_one_thread
from benchmarks.mining.through_ray import sharding
from rayscan.vectors.cluster_shard import BLOCK_ROWS, ClusterSums, Extent
from rayscan.vectors.half_nearest import HalfNearest, Rounding
from rayscan.vectors.lloyd import KMeans, State, fit, inertia, seeds
from rayscan.vectors.merge import nearest
from rayscan.vectors.nearest import nearest_centroid
from rayscan.vectors.pca import moments, solve
from testing.shard_pool import LocalPool

Rows = NDArray[np.float32]

K = 20
QUERIES_AT_ONCE = 4096
PASSES, QUICK_PASSES = 60, 4

FAISS_AS_IT_COMES = """
import resource, sys, time
import faiss, numpy as np
rows, queries = np.load(sys.argv[1], allow_pickle=False), int(sys.argv[2])
faiss.omp_set_num_threads(1)
index = faiss.IndexFlatIP(rows.shape[1])
index.add(rows)
def used():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime
began, wall = used(), time.perf_counter()
index.search(rows[:queries], 21)
print(used() - began, time.perf_counter() - wall)
"""


SCORES = """
import time
import numpy as np
from benchmarks.harness import peak_bytes
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores, per_cluster
rng, n = np.random.default_rng(0), 10**7
labels = rng.integers(0, 1000, n, dtype=np.int32)
clusters = np.where(rng.random(n) < 0.5, labels * 10, rng.integers(0, 10**4, n, dtype=np.int32))
began = time.perf_counter()
table = Contingency.count(clusters, labels, 10**4, 1000)
partition_scores(table), per_cluster(table, table.cluster_sizes)
print(time.perf_counter() - began, peak_bytes())
"""


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure everything and report."""
    asked = options(__doc__, arguments)
    report, times = Report(asked, "vectors"), dict[str, Times]()
    report.ceilings()
    for measure in (
        neighbors,
        kmeans,
        assignment,
        pca,
        metrics,
        sharding,
        *(() if asked.quick else (growth,)),
    ):
        times |= measure(asked, report)
    return report.finish(times)


def neighbors(asked: Options, report: Report) -> dict[str, Times]:
    """Ours against the bare product, scikit-learn and faiss."""
    times = {}
    is_amx = report.details["ceilings"]["kind"] == "AMX"
    for dim, goal in ((128, 1.5 if is_amx else 0.75), (512, 2.5 if is_amx else 0.9)):
        x = clustered(50_000, dim, seed=0)
        queries = 8192 if asked.quick else len(x)
        times |= {f"{name}_{dim}": t for name, t in _search_times(x, queries, asked).items()}
        ours, gemm = times[f"ours_{dim}"], times[f"gemm_{dim}"]
        report.value(f"speed_vs_fp32_gemm_{dim}", ratio(gemm, ours), goal=(">=", goal))
        wrong, exact = _misses(x, ours.result, queries)
        report.detail(f"recall_{dim}", 1 - wrong / exact)
    report.value("ratio_vs_sklearn", ratio(times["sklearn_128"], times["ours_128"]), goal=(">=", 8))
    report.value(
        "ratio_vs_faiss", ratio(times["faiss_128"], times["ours_128"]), goal=(">=", 2.0 if is_amx else 1.0)
    )
    report.detail("neighbors", {"rows": 50_000, "queries": queries, "k": K, "threads": 1})
    return times


def _search_times(x: Rows, queries: int, asked: Options) -> dict[str, Times]:
    shards, product = LocalShards(x, 1), gemm_in_tiles(x[:queries], x)

    def ours() -> NDArray[np.int64]:
        found = [
            nearest(x[at : min(at + QUERIES_AT_ONCE, queries)], shards, K + 1)[1]
            for at in range(0, queries, QUERIES_AT_ONCE)
        ]
        return np.concatenate(found)

    contenders = {"ours": ours, "gemm": product}
    if x.shape[1] == 128:
        contenders["sklearn"] = _sklearn(x, min(queries, 2048))
        contenders["faiss_passive"] = lambda: faiss.knn(
            x[:queries], x, K + 1, metric=faiss.METRIC_INNER_PRODUCT
        )
    times = interleaved(contenders, rounds=asked.rounds)
    if x.shape[1] == 128:
        scale = queries / min(queries, 2048)  # brute force takes time by the query
        times["sklearn"].cpu = [scale * t for t in times["sklearn"].cpu]
        times["sklearn"].wall = [scale * t for t in times["sklearn"].wall]
        times["faiss"] = _faiss_as_it_comes(x, queries, asked.rounds)
    return times


def _sklearn(x: Rows, queries: int) -> Any:
    from sklearn.neighbors import NearestNeighbors

    brute = NearestNeighbors(n_neighbors=K + 1, metric="cosine", algorithm="brute").fit(x)
    return lambda: brute.kneighbors(x[:queries], return_distance=False)


def _faiss_as_it_comes(x: Rows, queries: int, rounds: int) -> Times:
    """A process of its own for every round, in which nothing has been set but one thread."""
    times = Times()
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file.name, x)
        for _ in range(rounds):
            command = [sys.executable, "-c", FAISS_AS_IT_COMES, file.name, str(queries)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            cpu, wall = map(float, done.stdout.split())
            times.cpu.append(cpu)
            times.wall.append(wall)
    return times


def _misses(x: Rows, found: NDArray[np.int64], queries: int) -> tuple[int, int]:
    """Neighbors of 200 queries that float64 does not know, and how many were looked at."""
    some = np.random.default_rng(1).choice(queries, 200, replace=False)
    exact = x[some].astype(np.float64) @ x.astype(np.float64).T
    kth = np.partition(exact, -(K + 1), axis=1)[:, -(K + 1)]
    of_found = np.take_along_axis(exact, found[some], axis=1)
    return int((of_found < kth[:, None] - 1e-6).sum()), found[some].size


def kmeans(asked: Options, report: Report) -> dict[str, Times]:
    """Lloyd over shards against MiniBatchKMeans as the paper runs it, and faiss.Kmeans."""
    num_clusters, passes = 1000, QUICK_PASSES if asked.quick else PASSES
    x = clustered(200_000, 128, seed=2, num_clusters=num_clusters)
    pool = LocalPool(x, 4)
    extent = Extent.joined(pool.ask("extent"))

    def inertia_of(centroids: Rows) -> float:
        found = ClusterSums.joined(pool.ask("cluster_sums", centroids.astype(np.float32), extent.grid, 0), 0)
        return inertia(extent, found, centroids)

    def ours() -> State:
        return fit(
            pool, extent, State(seeds(pool, extent, num_clusters, 0)), KMeans(num_clusters=num_clusters)
        )

    contenders = {
        "kmeans_ours": ours,
        "kmeans_sklearn": lambda: _minibatch(x, num_clusters, passes),
        "kmeans_faiss": lambda: _faiss_kmeans(x, num_clusters),
    }
    times = interleaved(contenders, rounds=asked.rounds if asked.quick else 3, warmups=0)
    scale = PASSES / passes
    times["kmeans_sklearn"].cpu = [scale * t for t in times["kmeans_sklearn"].cpu]
    inertias = {
        "ours": times["kmeans_ours"].result.inertia,
        f"sklearn after {passes} of {PASSES} passes": inertia_of(times["kmeans_sklearn"].result),
        "faiss": inertia_of(times["kmeans_faiss"].result),
    }
    report.value(
        "kmeans_ratio_vs_sklearn", ratio(times["kmeans_sklearn"], times["kmeans_ours"]), goal=(">=", 5)
    )
    report.value("kmeans_ratio_vs_faiss", ratio(times["kmeans_faiss"], times["kmeans_ours"]))
    report.detail("kmeans_inertia", inertias)
    report.detail("kmeans_moves", len(times["kmeans_ours"].result.history) - 1)
    return times


def assignment(asked: Options, report: Report) -> dict[str, Times]:
    """One assignment of a k-means, in float32 and by bfloat16."""
    times, num_rows = {}, 4 * BLOCK_ROWS
    for dim in (128, 512):
        x = clustered(num_rows, dim, seed=4, num_clusters=1000)
        centroids, known = x[:: num_rows // 1000][:1000].copy(), Rounding.of(x)
        found = interleaved(
            {
                "float32": lambda x=x, c=centroids: [  # type: ignore[misc]
                    nearest_centroid(x[at : at + BLOCK_ROWS], c)[0] for at in range(0, num_rows, BLOCK_ROWS)
                ],
                "half": lambda x=x, c=centroids, k=known: HalfNearest(c).nearest(x, k),  # type: ignore[misc]
            },
            rounds=asked.rounds,
        )
        report.value(f"assignment_half_vs_float32_{dim}", ratio(found["float32"], found["half"]))
        half = found["half"].result
        differ = int((np.concatenate(found["float32"].result) != half.labels).sum())
        report.detail(f"assignment_{dim}", {"settled": half.settled.tolist(), "labels_that_differ": differ})
        times |= {f"assignment_{name}_{dim}": t for name, t in found.items()}
    return times


def _minibatch(x: Rows, num_clusters: int, passes: int) -> Rows:
    from sklearn.cluster import MiniBatchKMeans

    size = max(2048, 1 << (num_clusters - 1).bit_length())
    model, rng = MiniBatchKMeans(num_clusters, batch_size=size, random_state=0), np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(passes):
            order = rng.permutation(len(x))
            for at in range(0, len(x) - size // 2, size):
                model.partial_fit(x[order[at : at + size]])
    centroids: Rows = model.cluster_centers_
    return centroids


def _faiss_kmeans(x: Rows, num_clusters: int) -> Rows:
    model = faiss.Kmeans(x.shape[1], num_clusters, niter=25, seed=0)
    model.train(x)
    centroids: Rows = model.centroids
    return centroids


def pca(_asked: Options, report: Report) -> dict[str, Times]:
    """One pass in float32 blocks against float64 on the whole."""
    x = clustered(100_000, 256, seed=3) + np.float32(0.5)  # far from zero, where one pass is hard
    shift = x[:1024].mean(axis=0)
    found = solve([moments(part, shift) for part in np.array_split(x, 7)], shift)
    exact = np.cov(x.astype(np.float64).T)
    ours = found.components.T * found.variances @ found.components
    error = float(np.linalg.norm(ours - exact) / np.linalg.norm(exact))
    variances = np.linalg.eigvalsh(exact)[::-1]
    report.value("pca_error", error, goal=("<=", 1e-6))
    report.detail("pca_variance_error", float(np.abs(found.variances / variances - 1)[:64].max()))
    return {}


def metrics(_asked: Options, report: Report) -> dict[str, Times]:
    """All scores of 10 million images in 10,000 clusters and 1,000 classes, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SCORES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, peak = map(float, done.stdout.split())
    report.detail("metrics", {"images": 10**7, "clusters": 10**4, "seconds": seconds, "peak_bytes": peak})
    return {}


if __name__ == "__main__":
    on_one_thread("benchmarks.vectors")
    main()
