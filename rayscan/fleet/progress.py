"""How far a training is: worker 0 reports to an actor without waiting, and the driver polls the actor."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

POLL_SECONDS = 1.0


@ray.remote(num_cpus=0)
class _ProgressActor:  # the decorator makes it an actor class
    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.starts = 0

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    def set_alert(self, text: str) -> None:
        """Add an alert that stands until the next facts."""
        if self.facts:
            self.facts = {**self.facts, "alert": text}

    def count_start(self) -> int:
        self.starts += 1
        return self.starts

    def get(self) -> tuple[dict[str, Any], int]:
        return self.facts, self.starts


class TrainingProgress:
    """The actor, and the thread that polls it while a training runs."""

    def __init__(self, on_facts: Callable[[Mapping[str, Any]], None]) -> None:
        """Start both; `on_facts` is told what is new, with the number of restarts."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = _ProgressActor.options(scheduling_strategy=here)  # type: ignore[attr-defined]
        self.actor: ActorHandle[Any] = options.remote()
        self._on_facts = on_facts
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True, name="progress")
        self._thread.start()

    def close(self) -> None:
        """End both."""
        self._is_over.set()
        self._thread.join(timeout=5 * POLL_SECONDS)
        ray.kill(self.actor)

    def _poll(self) -> None:
        last: dict[str, Any] = {}
        while not self._is_over.wait(POLL_SECONDS):
            try:
                facts, starts = ray.get(self.actor.get.remote(), timeout=POLL_SECONDS)
            except ray.exceptions.RayError:
                continue  # progress is a courtesy: its loss must not end a training
            if facts and facts != last:
                last = facts
                self._on_facts({**facts, "restarts": max(0, starts - 1)})
