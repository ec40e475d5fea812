"""Where the time of a training goes, measured by the host: what it waits for, not what a GPU is busy with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rayscan import comms

PARTS = ("data", "compute", "checkpoint")


class Clock:
    """Seconds by part since the last `take`.

    data: waiting for the next batch. compute: forward, loss, backward and optimizer; on a GPU the host only
    hands them out, until it must wait. communication: inside our own collectives, part of compute; the sum
    of gradients overlaps with the backward pass and is not told apart. checkpoint: copying the state.
    """

    def __init__(self) -> None:
        """Start the clock."""
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._since = time.perf_counter()
        self._images = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens inside for a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - began

    def count_images(self, images: int) -> None:
        """Count the images of a global batch whose step is done."""
        self._images += images

    def take(self) -> dict[str, float]:
        """Images per second and the seconds of each part since the last time; begins anew."""
        now = time.perf_counter()
        taken = {f"seconds_{k}": v for k, v in self._seconds.items()}
        taken["seconds_communication"] = comms.take_seconds()
        taken["images_per_second"] = self._images / max(now - self._since, 1e-9)
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._since, self._images = now, 0
        return taken
