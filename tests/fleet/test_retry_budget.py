"""Which failures count, which end a training at once, and when waiting is over: against Ray's own states."""

from __future__ import annotations

from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution.controller import state
from ray.train.v2.api.exceptions import WorkerGroupError

from rayscan.engine.preemption import PreemptedError
from rayscan.errors import DataError, FleetError
from rayscan.fleet import retry_budget
from rayscan.fleet.retry_budget import RetryBudget, cause_of
from rayscan.fleet.worker_error import WorkerError

DIED = RuntimeError("Connection closed by peer")


class Watched(RetryBudget):
    """Whose workers are at a step that is set here."""

    step = 10

    def _step(self) -> int:
        return self.step


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(retry_budget.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def watched(clock: list[float]) -> Watched:
    return Watched("scan", 2, 60.0, "2 x CPU", None)


def fail(watched: Watched, *failures: Exception) -> None:
    """A group that ran, died of this, and runs again."""
    error = WorkerGroupError("died", dict(enumerate(failures)))
    restarting = state.RestartingState(training_failed_error=error)
    watched.after_controller_state_update(state.RunningState(), restarting)
    watched.after_controller_state_update(restarting, state.RunningState())


def test_deaths_without_progress_end_the_training(watched: Watched) -> None:
    fail(watched, DIED)
    fail(watched, DIED)
    with pytest.raises(FleetError, match="keep dying"):
        fail(watched, DIED)


def test_deaths_with_progress_never_do(watched: Watched) -> None:
    for _ in range(50):
        fail(watched, DIED)
        fail(watched, DIED)
        watched.step += 1


def test_steps_done_again_are_no_progress(watched: Watched) -> None:
    fail(watched, DIED)
    watched.step = 4
    fail(watched, DIED)
    watched.step = 9
    with pytest.raises(FleetError, match="keep dying"):
        fail(watched, DIED)


@pytest.mark.parametrize("what", ["announced", "taken"])
def test_a_preemption_is_no_failure(watched: Watched, what: str) -> None:
    taken = ActorDiedError()
    taken._preempted = True
    assert isinstance(taken, RayActorError)
    failure = (
        PreemptedError("at step 7") if what == "announced" else WorkerHealthCheckFailedError("gone", taken)
    )
    for _ in range(20):
        fail(watched, DIED, failure)


def test_what_would_come_again_ends_at_once(watched: Watched) -> None:
    with pytest.raises(DataError, match="not finite"):
        fail(watched, DIED, DataError("the loss is not finite"))


def raised(kind: str, step: int | None, *, is_out_of_memory: bool = False) -> WorkerError:
    return WorkerError(kind, "no number", "Traceback of it", step, is_out_of_memory)


@pytest.mark.parametrize("step", [None, 0, 12])
def test_an_exception_at_the_same_step_ends_the_second_time(watched: Watched, step: int | None) -> None:
    fail(watched, raised("TypeError", step))
    fail(watched, DIED)
    with pytest.raises(FleetError, match="training scan: TypeError: no number") as caught:
        fail(watched, raised("TypeError", step))
    assert "Traceback of it" in str(caught.value)


def test_exceptions_at_other_steps_or_of_other_kinds_are_tried_again(watched: Watched) -> None:
    for step in range(50):
        fail(watched, raised("TypeError", step))
        fail(watched, raised("KeyError", step))
        watched.step += 1


@pytest.mark.parametrize("step", [None, 8])
def test_what_came_before_progress_is_forgotten(watched: Watched, step: int | None) -> None:
    for _ in range(5):
        fail(watched, raised("OSError", step))
        watched.step += 1


def test_an_exception_beside_a_death_may_come_of_it(watched: Watched) -> None:
    gone = WorkerHealthCheckFailedError("gone", ActorDiedError())
    fail(watched, raised("TypeError", 12), gone)
    fail(watched, gone, raised("TypeError", 12))
    with pytest.raises(FleetError, match="keep dying"):
        fail(watched, raised("TypeError", 12), gone)


def test_an_exception_that_came_through_unwrapped_counts_too(watched: Watched) -> None:
    fail(watched, ValueError("bad"))
    with pytest.raises(FleetError, match="ValueError: bad"):
        fail(watched, ValueError("bad"))


def test_the_last_failure_of_the_budget_says_its_own_name(watched: Watched) -> None:
    fail(watched, DIED)
    fail(watched, DIED)
    with pytest.raises(FleetError, match="training scan: KeyError"):
        fail(watched, raised("KeyError", 3))


def test_out_of_memory_names_the_batch(watched: Watched) -> None:
    fail(watched, raised("OutOfMemoryError", 0, is_out_of_memory=True))
    with pytest.raises(FleetError, match=r"--scan\.batch-size.*--pretext\.accumulate-steps"):
        fail(watched, raised("OutOfMemoryError", 0, is_out_of_memory=True))


def test_a_wait_ends_and_a_group_that_came_starts_it_anew(watched: Watched, clock: list[float]) -> None:
    waiting: Any = state.ReschedulingState(training_failed_error=WorkerGroupError("no node", {}))
    for _ in range(3):
        clock[0] += 59.0
        watched.after_controller_state_update(waiting, waiting)
        watched.after_controller_state_update(waiting, state.RunningState())
    clock[0] += 61.0
    with pytest.raises(FleetError, match="no machine came"):
        watched.after_controller_state_update(waiting, waiting)
    watched.after_controller_state_update(waiting, state.ShuttingDownState(next_state=waiting))


def test_the_cause_is_found_below_all_wrapping() -> None:
    inner = DataError("damaged")
    wrapped = RuntimeError("task failed")
    wrapped.cause = inner  # type: ignore[attr-defined]
    outer = RuntimeError("group failed")
    outer.__cause__ = wrapped
    assert cause_of(outer) is inner
    assert cause_of(DIED) is DIED
