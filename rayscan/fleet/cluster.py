"""Joining a Ray or starting one, and what it has."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from dataclasses import dataclass

from rayscan.config import FleetConfig
from rayscan.errors import FleetError
from rayscan.fleet import autoscaler, security
from rayscan.fleet.address import address_and_origin, is_loopback_only, require_listening

DEFAULT_CPU_WORKERS = 2


@dataclass(frozen=True)
class Cluster:
    """Resources of the joined Ray."""

    nodes: int
    cpus: float
    gpus: float
    is_own: bool
    """Whether it was started here."""
    grows: bool = False
    """Whether an autoscaler adds nodes when work waits."""

    def summary(self) -> str:
        """The first line of a run."""
        what = f"{self.nodes} node{'s'[: self.nodes != 1]}, {self.cpus:g} CPUs, {self.gpus:g} GPUs"
        more = ", more on demand" if self.grows else ""
        return f"{'started a local Ray' if self.is_own else 'joined Ray'}: {what}{more}"


def connect(config: FleetConfig) -> Cluster:
    """Join the Ray that the settings or RAY_ADDRESS name, or start one on this machine.

    Raises:
        FleetError: it cannot be joined or started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # the first is raised; the rest say it again
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        return _describe(is_own=False)
    address, origin = address_and_origin(config)
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    before = signal.getsignal(signal.SIGTERM)
    try:
        if address and address != "local":
            require_listening(address, origin)
            is_inward = is_loopback_only(address, ray.util.get_node_ip_address())
            with security.on_loopback() if is_inward else contextlib.nullcontext():
                ray.init(address=address, **quiet)
            return _describe(is_own=False)
        wanted = (config.num_workers or DEFAULT_CPU_WORKERS) * config.cpus_per_worker
        cpus = max(os.cpu_count() or 1, int(wanted + 0.999))
        security.start_local_ray(num_cpus=cpus, include_dashboard=False, **quiet)
    except FleetError:
        raise
    except Exception as error:  # ray raises a plain one where a server does not come up, as on a full disk
        raise FleetError(
            "cannot start or join Ray",
            expected="a Ray that answers",
            got=f"{type(error).__name__}: {error}",
            where=origin,
            fix="check the address with `ray status --address ...`, the token if it demands one, and "
            "the room in the temporary directory",
        ) from error
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # ray puts one of its own there, which says nothing
    return _describe(is_own=True)


def alive_nodes() -> list[str]:
    """Ids of the nodes of the joined Ray."""
    import ray

    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def _describe(*, is_own: bool) -> Cluster:
    import ray

    resources = ray.cluster_resources()
    grows = not is_own and autoscaler.is_running()
    return Cluster(len(alive_nodes()), resources.get("CPU", 0.0), resources.get("GPU", 0.0), is_own, grows)
