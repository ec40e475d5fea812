"""Where workers pin how far they are, and the driver looks. Never waited for by the workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LOOK_SECONDS = 1.0


@ray.remote(num_cpus=0)
class _Board:  # the decorator makes it an actor class
    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.starts = 0
        self.state = ""

    def pin(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    def warn(self, text: str) -> None:
        """Shown until a worker is further."""
        if self.facts:
            self.facts = {**self.facts, "alert": text}

    def count_start(self) -> int:
        self.starts += 1
        return self.starts

    def pin_state(self, state: str) -> None:
        self.state = state

    def look(self) -> tuple[dict[str, Any], int]:
        return self.facts, self.starts


class Board:
    """A board and the thread that looks at it while a training runs."""

    def __init__(self, on_facts: Callable[[Mapping[str, Any]], None]) -> None:
        """Hang up a board; `on_facts` is told what is new, with the number of restarts."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = _Board.options(scheduling_strategy=here)  # type: ignore[attr-defined]
        self.handle: ActorHandle[Any] = options.remote()
        self._on_facts = on_facts
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="board")
        self._thread.start()

    def close(self) -> None:
        """Take it down."""
        self._is_over.set()
        self._thread.join(timeout=5 * LOOK_SECONDS)
        ray.kill(self.handle)

    def _watch(self) -> None:
        last: dict[str, Any] = {}
        while not self._is_over.wait(LOOK_SECONDS):
            try:
                facts, starts = ray.get(self.handle.look.remote(), timeout=LOOK_SECONDS)
            except ray.exceptions.RayError:
                continue  # progress is a courtesy: its loss must not end a training
            if facts and facts != last:
                last = facts
                self._on_facts({**facts, "restarts": max(0, starts - 1)})
