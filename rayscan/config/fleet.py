"""Settings of machines and workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rayscan.sections import Section, operational


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetConfig(Section):
    """Machines and workers. Nothing here changes a result (see `pretext.sync_batchnorm`)."""

    KEY: ClassVar[str] = "fleet"

    address: str | None = operational(None)
    """Ray to join: auto, or host:port. None starts one in this process."""
    num_workers: int | None = operational(None)
    """Training workers; none takes one per GPU, or two on CPUs."""
    head_workers: int = operational(1, ge=1)
    """Workers of heads on embeddings: these are so small that one is quickest."""
    min_workers: int | None = operational(None)
    """Train on with as few as this many workers while machines are missing; none waits for all of them."""
    gpus_per_worker: float | None = operational(None)
    """GPUs of each worker; none takes 1 if the joined Ray or its autoscaler offers any, else 0."""
    cpus_per_worker: float = operational(1.0)
    """CPUs of each worker."""
    threads_per_worker: int | None = operational(None)
    """Computing threads per worker; none takes cpus_per_worker, a fit that runs alone all of its node."""
    max_failures: int = operational(3)
    """Restarts of a training stage after deaths in a row without progress. A kept notice is no death."""
    pending_seconds: float = operational(1800.0)
    """Longest wait for machines before a training gives up, to be resumed by the same command."""
    collective_seconds: float = operational(600.0)
    """A worker that waits longer than this for another takes it for hung; training restarts."""
    checkpoint_every_seconds: float = operational(30.0)
    """At most this much training is lost to a crash. Resume is exact, so this changes no result."""
    checkpoint_patience_seconds: float = operational(600.0)
    """Training goes on this long while no checkpoint can be written (full disk, store away), then ends."""
    log_every_steps: int = operational(10)
    """Steps between rows of metrics."""
