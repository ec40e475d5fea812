"""The notice that a machine is about to be taken away. Heard by worker 0 between two steps."""

from __future__ import annotations

from collections.abc import Callable


class MovedError(Exception):
    """Not a failure: the state is on storage and the training wants to go on elsewhere."""


def _never() -> bool:
    return False


_ask: Callable[[], bool] = _never


def listen_to(ask: Callable[[], bool]) -> None:
    """Say how this process hears of a notice; `ask` is called at every step and must not wait."""
    global _ask
    _ask = ask


def is_given() -> bool:
    """Whether a machine of this training is about to be taken away."""
    return _ask()
