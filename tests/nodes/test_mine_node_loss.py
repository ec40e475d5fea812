"""SearchSettings and k-means on a Ray of several nodes, some of which are lost: the results do not notice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayscan.artifacts import Draft, Step
from rayscan.fleet.pool import ActorPool
from rayscan.fleet.search_settings import SearchSettings
from rayscan.fleet.shards import mine_blocks
from rayscan.storage import Place
from rayscan.vectors.cluster_shard import ClusterShard, Extent
from rayscan.vectors.lloyd import KMeans, State, fit, seeds
from rayscan.vectors.merge import Block, blocks
from rayscan.vectors.parts import EmbeddingRows
from testing.matrices import brute_force, collapsed, embedded, planted

pytestmark = pytest.mark.soak

K = 20


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(3):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def require_alive(count: int) -> None:
    """Ray notices a loss after some seconds, the search sooner or never."""
    import ray

    deadline = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) != count:
        assert time.monotonic() < deadline, ray.nodes()
        time.sleep(0.2)


def make_share(item: tuple[EmbeddingRows, int, int]) -> ClusterShard:
    rows, first, stop = item
    return ClusterShard(rows.read(first, stop), first, threads=1, where="test")


@pytest.mark.timeout(240)
def test_a_lost_node_changes_no_neighbor_and_no_centroid(cluster: Any, tmp_path: Path) -> None:
    import ray

    x = planted()
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    representatives, indexed = collapsed(rows, K)
    draft = Draft(Place(str(tmp_path)), Step("mine", 1, {"of": "nodes"}))
    here = ray.get_runtime_context().get_node_id()  # a driver ends with its own node, and only that is a loss
    nodes = [
        node for node in cluster.list_all_nodes() if node.node_id not in (here, cluster.head_node.node_id)
    ]
    assert len(nodes) >= 2
    ended: list[str] = []

    def lose_one(block: Block, _was_there: bool) -> None:
        ended.append(block.name)
        if len(ended) == 4:
            cluster.remove_node(nodes[0], allow_graceful=False)

    work = blocks(representatives, 25)
    files = mine_blocks(work, indexed, draft, SearchSettings(K, num_shards=6), lose_one)
    require_alive(3)
    assert len(ended) == len(work) == 25

    def whole(name: str) -> np.ndarray:
        return np.concatenate([np.load(BytesIO(draft.place.read(part[name].path))) for part in files])

    want_scores, want_ids = brute_force(x, K)
    np.testing.assert_array_equal(whole("ids"), want_ids)
    np.testing.assert_array_equal(whole("scores"), want_scores)

    share = make_share((rows, 0, 617))
    extent = share.extent()

    class One:
        def ask(self, method: str, *arguments: Any) -> list[Any]:
            return [getattr(share, method)(*arguments)]

    settings = KMeans(num_clusters=30, iterations=6, tolerance=0)
    want = fit(One(), extent, State(seeds(One(), extent, 30, 0)), settings)
    moves = 0

    def lose_another(_state: State) -> None:
        nonlocal moves
        moves += 1
        if moves == 2:
            cluster.remove_node(nodes[1], allow_graceful=False)

    with ActorPool(make_share, [(rows, 0, 617)], what="rows") as pool:
        assert Extent.joined(pool.ask("extent")) == extent
        got = fit(pool, extent, State(seeds(pool, extent, 30, 0)), settings, on_state=lose_another)
    require_alive(2)
    assert got.centroids.tobytes() == want.centroids.tobytes()
    assert got.history == want.history
