"""Joining or starting Ray, and running plain functions on it.

Ray is started or joined at the first piece of work, so that a run with nothing to do starts nothing.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rayscan.config import FleetConfig
from rayscan.errors import FleetError, RayscanError
from rayscan.fleet import private
from rayscan.storage import Place, is_local

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_CPU_WORKERS = 2
IN_FLIGHT_PER_CPU = 2


@dataclass(frozen=True)
class Offer:
    """What the joined Ray has."""

    nodes: int
    cpus: float
    gpus: float
    is_own: bool

    def sentence(self) -> str:
        """The first line of a run."""
        what = f"{self.nodes} node{'s'[: self.nodes != 1]}, {self.cpus:g} CPUs, {self.gpus:g} GPUs"
        return f"{'started a local Ray' if self.is_own else 'joined Ray'}: {what}"


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
        self._offer: Offer | None = None

    def __enter__(self) -> Fleet:
        """Use as a context manager, so that a Ray that was started is ended."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the Ray that was started here; leave one that was joined."""
        if self._offer is not None:
            import ray

            ray.shutdown()
            self._offer = None

    @property
    def offer(self) -> Offer:
        """What was joined; joins if need be."""
        if self._offer is None:
            self._offer = _connect(self.config)
            self.say(self._offer.sentence())
            self._check_storage(self._offer)
        return self._offer

    def joined(self) -> Fleet:
        """Itself, with Ray joined or started."""
        assert self.offer.nodes
        return self

    @property
    def gpus_per_worker(self) -> float:
        """GPUs of each worker: as asked for, else 1 if there are any."""
        asked = self.config.gpus_per_worker
        return asked if asked is not None else float(self.offer.gpus > 0)

    @property
    def num_workers(self) -> int:
        """Workers of a training: as asked for, else one per GPU, or two on CPUs."""
        if self.config.num_workers is not None:
            return self.config.num_workers
        if self.gpus_per_worker:
            return max(1, int(self.offer.gpus / self.gpus_per_worker))
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
        on_done: Callable[[int, R], None] | None = None,
        uses_gpu: bool = False,
    ) -> list[R]:
        """`[fn(item) for item in items]` on the fleet, each retried if its worker dies.

        Args:
            fn: A function of a module; it runs in another process.
            items: Small things: addresses and ranges, never data.
            on_done: Told (number, result) as each one ends.
            uses_gpu: Give each call the GPUs of a worker.

        Raises:
            RayscanError: what a call raised.
            FleetError: workers kept dying, or nothing can run what is asked for.
        """
        import ray

        from rayscan.fleet.pending import first_ready

        cpus = self.config.cpus_per_worker
        gpus = self.gpus_per_worker if uses_gpu else 0.0
        limit = max(2, IN_FLIGHT_PER_CPU * int(self.offer.cpus))
        task = ray.remote(_call).options(
            name=fn.__name__, num_cpus=cpus, num_gpus=gpus, max_retries=self.config.max_failures
        )
        results: list[R | None] = [None] * len(items)
        running: dict[Any, int] = {}
        waiting = iter(range(len(items)))
        try:
            while True:
                while len(running) < limit and (number := next(waiting, None)) is not None:
                    running[task.remote(fn, items[number], self.threads_per_worker)] = number
                if not running:
                    return results  # type: ignore[return-value]
                ready = first_ready(list(running), {"CPU": cpus, "GPU": gpus}, self.config.pending_seconds)
                number = running.pop(ready)
                results[number] = result = ray.get(ready)
                if on_done is not None:
                    on_done(number, result)
        except ray.exceptions.RayError as error:
            for reference in running:
                ray.cancel(reference, force=False)
            raise unwrapped(error, f"task {getattr(fn, '__name__', fn)}") from error

    def _check_storage(self, offer: Offer) -> None:
        """Refuse several nodes with an --out that only this one sees."""
        if offer.nodes <= 1 or not is_local(self.out.uri):
            return
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        token = f".seen-{secrets.token_hex(4)}"
        self.out.write(token, b"")
        try:
            nodes = [n["NodeID"] for n in ray.nodes() if n["Alive"]]
            look = ray.remote(num_cpus=0, max_retries=0)(_sees)
            asked = [
                look.options(scheduling_strategy=On(n, soft=False)).remote(self.out, token) for n in nodes
            ]
            blind = [n for n, sees in zip(nodes, ray.get(asked), strict=True) if not sees]
        finally:
            self.out.delete(token)
        if blind:
            raise FleetError(
                "--out is a directory that not every node sees",
                expected="a shared file system or an object store, such as s3://bucket/run",
                got=f"{self.out.uri}, invisible on {len(blind)} of {len(nodes)} nodes",
                where="--out",
                fix="choose an --out that every node reaches",
            )


def _sees(place: Place, name: str) -> bool:
    return place.size(name) is not None


def _call(fn: Callable[[T], R], item: T, threads: int) -> R:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    return fn(item)


def unwrapped(error: Exception, what: str) -> RayscanError:
    """The rayscan error inside one of Ray's, or a FleetError that says what Ray said."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, RayscanError):
            return inner
        inner = getattr(inner, "controller_failure", None) or getattr(inner, "cause", None) or inner.__cause__
    return FleetError(
        f"{what} failed on the fleet",
        got=f"{type(error).__name__}: {str(error).strip()[-2000:]}",
        fix="the same command resumes from the last finished part",
    )


def _connect(config: FleetConfig) -> Offer:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "60")
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        return _offer(is_own=False)
    address = config.address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if address and address != "local":
            ray.init(address=address, **quiet)
            return _offer(is_own=False)
        wanted = (config.num_workers or DEFAULT_CPU_WORKERS) * config.cpus_per_worker
        cpus = max(os.cpu_count() or 1, int(wanted + 0.999))
        private.start(num_cpus=cpus, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise FleetError(
            "cannot start or join Ray",
            expected="a Ray that answers",
            got=f"{type(error).__name__}: {error}",
            where=f"--fleet.address {address or 'local'}",
            fix="check the address with `ray status --address ...`, and the token if it demands one",
        ) from error
    return _offer(is_own=True)


def _offer(*, is_own: bool) -> Offer:
    import ray

    resources = ray.cluster_resources()
    nodes = [n for n in ray.nodes() if n["Alive"]]
    return Offer(len(nodes), resources.get("CPU", 0.0), resources.get("GPU", 0.0), is_own)
