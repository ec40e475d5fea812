"""Settings of the service for new images; no part of a recipe: nothing here changes a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rayscan.sections import Section, operational, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeConfig(Section):
    """How a service listens, what it takes, how it grows."""

    KEY: ClassVar[str] = "serve"

    host: str = operational("127.0.0.1")
    """Interface that is listened on; 0.0.0.0 is all of them."""
    port: int = operational(8000, ge=1, le=65535)
    """TCP port."""
    batch: int = operational(32, ge=1)
    """Requests computed together at most."""
    wait_ms: float = operational(5.0, ge=0)
    """Longest wait for a batch to fill, ms."""
    min_replicas: int = operational(1, ge=1)
    """Processes that answer when there is nothing to do."""
    max_replicas: int = operational(4, ge=1)
    """At most so many under load, as far as there are CPUs or GPUs."""
    threads: int = operational(1, ge=1)
    """Computing threads, and CPUs, of each."""
    gpus: float = operational(0.0, ge=0)
    """GPUs of each."""
    neighbors: int = operational(5, ge=0)
    """Nearest known images in an answer; 0 for none."""
    known_bytes: int = operational(2_000_000_000, ge=0)
    """Features of the run that each may hold for them; a larger run is served without."""
    max_images: int = operational(64, ge=1)
    """Images of one request."""
    max_bytes: int = operational(64_000_000, ge=1)
    """Bytes of one request, and of one file at an address."""
    max_pixels: int = operational(32_000_000, ge=1)
    """Pixels of one picture; larger ones are refused by their header, JPEGs decoded at a reduced scale."""
    reload_seconds: float = operational(2.0, gt=0)
    """Between looks whether edits were applied."""

    def check(self) -> None:
        """Fewest replicas are not more than most."""
        require(
            self.min_replicas <= self.max_replicas,
            "serve.min_replicas",
            f"at most serve.max_replicas = {self.max_replicas}",
            self.min_replicas,
        )
