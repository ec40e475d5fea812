"""A worker of a training, as the function that trains sees it: no Ray in sight, and none is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Worker:
    """Place of a process in its group, its device, and where it reports."""

    rank: int
    world_size: int
    device: str
    report: Callable[[Mapping[str, Any]], None]


TrainFunction = Callable[[Any, Worker], Any]
