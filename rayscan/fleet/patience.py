"""How often a training is started again, and how long it waits for machines: inside Ray Train's controller.

Ray Train counts every death alike, tries again what can only fail again, and waits for a machine for ever.
"""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2._internal.execution.controller.state import (
    ErroredState,
    PreemptingState,
    ReschedulingState,
    ResizingState,
    RestartingState,
    RunningState,
    ShuttingDownState,
)
from ray.train.v2._internal.execution.worker_group.poll import _is_preempted_actor

from rayscan.engine.notice import MovedError
from rayscan.errors import FleetError, RayscanError

UP = (RunningState, PreemptingState, ResizingState)
OVER = (ShuttingDownState, ErroredState)


class Patience(ControllerCallback):  # type: ignore[misc]
    """Told every state of the controller; raising ends the training."""

    def __init__(self, max_failures: int, pending_seconds: float, wanted: str, board: Any) -> None:
        """Start with a full budget.

        Args:
            max_failures: Restarts after deaths in a row without progress; moves to another node are none.
            pending_seconds: Longest time without a group of workers.
            wanted: What the group asks for, for the message.
            board: Where worker 0 pins how far it is.
        """
        self.max_failures = max_failures
        self.pending_seconds = pending_seconds
        self.wanted = wanted
        self.board = board
        self.failures = 0
        self.furthest = -1
        self.last_up = time.monotonic()

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Count what failed; give up when nothing came up for too long."""
        if type(current_state) is not type(previous_state):
            self.board.pin_state.remote(type(current_state).__name__.removesuffix("State").lower())
        if isinstance(current_state, RestartingState) and current_state is not previous_state:
            self._count(current_state.training_failed_error)
        waited = time.monotonic() - self.last_up
        if isinstance(current_state, UP):
            self.last_up = time.monotonic()
        elif not isinstance(current_state, OVER) and waited > self.pending_seconds:
            raise self._given_up(waited, current_state)

    def _count(self, error: Any) -> None:
        failures = list(getattr(error, "worker_failures", {}).values())
        if not failures or any(
            isinstance(cause_of(f), MovedError) or _is_preempted_actor(f) for f in failures
        ):
            return  # a notice was kept, or the node was taken: nobody's fault
        for failure in failures:
            if isinstance(cause := cause_of(failure), RayscanError):
                raise cause  # it would come again
        step = self._step()
        self.failures = 1 if step > self.furthest else self.failures + 1
        self.furthest = max(step, self.furthest)
        if self.failures > self.max_failures:
            raise FleetError(
                "workers keep dying",
                expected=f"at most {self.max_failures} deaths without progress (--fleet.max-failures)",
                got=str(error).strip()[-1500:],
                fix="the same command goes on from the last checkpoint",
            )

    def _step(self) -> int:
        try:
            facts, _ = ray.get(self.board.look.remote(), timeout=2.0)
        except ray.exceptions.RayError:
            return -1
        return int(facts.get("step", -1))

    def _given_up(self, waited: float, state: Any) -> FleetError:
        last = getattr(state, "training_failed_error", None) if isinstance(state, ReschedulingState) else None
        return FleetError(
            "no machine came for the workers",
            expected=f"{self.wanted} within {self.pending_seconds:g} s (--fleet.pending-seconds)",
            got=f"nothing for {waited:.0f} s{f'; {last}' if last else ''}"[:500],
            where="the joined Ray, or its autoscaler",
            fix="add a node, lower --fleet.num-workers, or let the group shrink with --fleet.min-workers; "
            "the same command goes on from the last checkpoint",
        )


def cause_of(error: BaseException) -> BaseException:
    """What lies at the bottom of Ray's wrapping."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, RayscanError | MovedError):
            return inner
        error = inner
        below = (getattr(inner, name, None) for name in ("controller_failure", "cause"))
        inner = next((b for b in below if isinstance(b, BaseException)), inner.__cause__)
    return error
