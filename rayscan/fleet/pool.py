"""Actors that each hold a shard and are all asked the same question, again and again.

An actor is a pure function of its item: one that dies is made again from it and asked again, so the answers
are those of a fleet on which nothing ever fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from rayscan.fleet.ray_errors import unwrapped
from rayscan.fleet.shard_layout import ACTOR_CPUS

T = TypeVar("T")

SHARED_BYTES = 65_536
"""Arguments above this are stored once, and pulled once per node."""


class _Holder:
    def __init__(self, make: Callable[[T], Any], item: T) -> None:
        self._held = make(item)

    def ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self._held, method)(*arguments)


class ActorPool(Generic[T]):
    """One actor per item, spread over the nodes; Ray must have been joined."""

    def __init__(
        self, make: Callable[[T], Any], items: Sequence[T], *, gpus: float = 0.0, what: str = "a shard"
    ) -> None:
        """Start the actors; they load while the caller goes on.

        Args:
            make: A function of a module: item -> what is asked; runs in the actor, again after each death.
            items: Small things: addresses and ranges, never data.
            gpus: GPUs of each actor.
            what: For messages.
        """
        import ray

        start = ray.remote(
            num_cpus=ACTOR_CPUS,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy="SPREAD",
        )(_Holder)
        self.what = what
        self.actors = [start.remote(make, item) for item in items]

    def __enter__(self) -> ActorPool[T]:
        """Use as a context manager, so that the actors end."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the actors."""
        import ray

        for actor in self.actors:
            ray.kill(actor, no_restart=True)

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """What `method` of every held thing returns, in the order of the items.

        Raises:
            RayscanError: what one of them raised.
            FleetError: Ray lost what it cannot bring back.
        """
        import ray

        try:
            shared = [ray.put(a) if getattr(a, "nbytes", 0) > SHARED_BYTES else a for a in arguments]
            answers: list[Any] = ray.get([actor.ask.remote(method, *shared) for actor in self.actors])
            return answers
        except ray.exceptions.RayError as error:
            raise unwrapped(error, f"{method} of {self.what}") from error
