"""Whether a machine of this training is about to be taken away. Asked by worker 0 between two steps."""

from __future__ import annotations

from collections.abc import Callable


class PreemptedError(Exception):
    """Not a failure: the state is on storage and the training wants to go on elsewhere."""


def _never() -> bool:
    return False


_check: Callable[[], bool] = _never


def set_check(check: Callable[[], bool]) -> None:
    """Say how this process learns of a preemption; `check` is called at every step and must not wait."""
    global _check
    _check = check


def is_announced() -> bool:
    """Whether a machine of this training is about to be taken away."""
    return _check()
