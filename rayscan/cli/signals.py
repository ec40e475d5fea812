"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it started is ended, how to resume is said."""

from __future__ import annotations

import signal
import threading
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)
"""What schedulers, containers and closed terminals send."""


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end."""

    def __init__(self, number: int) -> None:
        """Remember which one."""
        super().__init__(f"signal {number}")
        self.number = number


def end_as_interrupted() -> None:
    """Raise `Stopped` at the first signal of `ENDING`; one that is ignored, as by nohup, stays so."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    for other in ENDING:  # a second one must not break into the clean-up
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def exit_status(error: BaseException) -> int:
    """128 and the signal's number, as a shell says it; an interrupt without one is Ctrl-C."""
    return 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
