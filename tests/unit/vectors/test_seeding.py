"""k-means|| against a twin from the paper, beside k-means++ in quality, and the same for any sharding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rayscan.config import KMeansConfig
from rayscan.sections import semantic
from rayscan.vectors import cluster_shard, seeding
from rayscan.vectors.cluster_shard import BLOCK_ROWS, ClusterShard
from rayscan.vectors.lloyd import KMeans, State, fit, seeds
from rayscan.vectors.seeding import OVERSAMPLING, ROUNDS, parallel, plus_plus
from testing.matrices import Rows
from testing.shard_pool import LocalPool
from tests.unit.vectors.test_lloyd import blobs, pool_of


def cost_of(x: Rows, centers: Rows) -> float:
    return float(squares(x, centers).min(axis=1).sum())


def squares(x: Rows, centers: Rows) -> NDArray[np.float64]:
    a, b = x.astype(np.float64), centers.astype(np.float64)
    return np.maximum(np.square(a).sum(1)[:, None] - 2 * a @ b.T + np.square(b).sum(1), 0)


def twin(x: Rows, num_clusters: int, seed: int) -> tuple[Rows, NDArray[np.int64]]:
    """Bahmani et al. 2012, Algorithm 2, steps 1 to 7, on the whole matrix in float64; our uniform numbers."""
    chosen = np.random.default_rng([seed, 2]).integers(len(x), size=1).tolist()
    for number in range(ROUNDS):
        nearest = squares(x, x[chosen]).min(axis=1)
        chance = OVERSAMPLING * num_clusters * nearest / nearest.sum()
        size = cluster_shard.BLOCK_ROWS
        drawn = [
            np.random.default_rng([seed, 3, number, block]).random(min(size, len(x) - block * size))
            for block in range(-(-len(x) // size))
        ]
        chosen += np.flatnonzero(np.concatenate(drawn) < chance).tolist()
    weights = np.bincount(squares(x, x[chosen]).argmin(axis=1), minlength=len(chosen))
    return x[chosen], weights


@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_candidates_are_those_of_the_paper(monkeypatch: pytest.MonkeyPatch, num_shards: int) -> None:
    monkeypatch.setattr(cluster_shard, "BLOCK_ROWS", 128)
    given: list[tuple[Rows, NDArray[np.int64]]] = []

    def noted(rows: Rows, num_clusters: int, seed: int, weights: NDArray[np.int64]) -> Rows:
        given.append((rows, weights))
        return plus_plus(rows, num_clusters, seed, weights)

    monkeypatch.setattr(seeding, "plus_plus", noted)
    x = blobs(3000, centers=20)
    picked = parallel(pool_of(x, num_shards)[0], 3000, 20, seed=5)
    candidates, weights = twin(x, 20, 5)
    assert given[0][0].tobytes() == candidates.tobytes()
    assert given[0][1].tolist() == weights.tolist()
    assert weights.sum() == 3000
    # l C expected candidates a round, and the first: Poisson-like, so +- 4 deviations.
    assert abs(len(candidates) - 1 - ROUNDS * 40) < 4 * np.sqrt(ROUNDS * 40)
    assert {row.tobytes() for row in picked} <= {row.tobytes() for row in candidates}


def test_as_good_as_plus_plus_on_clusters() -> None:
    """Mean of 12 seedings: at most 5 % above k-means++ in cost, before and after Lloyd."""
    x = blobs(6000, dim=8, centers=40, seed=3)
    pool, extent = pool_of(x, 2)
    costs: dict[str, list[tuple[float, float]]] = {"plus_plus": [], "parallel": []}
    for kind, found in costs.items():
        for seed in range(12):
            start = seeds(pool, extent, 40, seed, kind)
            state = fit(pool, extent, State(start), KMeans(num_clusters=40))
            found.append((cost_of(x, start), state.inertia))
    before, after = (np.mean(costs["parallel"], axis=0) / np.mean(costs["plus_plus"], axis=0)).tolist()
    assert before < 1.05
    assert after < 1.05


def test_finds_small_clusters_that_a_sample_misses() -> None:
    """40,000 rows in one place and 12 far singles, of which a sample of 8,192 holds two or three.

    With a seed each, and a random row for the crowd, the cost is 2 x 6 a row; a single missed costs 10^6.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40_000, 6)).astype(np.float32)
    lone = rng.choice(40_000, 12, replace=False)
    x[lone] = 1000 * rng.normal(size=(12, 6)).astype(np.float32)
    pool, extent = pool_of(x, 2)
    found = {kind: seeds(pool, extent, 13, 1, kind) for kind in ("plus_plus", "parallel")}
    assert cost_of(x, found["parallel"]) < 1e6 < cost_of(x, found["plus_plus"])


def test_a_shard_that_forgets_gives_the_same_bits() -> None:
    class Forgetful(LocalPool):
        def ask(self, method: str, *arguments: Any) -> list[Any]:
            fresh = [ClusterShard(s.rows, s.first, threads=1, where="test") for s in self.shards]
            return [getattr(shard, method)(*arguments) for shard in fresh]

    x = blobs(2 * BLOCK_ROWS + 500)
    want = parallel(LocalPool(x, 1), len(x), 30, 4)
    assert parallel(Forgetful(x, 3), len(x), 30, 4).tobytes() == want.tobytes()
    other = LocalPool(x, 3)
    other.ask("costs", [x[:5], x[5:9]])  # candidates of another fit
    assert parallel(other, len(x), 30, 4).tobytes() == want.tobytes()


def test_few_and_equal_rows() -> None:
    x = np.repeat(np.arange(3, dtype=np.float32)[:, None], 4, axis=1).repeat(5, axis=0)
    pool, extent = pool_of(x)
    for seed in range(5):
        picked = seeds(pool, extent, 9, seed, "parallel")
        assert picked.shape == (9, 4)
        assert {float(row[0]) for row in picked} == {0.0, 1.0, 2.0}


def test_weights_count_as_repeated_rows() -> None:
    """First draws: in proportion to the weights, 3 : 1 : 0 of 4,000 within 4 deviations."""
    rows = np.array([[0.0], [1.0], [2.0]], np.float32)
    first = [float(plus_plus(rows, 1, seed, np.array([3, 1, 0]))[0, 0]) for seed in range(4000)]
    counts = [first.count(value) for value in (0.0, 1.0, 2.0)]
    assert abs(counts[0] - 3000) < 4 * np.sqrt(4000 * 0.75 * 0.25)
    assert counts[2] == 0


def test_the_seeding_enters_the_fingerprint() -> None:
    assert semantic(KMeansConfig())["seeding"] == "plus_plus"
    assert semantic(KMeansConfig(seeding="parallel"))["seeding"] == "parallel"
