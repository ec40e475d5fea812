"""Where the work of commands that are no run is done: here if it is little, else on the fleet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayscan.data.listing import Map

FEW_BYTES = 300_000_000
"""Up to so much is looked at in this process, without starting Ray."""


def mapper(size: int, address: str | None, stack: ExitStack) -> Map:
    """`[fn(item) for item in items]`, with progress where it takes long.

    Args:
        size: Bytes to go through.
        address: Ray to join; given, it is used however small the work is.
        stack: Ends what was started.
    """
    if address is None and size <= FEW_BYTES:
        return lambda fn, items: [fn(item) for item in items]
    from rayscan.config import FleetConfig
    from rayscan.fleet.connect import Fleet
    from rayscan.stages.progress import Progress
    from rayscan.storage import Place

    progress = Progress()
    fleet = stack.enter_context(Fleet(FleetConfig(address=address), Place("."), progress.say))

    def apply(fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        progress.start(fn.__name__, len(items), "tasks")
        return fleet.map(fn, items, on_done=lambda _number, _result: progress.advance())

    return apply
