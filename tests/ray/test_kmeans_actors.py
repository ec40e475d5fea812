"""k-means on a real local Ray: the bits of one process, whatever dies; and the rival end to end."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from rayscan.fleet.pool import ActorPool
from rayscan.storage import Place
from rayscan.vectors.cluster_shard import ClusterShard, Extent
from rayscan.vectors.lloyd import KMeans, State, fit, seeds
from rayscan.vectors.parts import EmbeddingRows
from testing.matrices import embedded
from tests.ray.tiny import run
from tests.unit.vectors.test_ivf import bundles

pytestmark = pytest.mark.ray


@pytest.fixture
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Share:
    """Rows of one actor that also tells which process it is."""

    def __init__(self, rows: EmbeddingRows, first: int, stop: int) -> None:
        self.shard = ClusterShard(rows.read(first, stop), first, threads=1, where="test")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shard, name)

    def pid(self) -> int:
        return os.getpid()


def make_share(item: tuple[EmbeddingRows, int, int]) -> Share:
    return Share(*item)


def test_killed_holders_change_nothing(local_ray: None, tmp_path: Path) -> None:
    x = bundles(20_000, dim=8)
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x, rows_per_part=5000))
    whole = ClusterShard(x, 0, threads=1, where="test")

    class Here:
        def ask(self, method: str, *arguments: Any) -> list[Any]:
            return [getattr(whole, method)(*arguments)]

    extent, settings = whole.extent(), KMeans(num_clusters=40, iterations=8, tolerance=0)
    want = fit(Here(), extent, State(seeds(Here(), extent, 40, 0)), settings)
    killed: list[int] = []
    with ActorPool(make_share, [(rows, 0, 8192), (rows, 8192, 16_384), (rows, 16_384, 20_000)]) as pool:
        assert Extent.joined(pool.ask("extent")) == extent

        def kill_one(_state: State) -> None:
            if len(killed) < 5:
                killed.append(pool.ask("pid")[len(killed) % 3])
                os.kill(killed[-1], signal.SIGKILL)

        start = seeds(pool, extent, 40, 0)
        got = fit(pool, extent, State(start), settings, on_state=kill_one)
        other = seeds(Here(), extent, 40, 1, "parallel")
        assert seeds(pool, extent, 40, 1, "parallel").tobytes() == other.tobytes()
        os.kill(pool.ask("pid")[0], signal.SIGKILL)  # it has forgotten its distances
        assert seeds(pool, extent, 40, 1, "parallel").tobytes() == other.tobytes()
    assert len(set(killed)) == 5
    assert got.centroids.tobytes() == want.centroids.tobytes()
    assert got.history == want.history


RIVAL = [
    "--method", "kmeans", "--pretext.epochs", "1", "--pretext.batch-size", "256",
    "--pca.num-components", "20",
    "--kmeans.over-clustering", "1.5", "--kmeans.num-seeds", "3", "--report.images-per-cluster", "4",
]  # fmt: skip


def test_the_rival_from_pixels_to_report(standing: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run([sys.executable, "-m", "rayscan", "demo", "--out", str(out), *RIVAL], **standing)
    record = json.loads((out / "run.json").read_text())
    assert list(record["stages"]) == [
        *("index", "pretext", "embed", "pca", "kmeans"),
        *("assign", "labels", "baseline", "evaluate", "report"),
    ]
    scores = json.loads((out / "scores.json").read_text())
    best = scores["splits"]["eval"]["methods"]["kmeans"]
    assert len(best["seeds"]) == 3
    assert best["acc"] in [seed["acc"] for seed in best["seeds"]]
    assert 0 < best["acc_tr"] <= 1
    assert best["acc"] <= best["hungarian_then_majority"] <= best["many_to_one"]
    assert scores["label_free"]["used_clusters"] <= 15
    table = run([sys.executable, "-m", "rayscan", "compare", str(out)]).stdout.splitlines()
    assert table[1].split()[:4] == ["digits", "eval", "kmeans", "3"]
    mean = np.mean([seed["acc_tr"] for seed in best["seeds"]])
    assert f"{100 * mean:.2f}+-" in table[1]
