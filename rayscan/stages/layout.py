"""How many processes hold the rows of a search or a k-means, and with how many threads."""

from __future__ import annotations

from rayscan.fleet.cluster import Cluster
from rayscan.fleet.connect import Fleet


def shards_and_threads(fleet: Fleet, asked: int | None) -> tuple[int, int]:
    """Shards, and threads of each; nothing here changes a result.

    As many shards as are asked for, else one per worker. Where neither is said and there are no GPUs, one per
    node with all of its CPUs: nothing else of a run works meanwhile, and large shards are searched faster.

    Args:
        fleet: The machines.
        asked: Shards, if the user says.
    """
    config = fleet.config
    if config.num_workers is not None or fleet.gpus_per_worker:
        return asked or fleet.num_workers, fleet.threads_per_worker
    return one_per_node(fleet.cluster, asked, config.threads_per_worker)


def one_per_node(cluster: Cluster, asked: int | None, threads: int | None) -> tuple[int, int]:
    """Shards and their threads on machines that work on nothing else.

    Args:
        cluster: The machines.
        asked: Shards, if the user says.
        threads: Threads of each, if the user says.
    """
    shards = asked or cluster.nodes
    return shards, threads or max(1, int(cluster.cpus // shards))
