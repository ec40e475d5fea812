"""A plain function on many items, as tasks: few in flight, more as the cluster grows, each retried."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from rayscan.fleet.cluster import Cluster
from rayscan.fleet.placement import PlacementDeadline
from rayscan.fleet.ray_errors import unwrapped

T = TypeVar("T")
R = TypeVar("R")

IN_FLIGHT_PER_CPU = 2
"""Twice what can run: the half that waits keeps workers fed, and makes an autoscaler double the cluster."""
REFRESH_SECONDS = 1.0
CHECK_SECONDS = 5.0
WAITING_SECONDS = 30.0


@dataclass(frozen=True)
class Tasks:
    """Resources and limits of every task of a map."""

    cpus: float
    gpus: float
    threads: int | None
    """Computing threads; None for as many as its node has CPUs."""
    max_retries: int
    """How often one is tried again after its worker died."""
    pending_seconds: float
    """Longest time without a node that can run one."""

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of a task, as Ray names them."""
        return {"CPU": self.cpus, "GPU": self.gpus}


def map_tasks(
    fn: Callable[[T], R],
    items: Sequence[T],
    tasks: Tasks,
    cluster: Cluster,
    *,
    on_done: Callable[[int, R], None],
    on_node: Callable[[str], None],
    say: Callable[[str], None],
) -> list[R]:
    """Return `[fn(item) for item in items]`, computed by tasks; see `Fleet.map`.

    Args:
        fn: A function of a module.
        items: Small things.
        tasks: Resources and limits.
        cluster: The joined Ray.
        on_done: Told (number, result) as each one ends.
        on_node: Told the id of the node on which each one ended.
        say: Takes the line that tells that nothing can run.
    """
    import ray

    task = ray.remote(_call).options(
        name=fn.__name__, num_cpus=tasks.cpus, num_gpus=tasks.gpus, max_retries=tasks.max_retries
    )
    results: list[R | None] = [None] * len(items)
    running: dict[Any, int] = {}
    waiting = iter(range(len(items)))
    limit = InFlightLimit(cluster)
    pending = PendingTasks(tasks, say)
    try:
        while True:
            while len(running) < limit.current() and (number := next(waiting, None)) is not None:
                running[task.remote(fn, items[number], tasks.threads)] = number
            if not running:
                return results  # type: ignore[return-value]
            ready, _ = ray.wait(list(running), num_returns=1, timeout=REFRESH_SECONDS)
            if not ready:
                pending.check(len(running))
                continue
            number = running.pop(ready[0])
            node, result = ray.get(ready[0])
            on_node(node)
            results[number] = result
            on_done(number, result)
    except ray.exceptions.RayError as error:
        raise unwrapped(error, f"task {fn.__name__}") from error


class InFlightLimit:
    """How many tasks may be in flight, by the size the cluster has now."""

    def __init__(self, cluster: Cluster) -> None:
        """Begin with the CPUs that were joined."""
        self._grows = cluster.grows
        self._cpus = cluster.cpus
        self._refreshed = time.monotonic()

    def current(self) -> int:
        """Tasks in flight at most; asks Ray again at most every second if the cluster may grow."""
        now = time.monotonic()
        if self._grows and now - self._refreshed > REFRESH_SECONDS:
            import ray

            self._refreshed, self._cpus = now, ray.cluster_resources().get("CPU", 0.0)
        return max(2, IN_FLIGHT_PER_CPU * int(self._cpus))


class PendingTasks:
    """Tasks none of which has ended for a while: perhaps no node can run them."""

    def __init__(self, tasks: Tasks, say: Callable[[str], None]) -> None:
        """Begin to wait now."""
        self._deadline = PlacementDeadline(tasks.bundle, tasks.pending_seconds)
        self._say = say
        self._checked = self._said = time.monotonic()

    def check(self, count: int) -> None:
        """Say now and then that no node can run the tasks, and give up in the end.

        Args:
            count: How many wait.

        Raises:
            FleetError: no machine came.
        """
        now = time.monotonic()
        if now - self._checked < min(CHECK_SECONDS, self._deadline.pending_seconds):
            return
        self._checked = now
        if not self._deadline.check() and now - self._said > WAITING_SECONDS:
            self._said = now
            bundle = self._deadline.bundle
            wanted = ", ".join(f"{amount:g} {name}s" for name, amount in bundle.items() if amount)
            self._say(f"  waiting for machines: {count} tasks want {wanted} each")


def _call(fn: Callable[[T], R], item: T, threads: int | None) -> tuple[str, R]:
    import ray

    node = ray.get_runtime_context().get_node_id()
    use_threads(_cpus_of(node) if threads is None else threads)
    return node, fn(item)


def _cpus_of(node: str) -> int:
    """CPUs of a node as Ray counts them, but no more than this process may use."""
    import ray

    counted = next(one["Resources"].get("CPU", 1.0) for one in ray.nodes() if one["NodeID"] == node)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(int(counted), allowed))


def use_threads(count: int) -> None:
    """Let BLAS, OpenMP and torch, as far as they are loaded, compute with so many threads.

    A worker of Ray begins with as many as its first task has CPUs, and goes on to other tasks.
    """
    threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
