"""How often a training is started again, and how long it waits for machines: inside Ray Train's controller.

Ray Train counts every failure alike, tries again what can only fail again, and waits for a machine for ever.
Here a worker's death is tried again as long as there is progress, and an exception that its code raises once:
when it comes again at the same step, it would come for ever.

The controller is a process of its own and every training waits for it, so nothing here imports torch before a
worker has failed: two seconds of a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayError
from ray.train.v2._internal.exceptions import RayTrainError
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

from rayscan.engine.preemption import PreemptedError
from rayscan.errors import FleetError, RayscanError
from rayscan.fleet import worker_error
from rayscan.fleet.ray_errors import chain
from rayscan.fleet.worker_error import WorkerError

UP_STATES = (RunningState, PreemptingState, ResizingState)
FINAL_STATES = (ShuttingDownState, ErroredState)


class RetryBudget(ControllerCallback):  # type: ignore[misc]
    """The failures a training may still have; told every state of the controller, it ends it by raising."""

    def __init__(
        self, training: str, max_failures: int, pending_seconds: float, wanted: str, progress: Any
    ) -> None:
        """Start with a full budget.

        Args:
            training: Name of the stage, for messages.
            max_failures: Restarts after failures in a row without progress; preemptions are none.
            pending_seconds: Longest time without a group of workers.
            wanted: What the group asks for, for the message.
            progress: Actor to which worker 0 reports how far it is.
        """
        self.training = training
        self.max_failures = max_failures
        self.pending_seconds = pending_seconds
        self.wanted = wanted
        self.progress = progress
        self.failures = 0
        self.furthest = -1
        self.raised: set[tuple[str, int | None]] = set()
        self.last_up = time.monotonic()

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        """Count what failed; give up when nothing came up for too long."""
        if isinstance(current_state, RestartingState) and current_state is not previous_state:
            self._count(current_state.training_failed_error)
        waited = time.monotonic() - self.last_up
        if isinstance(current_state, UP_STATES):
            self.last_up = time.monotonic()
        elif not isinstance(current_state, FINAL_STATES) and waited > self.pending_seconds:
            raise self._pending_too_long(waited, current_state)

    def _count(self, error: Any) -> None:
        failures: dict[int, Exception] = getattr(error, "worker_failures", {})
        if not failures or any(
            isinstance(cause_of(f), PreemptedError) or _is_preempted_actor(f) for f in failures.values()
        ):
            return  # preempted, with or without a notice: nobody's fault
        for failure in failures.values():
            if isinstance(cause := cause_of(failure), RayscanError):
                raise cause  # it would come again
        step = self._step()
        has_progressed = step > self.furthest
        self.failures = 1 if has_progressed else self.failures + 1
        self.furthest = max(step, self.furthest)
        if has_progressed:
            self.raised = {one for one in self.raised if one[1] is not None and one[1] >= step}
        raised = raised_by(failures)
        again = [(rank, one) for rank, one in raised.items() if one.identity in self.raised]
        self.raised |= {one.identity for one in raised.values()}
        if again or (raised and self.failures > self.max_failures):
            rank, one = (again or list(raised.items()))[0]
            raise one.ended(self.training, rank, times=2 if again else 1)
        if self.failures > self.max_failures:
            raise FleetError(
                "workers keep dying",
                expected=f"at most {self.max_failures} deaths without progress (--fleet.max-failures)",
                got=str(error).strip()[-1500:],
                fix="the same command goes on from the last checkpoint",
            )

    def _step(self) -> int:
        try:
            facts, _ = ray.get(self.progress.get.remote(), timeout=2.0)
        except ray.exceptions.RayError:
            return -1
        return int(facts.get("step", -1))

    def _pending_too_long(self, waited: float, state: Any) -> FleetError:
        last = getattr(state, "training_failed_error", None) if isinstance(state, ReschedulingState) else None
        return FleetError(
            "no machine came for the workers",
            expected=f"{self.wanted} within {self.pending_seconds:g} s (--fleet.pending-seconds)",
            got=f"nothing for {waited:.0f} s{f'; {last}' if last else ''}"[:500],
            where="the joined Ray, or its autoscaler",
            fix="add a node, lower --fleet.num-workers, or let the group shrink with --fleet.min-workers; "
            "the same command goes on from the last checkpoint",
        )


def raised_by(failures: Mapping[int, Exception]) -> dict[int, WorkerError]:
    """Exceptions that the code of workers raised, by rank; none if a worker died, which may be their cause.

    Args:
        failures: What Ray Train knows of each rank that failed.
    """
    if any(isinstance(failure, RayError | RayTrainError) for failure in failures.values()):
        return {}
    from rayscan import comms

    return {
        rank: failure if isinstance(failure, WorkerError) else worker_error.of(failure, None)
        for rank, failure in failures.items()
        if not comms.is_peer_failure(failure)
    }


def cause_of(error: BaseException) -> BaseException:
    """The first error of the chain that is ours, else the one at its end."""
    found = error
    for found in chain(error):
        if isinstance(found, RayscanError | PreemptedError):
            break
    return found
