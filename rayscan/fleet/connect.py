"""The machines of a run.

Ray is joined or started at the first piece of work, so that a run with nothing to do starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from rayscan.config import FleetConfig
from rayscan.fleet import autoscaler, security
from rayscan.fleet.cluster import DEFAULT_CPU_WORKERS, Cluster, alive_nodes, connect
from rayscan.fleet.storage_check import StorageCheck
from rayscan.fleet.tasks import Tasks, map_tasks
from rayscan.storage import Place

T = TypeVar("T")
R = TypeVar("R")


class Fleet:
    """Machines and workers of a run."""

    def __init__(self, config: FleetConfig, out: Place, say: Callable[[str], None] = lambda _: None) -> None:
        """Remember what to join; nothing is started yet.

        Args:
            config: Address and sizes.
            out: The run's storage, which every node must reach.
            say: Takes the line that tells what was joined.
        """
        self.config = config
        self.out = out
        self.say = say
        self._cluster: Cluster | None = None
        self._storage = StorageCheck(out)
        self._brings_gpus: bool | None = None

    def __enter__(self) -> Fleet:
        """Use as a context manager, so that a Ray that was started is ended."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the Ray that was started here; leave one that was joined."""
        if self._cluster is not None:
            import ray

            ray.shutdown()
            self._cluster = None

    def join(self) -> Cluster:
        """Join or start Ray, unless that is done."""
        if self._cluster is None:
            self._cluster = connect(self.config)
            self.say(self._cluster.summary())
            if not self._cluster.is_own and security.accepts_anyone():
                self.say(security.OPEN_WARNING)
        return self._cluster

    @property
    def cluster(self) -> Cluster:
        """What was joined; joins if need be, and checks that its nodes see --out."""
        cluster = self.join()
        if not self._storage.has_checked:
            self._storage.require(alive_nodes())
        return cluster

    def joined(self) -> Fleet:
        """This fleet, with Ray joined or started, and --out seen by every node there is by now."""
        self.join()
        self._storage.require(alive_nodes())
        return self

    @property
    def gpus_per_worker(self) -> float:
        """GPUs of each worker: as asked for, else 1 if there are any or the autoscaler adds some."""
        asked = self.config.gpus_per_worker
        if asked is not None:
            return asked
        if self._brings_gpus is None:
            self._brings_gpus = self.cluster.gpus > 0 or (self.cluster.grows and self._ask_for_gpu())
        return float(self._brings_gpus)

    def _ask_for_gpu(self) -> bool:
        is_feasible = autoscaler.is_feasible({"GPU": 1.0})
        if is_feasible is None:
            self.say(
                "the autoscaler does not say whether it has GPUs: --fleet.gpus-per-worker 1 asks for them"
            )
        return bool(is_feasible)

    @property
    def num_workers(self) -> int:
        """Workers of a training: as asked for, else one per GPU, or two on CPUs."""
        if self.config.num_workers is not None:
            return self.config.num_workers
        if self.gpus_per_worker:
            return max(1, int(self.cluster.gpus / self.gpus_per_worker))
        return DEFAULT_CPU_WORKERS

    @property
    def threads_per_worker(self) -> int:
        """Computing threads of each worker."""
        return self.config.threads_per_worker or max(1, int(self.config.cpus_per_worker))

    def map(
        self,
        fn: Callable[[T], R],
        items: Sequence[T],
        *,
        on_done: Callable[[int, R], None] = lambda *_: None,
        uses_gpu: bool = False,
        is_alone: bool = False,
    ) -> list[R]:
        """Return `[fn(item) for item in items]`, computed on the fleet; a call is retried if its worker dies.

        Args:
            fn: A function of a module; it runs in another process.
            items: Small things: addresses and ranges, never data.
            on_done: Told (number, result) as each one ends.
            uses_gpu: Give each call the GPUs of a worker.
            is_alone: Let a call compute on all CPUs of its node, as nothing else of this run does meanwhile,
                unless `fleet.threads_per_worker` says how many.

        Raises:
            RayscanError: what a call raised.
            FleetError: workers kept dying, or nothing can run what is asked for.
        """
        tasks = Tasks(
            cpus=self.config.cpus_per_worker,
            gpus=self.gpus_per_worker if uses_gpu else 0.0,
            threads=self.config.threads_per_worker if is_alone else self.threads_per_worker,
            max_retries=self.config.max_failures,
            pending_seconds=self.config.pending_seconds,
        )
        return map_tasks(
            fn,
            items,
            tasks,
            self.cluster,
            on_done=on_done,
            on_node=lambda node: self._storage.require([node]),
            say=self.say,
        )
