"""How many actors hold the rows of a search or a k-means, and with how many threads."""

from __future__ import annotations

from rayscan.fleet.cluster import Cluster
from rayscan.fleet.connect import Fleet

ACTOR_CPUS = 0.01
"""CPUs that an actor or the task of a block reserves: enough to keep off machines that offer none, so little
that all find a place on any fleet. Tasks wait for actors nearly all the time."""


def shards_and_threads(fleet: Fleet, num_shards: int | None) -> tuple[int, int]:
    """Shards, and threads of each; nothing here changes a result.

    As many shards as are asked for, else one per worker. Where neither is said and there are no GPUs, one per
    node with all of its CPUs: nothing else of a run works meanwhile, and large shards are searched faster.

    Args:
        fleet: The machines.
        num_shards: Shards, if the user says.
    """
    config = fleet.config
    if config.num_workers is not None or fleet.gpus_per_worker:
        return num_shards or fleet.num_workers, fleet.threads_per_worker
    return one_per_node(fleet.cluster, num_shards, config.threads_per_worker)


def one_per_node(cluster: Cluster, num_shards: int | None, threads: int | None) -> tuple[int, int]:
    """Shards and their threads on machines that work on nothing else.

    Args:
        cluster: The machines.
        num_shards: Shards, if the user says.
        threads: Threads of each, if the user says.
    """
    shards = num_shards or cluster.nodes
    return shards, threads or max(1, int(cluster.cpus // shards))
