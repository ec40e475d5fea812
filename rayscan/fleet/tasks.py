"""A plain function on many items, as tasks: few in flight, more as the fleet grows, each retried."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rayscan.fleet.connect import unwrapped

if TYPE_CHECKING:
    from rayscan.fleet.connect import Fleet

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT_PER_CPU = 2
"""Twice what can run: the half that waits keeps workers fed, and makes an autoscaler double the fleet."""
REFRESH_SECONDS = 1.0
LOOK_SECONDS = 5.0
WAITING_SECONDS = 30.0


def run_all(
    fleet: Fleet,
    fn: Callable[[T], R],
    items: Sequence[T],
    on_done: Callable[[int, R], None] | None,
    gpus: float,
) -> list[R]:
    """See `Fleet.map`."""
    import ray

    config = fleet.config
    task = ray.remote(_call).options(
        name=fn.__name__, num_cpus=config.cpus_per_worker, num_gpus=gpus, max_retries=config.max_failures
    )
    results: list[R | None] = [None] * len(items)
    running: dict[Any, int] = {}
    waiting = iter(range(len(items)))
    room = Room(fleet, gpus)
    try:
        while True:
            while len(running) < room.limit() and (number := next(waiting, None)) is not None:
                running[task.remote(fn, items[number], fleet.threads_per_worker)] = number
            if not running:
                return results  # type: ignore[return-value]
            ready, _ = ray.wait(list(running), num_returns=1, timeout=REFRESH_SECONDS)
            if not ready:
                room.look(len(running))
                continue
            number = running.pop(ready[0])
            node, result = ray.get(ready[0])
            fleet.require_seen([node])
            results[number] = result
            if on_done is not None:
                on_done(number, result)
    except ray.exceptions.RayError as error:
        raise unwrapped(error, f"task {fn.__name__}") from error


class Room:
    """How many tasks may be in flight, by the size the fleet has now."""

    def __init__(self, fleet: Fleet, gpus: float) -> None:
        """Begin with the offer that was joined."""
        from rayscan.fleet.pending import Hope

        self.fleet = fleet
        self.cpus = fleet.offer.cpus
        self.hope = Hope({"CPU": fleet.config.cpus_per_worker, "GPU": gpus}, fleet.config.pending_seconds)
        self.counted = self.looked = self.said = time.monotonic()

    def limit(self) -> int:
        """Tasks in flight; asks Ray again at most every second if it may grow."""
        now = time.monotonic()
        if self.fleet.offer.grows and now - self.counted > REFRESH_SECONDS:
            import ray

            self.counted, self.cpus = now, ray.cluster_resources().get("CPU", 0.0)
        return max(2, IN_FLIGHT_PER_CPU * int(self.cpus))

    def look(self, tasks: int) -> None:
        """Say now and then that nothing is there that could work, and give up in the end.

        Raises:
            FleetError: no machine came.
        """
        now = time.monotonic()
        if now - self.looked < min(LOOK_SECONDS, self.hope.pending_seconds):
            return
        self.looked = now
        if not self.hope.look() and now - self.said > WAITING_SECONDS:
            self.said = now
            wanted = ", ".join(f"{amount:g} {name}s" for name, amount in self.hope.need.items() if amount)
            self.fleet.say(f"  waiting for machines: {tasks} tasks want {wanted} each")


def _call(fn: Callable[[T], R], item: T, threads: int) -> tuple[str, R]:
    import ray

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return ray.get_runtime_context().get_node_id(), fn(item)
