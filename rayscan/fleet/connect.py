"""Joining or starting Ray, and running plain functions on it.

Ray is started or joined at the first piece of work, so that a run with nothing to do starts nothing.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from rayscan.config import FleetConfig
from rayscan.errors import FleetError, RayscanError
from rayscan.fleet import openness, private
from rayscan.storage import Place, is_local

T = TypeVar("T")
R = TypeVar("R")

DEFAULT_CPU_WORKERS = 2


@dataclass(frozen=True)
class Offer:
    """What the joined Ray has."""

    nodes: int
    cpus: float
    gpus: float
    is_own: bool
    grows: bool = False
    """Whether an autoscaler brings more when work waits."""

    def sentence(self) -> str:
        """The first line of a run."""
        what = f"{self.nodes} node{'s'[: self.nodes != 1]}, {self.cpus:g} CPUs, {self.gpus:g} GPUs"
        more = ", more on demand" if self.grows else ""
        return f"{'started a local Ray' if self.is_own else 'joined Ray'}: {what}{more}"


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
        self._brings_gpus: bool | None = None
        self._seeing: set[str] = set()

    def __enter__(self) -> Fleet:
        """Use as a context manager, so that a Ray that was started is ended."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the Ray that was started here; leave one that was joined."""
        if self._offer is not None:
            import ray

            ray.shutdown()
            self._offer = None

    def join(self) -> Offer:
        """Join or start Ray, unless that is done."""
        if self._offer is None:
            self._offer = _connect(self.config)
            self.say(self._offer.sentence())
            if not self._offer.is_own and openness.is_open():
                self.say(openness.OPEN)
        return self._offer

    @property
    def offer(self) -> Offer:
        """What was joined; joins if need be, and checks that its nodes see --out."""
        offer = self.join()
        if not self._seeing:
            self.require_seen(alive_nodes())
        return offer

    def joined(self) -> Fleet:
        """Itself, with Ray joined or started, and --out seen by every node there is by now."""
        assert self.offer.nodes
        self.require_seen(alive_nodes())
        return self

    @property
    def gpus_per_worker(self) -> float:
        """GPUs of each worker: as asked for, else 1 if there are any or the autoscaler brings some."""
        asked = self.config.gpus_per_worker
        if asked is not None:
            return asked
        if self._brings_gpus is None:
            self._brings_gpus = self.offer.gpus > 0 or (self.offer.grows and self._ask_for_gpu())
        return float(self._brings_gpus)

    def _ask_for_gpu(self) -> bool:
        from rayscan.fleet.demand import would_bring

        brings = would_bring({"GPU": 1.0})
        if brings is None:
            self.say(
                "the autoscaler does not say whether it has GPUs: --fleet.gpus-per-worker 1 asks for them"
            )
        return bool(brings)

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
        from rayscan.fleet.tasks import run_all

        return run_all(self, fn, items, on_done, self.gpus_per_worker if uses_gpu else 0.0)

    def require_seen(self, nodes: Sequence[str]) -> None:
        """Refuse an --out in a directory that not all of these nodes see.

        Args:
            nodes: Identities; those that were found to see it are not asked again, those that are gone by now
                do not count.

        Raises:
            FleetError: a node does not see it.
        """
        new = sorted(set(nodes) - self._seeing)
        self._seeing.update(new)
        if not new or len(self._seeing) == 1 or not is_local(self.out.uri):
            return
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        token = f".seen-{secrets.token_hex(4)}"
        self.out.write(token, b"")
        try:
            look = ray.remote(num_cpus=0, max_retries=0)(_sees)
            asked = [
                look.options(scheduling_strategy=On(node, soft=False)).remote(self.out, token) for node in new
            ]
            blind = [node for node, answer in zip(new, asked, strict=True) if _answer(answer) is False]
        finally:
            self.out.delete(token)
        if blind:
            raise FleetError(
                "--out is a directory that not every node sees",
                expected="a shared file system or an object store, such as s3://bucket/run",
                got=f"{self.out.uri}, invisible on {len(blind)} of {len(self._seeing)} nodes",
                where="--out",
                fix="choose an --out that every node reaches",
            )


def alive_nodes() -> list[str]:
    """Identities of the nodes of the joined Ray."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def _sees(place: Place, name: str) -> bool:
    return place.size(name) is not None


def _answer(reference: Any) -> bool | None:
    """What a node said; None where it is gone, which Ray may not have noticed when it was asked."""
    import ray

    try:
        return bool(ray.get(reference))
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError:
        return None


def unwrapped(error: Exception, what: str) -> RayscanError:
    """The rayscan error inside one of Ray's, or a FleetError that says what Ray said."""
    inner: BaseException | None = error
    while inner is not None:
        below = getattr(inner, "cause", None)  # Ray's own class of a rayscan error says all its trace
        if isinstance(inner, RayscanError) and not isinstance(below, RayscanError):
            return inner
        inner = getattr(inner, "controller_failure", None) or below or inner.__cause__
    return FleetError(
        f"{what} failed on the fleet",
        got=f"{type(error).__name__}: {str(error).strip()[-2000:]}",
        fix="the same command resumes from the last finished part",
    )


def _connect(config: FleetConfig) -> Offer:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # the first is raised; the rest say it again
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
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
    grows = False
    if not is_own:
        from rayscan.fleet.demand import has_autoscaler

        grows = has_autoscaler()
    return Offer(len(alive_nodes()), resources.get("CPU", 0.0), resources.get("GPU", 0.0), is_own, grows)
