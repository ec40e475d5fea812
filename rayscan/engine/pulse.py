"""A worker that stands still says where: the Python stacks of all its threads, before it is given up.

A worker that waits for another shows in which collective; the one it waits for shows what it is doing, unless
it has been stopped from outside. One that holds Python's lock in foreign code cannot write by itself: the
system's own watchdog then writes its stacks to the standard error stream.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[float, str], None]


class Pulse:
    """The time of a worker's last step, and a thread that looks at it."""

    def __init__(self, seconds: float, tell: Tell) -> None:
        """Begin to look.

        Args:
            seconds: Without a step, after which the worker is said to stand still.
            tell: Told once per standstill, in the thread: seconds without a step, and all stacks.
        """
        self.seconds = seconds
        self._tell = tell
        self.step: int | None = None
        self._last = time.monotonic()
        self._is_over = threading.Event()
        self._arm()
        self._thread = threading.Thread(target=self._look, daemon=True, name="pulse")
        self._thread.start()

    def beat(self) -> None:
        """A step was taken."""
        self._last = time.monotonic()

    def close(self) -> None:
        """The work is over."""
        self._is_over.set()
        self._thread.join(timeout=self.seconds)
        faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        """Set the system's watchdog, which fires only if the thread does not come back to set it anew."""
        faulthandler.dump_traceback_later(self.seconds, file=sys.__stderr__ or sys.stderr)

    def _look(self) -> None:
        told = -1.0
        while not self._is_over.wait(min(1.0, self.seconds / 10)):
            self._arm()
            last = self._last
            waited = time.monotonic() - last
            if waited >= self.seconds and told != last:
                told = last
                self._tell(waited, stacks())


_current: Pulse | None = None


def beat(step: int | None = None) -> None:
    """A step was taken; nothing happens where nobody looks.

    Args:
        step: Number of the step that begins now, if it is one of a training.
    """
    if _current is not None:
        _current.step = _current.step if step is None else step
        _current.beat()


def current_step() -> int | None:
    """Step this process is at; None before the first one."""
    return None if _current is None else _current.step


@contextmanager
def watched(seconds: float, tell: Tell) -> Iterator[None]:
    """Inside, this process tells when it stands still."""
    global _current
    _current = Pulse(seconds, tell)
    try:
        yield
    finally:
        _current.close()
        _current = None


def stacks() -> str:
    """Python stacks of all threads of this process but the one that asks, the main thread first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    frames = sorted(sys._current_frames().items(), key=lambda item: (item[0] != main, item[0]))
    return "\n".join(
        f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in frames
        if ident != threading.get_ident()
    )
