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
    hope = Hope(need, pending_seconds)
    while True:
        ready, _ = ray.wait(list(references), num_returns=1, timeout=min(LOOK_SECONDS, pending_seconds))
        if ready:
            return ready[0]
        hope.look()


class Hope:
    """That a node is there, or comes, that is large enough."""

    def __init__(self, need: Mapping[str, float], pending_seconds: float) -> None:
        """Begin to wait now; see `first_ready`."""
        self.need = need
        self.pending_seconds = pending_seconds
        self.last_possible = time.monotonic()

    def look(self) -> bool:
        """Whether such a node is there.

        Raises:
            FleetError: none has been there for too long.
        """
        now = time.monotonic()
        if any(can_run(node, self.need) for node in ray.nodes()):
            self.last_possible = now
        elif now - self.last_possible > self.pending_seconds:
            raise FleetError(
                "no machine came for the work",
                expected=f"a node with {dict(self.need)} within {self.pending_seconds:g} s "
                "(--fleet.pending-seconds)",
                got="none that is alive has that much",
                where="the joined Ray, or its autoscaler",
                fix="add a node, or lower --fleet.cpus-per-worker or --fleet.gpus-per-worker; "
                "the same command goes on from the last finished part",
            )
        return self.last_possible == now


def can_run(node: Mapping[str, Any], need: Mapping[str, float]) -> bool:
    """Whether a node is alive and large enough."""
    has = node.get("Resources", {})
    return bool(node["Alive"]) and all(
        has.get(name, 0.0) >= amount for name, amount in need.items() if amount
    )
