"""What a worker's code raised, as text that survives the way to the driver.

Between processes an exception loses its traceback, and one that cannot be pickled is lost itself.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from rayscan.engine import watchdog
from rayscan.engine.preemption import PreemptedError
from rayscan.errors import FleetError, RayscanError

S = TypeVar("S")
W = TypeVar("W")

LONGEST_TRACE = 8000
"""Characters of a traceback that are kept: its end, where the exception was raised."""


class WorkerError(Exception):
    """An exception of a worker that is neither one of the four errors nor the death of another worker."""

    def __init__(self, kind: str, message: str, trace: str, step: int | None, is_out_of_memory: bool) -> None:
        """Keep what is known.

        Args:
            kind: Type of the exception.
            message: Its message.
            trace: Its traceback, from the function of the training down; empty if it was lost.
            step: Step the worker was at; None before the first one.
            is_out_of_memory: Whether the memory of a GPU did not suffice.
        """
        super().__init__(kind, message, trace, step, is_out_of_memory)  # it is pickled by its arguments
        self.kind = kind
        self.message = message
        self.trace = trace
        self.step = step
        self.is_out_of_memory = is_out_of_memory

    @property
    def identity(self) -> tuple[str, int | None]:
        """Type and step; messages may hold numbers that differ from time to time."""
        return self.kind, self.step

    def ended(self, training: str, rank: int, *, times: int) -> FleetError:
        """The error that a training ends with because of this one.

        Args:
            training: Name of the stage.
            rank: Worker that raised it.
            times: How often it came at this step.
        """
        at = "before the first step" if self.step is None else f"at step {self.step}"
        again = ", every time it was tried" if times > 1 else ""
        memory = (
            f"lower --{training}.batch-size; in the pretext stage --pretext.accumulate-steps keeps "
            "--pretext.batch-size and takes it through the GPU in parts"
        )
        return FleetError(
            f"training {training}: {self.kind}: {self.message}".strip(),
            got=self.trace.strip() or None,
            where=f"worker {rank}, {at}{again}",
            fix=memory
            if self.is_out_of_memory
            else "correct the cause; the same command then goes on from the last checkpoint",
        )


def call(fn: Callable[[S, W], dict[str, Any]], settings: S, worker: W) -> dict[str, Any]:
    """Call the function of a training in its worker.

    Raises:
        WorkerError: what it raised, unless that is one of the four errors, a preemption, or says that another
            worker is gone.
    """
    try:
        return fn(settings, worker)
    except (RayscanError, PreemptedError):
        raise
    except Exception as error:
        from rayscan import comms  # not above: Ray Train's controller needs this module, and no torch

        if comms.is_peer_failure(error):
            raise
        raise of(error, watchdog.current_step()) from error


def of(error: Exception, step: int | None) -> WorkerError:
    """The exception as text; its traceback begins below the frame that caught it."""
    import torch

    frames = error.__traceback__ and error.__traceback__.tb_next
    trace = "".join(traceback.format_exception(type(error), error, frames)) if frames else ""
    text = str(error)
    is_out = isinstance(error, torch.OutOfMemoryError) or "CUDA error: out of memory" in text
    return WorkerError(type(error).__name__, text[-2000:], trace[-LONGEST_TRACE:], step, is_out)
