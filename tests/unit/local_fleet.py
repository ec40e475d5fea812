"""The fleet in this process: its verbs without Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rayscan.fleet.cluster import Cluster
from rayscan.fleet.connect import Fleet


class LocalFleet(Fleet):
    """Tasks are called here, one after the other."""

    @property
    def cluster(self) -> Cluster:
        return Cluster(1, 1, 0, is_own=True)

    @property
    def gpus_per_worker(self) -> float:
        return 0.0

    def joined(self) -> LocalFleet:
        return self

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any], **told: Any) -> list[Any]:
        results = []
        for number, item in enumerate(items):
            results.append(fn(item))
            if (on_done := told.get("on_done")) is not None:
                on_done(number, results[-1])
        return results


class LocalPool:
    """Shards that are held here (`fleet.pool.ActorPool`)."""

    made = 0
    dies_after: int | None = None
    """Questions after which the driver is lost."""

    def __init__(self, make: Callable[[Any], Any], items: Sequence[Any], **_: Any) -> None:
        self.held = [make(item) for item in items]
        self.asked = 0
        LocalPool.made = len(items)

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.held = []

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        self.asked += 1
        if self.asked == LocalPool.dies_after:
            raise KeyboardInterrupt
        return [getattr(one, method)(*arguments) for one in self.held]
