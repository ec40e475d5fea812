"""Waiting for work on the fleet, but not for machines that never come."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rayscan.errors import FleetError

CHECK_SECONDS = 5.0


def first_ready(references: Sequence[Any], bundle: Mapping[str, float], pending_seconds: float) -> Any:
    """The first of some tasks that has ended, however long it takes, as long as a node can run it.

    Args:
        references: Tasks under way.
        bundle: Resources of each: CPU, GPU.
        pending_seconds: Longest time without a node that has them.

    Raises:
        FleetError: no such node came.
    """
    import ray

    deadline = PlacementDeadline(bundle, pending_seconds)
    while True:
        ready, _ = ray.wait(list(references), num_returns=1, timeout=min(CHECK_SECONDS, pending_seconds))
        if ready:
            return ready[0]
        deadline.check()


class PlacementDeadline:
    """The time by which a node must be there that can hold a bundle; put off as long as there is one."""

    def __init__(self, bundle: Mapping[str, float], pending_seconds: float) -> None:
        """Begin to wait now; see `first_ready`."""
        self.bundle = bundle
        self.pending_seconds = pending_seconds
        self.last_feasible = time.monotonic()

    def check(self) -> bool:
        """Whether such a node is there.

        Raises:
            FleetError: none has been there for too long.
        """
        import ray

        now = time.monotonic()
        if any(can_hold(node, self.bundle) for node in ray.nodes()):
            self.last_feasible = now
        elif now - self.last_feasible > self.pending_seconds:
            raise FleetError(
                "no machine came for the work",
                expected=f"a node with {dict(self.bundle)} within {self.pending_seconds:g} s "
                "(--fleet.pending-seconds)",
                got="none that is alive has that much",
                where="the joined Ray, or its autoscaler",
                fix="add a node, or lower --fleet.cpus-per-worker or --fleet.gpus-per-worker; "
                "the same command goes on from the last finished part",
            )
        return self.last_feasible == now


def can_hold(node: Mapping[str, Any], bundle: Mapping[str, float]) -> bool:
    """Whether a node is alive and large enough."""
    has = node.get("Resources", {})
    return bool(node["Alive"]) and all(
        has.get(name, 0.0) >= amount for name, amount in bundle.items() if amount
    )
