"""A watchdog for workers: one that stalls writes the Python stacks of all its threads before it is given up.

A worker that waits for another shows in which collective; the one it waits for shows what it is doing, unless
it has been stopped from outside. One that holds Python's lock in foreign code cannot write by itself: the
interpreter's own watchdog then writes its stacks to the standard error stream.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OnStall = Callable[[float, str], None]
"""Told seconds without a heartbeat, and all stacks."""


class Watchdog:
    """The time of a worker's last heartbeat, and a thread that checks it."""

    def __init__(self, stall_seconds: float, on_stall: OnStall) -> None:
        """Begin to watch.

        Args:
            stall_seconds: Without a heartbeat, after which the worker counts as stalled.
            on_stall: Told once per stall, in the thread.
        """
        self.stall_seconds = stall_seconds
        self.step: int | None = None
        self._on_stall = on_stall
        self._last = time.monotonic()
        self._is_over = threading.Event()
        self._arm()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="watchdog")
        self._thread.start()

    def beat(self) -> None:
        """Note a heartbeat."""
        self._last = time.monotonic()

    def close(self) -> None:
        """End the watch."""
        self._is_over.set()
        self._thread.join(timeout=self.stall_seconds)
        faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        """Set the interpreter's watchdog, which fires unless the thread comes back to set it anew."""
        faulthandler.dump_traceback_later(self.stall_seconds, file=sys.__stderr__ or sys.stderr)

    def _watch(self) -> None:
        told = -1.0
        while not self._is_over.wait(min(1.0, self.stall_seconds / 10)):
            self._arm()
            last = self._last
            waited = time.monotonic() - last
            if waited >= self.stall_seconds and told != last:
                told = last
                self._on_stall(waited, stacks())


_current: Watchdog | None = None


def heartbeat(step: int | None = None) -> None:
    """Say that this process is getting on; without effect where no watchdog runs.

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
def watching(stall_seconds: float, on_stall: OnStall) -> Iterator[None]:
    """Run a watchdog inside the block; see `Watchdog`."""
    global _current
    _current = Watchdog(stall_seconds, on_stall)
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
