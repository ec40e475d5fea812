"""Waiting for work on the fleet, but not for machines that never come."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from rayscan.errors import FleetError

LOOK_SECONDS = 5.0


def first_ready(references: Sequence[Any], need: Mapping[str, float], pending_seconds: float) -> Any:
    """The first of some tasks that has ended, however long it takes, as long as a node can run it.

    Args:
        references: What is under way.
        need: Resources of each: CPU, GPU.
        pending_seconds: Longest time without a node that has them.

    Raises:
        FleetError: no such node came.
    """
    last_possible = time.monotonic()
    while True:
        ready, _ = ray.wait(list(references), num_returns=1, timeout=min(LOOK_SECONDS, pending_seconds))
        if ready:
            return ready[0]
        if any(can_run(node, need) for node in ray.nodes()):
            last_possible = time.monotonic()
        elif time.monotonic() - last_possible > pending_seconds:
            raise FleetError(
                "no machine came for the work",
                expected=f"a node with {dict(need)} within {pending_seconds:g} s (--fleet.pending-seconds)",
                got="none that is alive has that much",
                where="the joined Ray, or its autoscaler",
                fix="add a node, or lower --fleet.cpus-per-worker or --fleet.gpus-per-worker; "
                "the same command goes on from the last finished part",
            )


def can_run(node: Mapping[str, Any], need: Mapping[str, float]) -> bool:
    """Whether a node is alive and large enough."""
    has = node.get("Resources", {})
    return bool(node["Alive"]) and all(
        has.get(name, 0.0) >= amount for name, amount in need.items() if amount
    )
