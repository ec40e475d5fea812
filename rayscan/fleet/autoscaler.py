"""What an autoscaler can add. Ray does not tell its node types, so it is asked for something and watched.

The autoscaler (v2: Ray's default on clouds and Kubernetes) publishes which demands it can never meet, and up
to which state of the cluster it has decided.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

ANSWER_SECONDS = 60.0
"""It decides every 5 s; a busy head may be late."""


def is_running() -> bool:
    """Whether the joined Ray has an autoscaler that decides."""
    return bool(_status().autoscaling_state.autoscaler_state_version)


def is_feasible(bundle: Mapping[str, float]) -> bool | None:
    """Whether a node that can hold `bundle` is there, or the autoscaler can add one.

    A node that it can add is on its way when this returns.

    Returns:
        None if the autoscaler does not say.
    """
    import ray

    group = ray.util.placement_group([dict(bundle)])
    name = group.id.hex()  # stands in the details of the demand
    deadline = time.monotonic() + ANSWER_SECONDS
    registered: int | None = None
    try:
        while time.monotonic() < deadline:
            if group.wait(timeout_seconds=0.5):
                return True
            status = _status()
            cluster, decided = status.cluster_resource_state, status.autoscaling_state
            if registered is None:
                if any(name in demand.details for demand in cluster.pending_gang_resource_requests):
                    registered = cluster.cluster_resource_state_version
            elif decided.last_seen_cluster_resource_state_version > registered:
                return not any(name in d.details for d in decided.infeasible_gang_resource_requests)
        return None
    finally:
        ray.util.remove_placement_group(group)


def _status() -> Any:
    """Demand and decisions, as the autoscaler publishes them."""
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

    reply = GetClusterStatusReply()
    reply.ParseFromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status())
    return reply
