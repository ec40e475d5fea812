"""How far a stage is: a bar on a terminal, one plain line every 30 s elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

from rayscan.console.units import duration

LINE_SECONDS = 30.0
BAR_SECONDS = 0.2
BAR_WIDTH = 24


class Progress:
    """The progress of one stage after the other, written to a stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`, standard error if not given."""
        self.stream = stream if stream is not None else sys.stderr
        self.is_terminal = self.stream.isatty()
        self._lock = threading.Lock()
        self._label, self._unit = "", "items"
        self._total = self._done = self._base = 0
        self._began = self._moved = self._shown = time.monotonic()
        self._facts: dict[str, object] = {}

    def say(self, text: str) -> None:
        """Write one line."""
        with self._lock:
            self._erase()
            self.stream.write(text + "\n")
            self.stream.flush()

    def start(self, label: str, total: int, unit: str = "items") -> None:
        """Begin a stage of `total` units; 0 if nobody knows how many there will be."""
        self._label, self._total, self._unit = label, total, unit
        self._done = self._base = 0
        self._began = self._moved = time.monotonic()
        self._shown = self._began if not self.is_terminal else 0.0
        self._facts = {}

    def advance(self, n: int = 1, **facts: object) -> None:
        """Count `n` more units as done."""
        self.at(self._done + n, None, **facts)

    def at(self, done: int, total: int | None = None, **facts: object) -> None:
        """Set the number of units that are done; facts are shown beside it."""
        now = time.monotonic()
        if total is not None and self._done == 0:
            # Start-up, and what a resumed training finds done, say nothing about its speed.
            self._total, self._base, self._moved = total, done, now
        self._done = done
        self._facts.update(facts)
        if now - self._shown >= (BAR_SECONDS if self.is_terminal else LINE_SECONDS):
            self._shown = now
            self._show(now)

    def finish(self, summary: str = "") -> None:
        """End the stage with one line that says what it took."""
        seconds = time.monotonic() - self._began
        text = summary or f"{self._done:,} {self._unit}"
        self.say(f"  {self._label}: {text} in {duration(seconds)}{self._summary(seconds)}")

    def clear(self) -> None:
        """Remove the bar: nothing is under way."""
        with self._lock:
            self._erase()
            self.stream.flush()

    def _summary(self, seconds: float) -> str:
        """Return speed, workers and restarts of a stage that is over, where they are known."""
        parts = []
        if self._unit == "images" and self._done > self._base:
            parts.append(f"{(self._done - self._base) / max(seconds, 1e-6):,.4g} images/s")
        elif isinstance(rate := self._facts.get("images_per_second"), float):
            parts.append(f"{rate:,.4g} images/s")
        parts += [f"{self._facts[n]} {n}" for n in ("workers", "restarts") if self._facts.get(n)]
        return "".join(f", {text}" for text in parts)

    def _show(self, now: float) -> None:
        since = self._done - self._base
        rate = since / max(now - self._moved, 1e-6)
        facts = "".join(_fact_text(name, value) for name, value in self._facts.items())
        speed = f", {rate:,.4g}/s" if since else ""
        if self._total:
            left = duration((self._total - self._done) / rate) if since else "?"
            text = f"{self._done:,}/{self._total:,} {self._unit}{speed}, {left} left{facts}"
        else:
            text = f"{self._done:,} {self._unit}{speed}{facts}"
        with self._lock:
            if self.is_terminal:
                self.stream.write(f"\r\x1b[K  {self._label} {self._bar()}{text}"[:200])
            else:
                self.stream.write(f"  {self._label}: {text}\n")
            self.stream.flush()

    def _bar(self) -> str:
        if not self._total:
            return ""
        full = round(BAR_WIDTH * min(1.0, self._done / self._total))
        return f"[{'#' * full}{'.' * (BAR_WIDTH - full)}] "

    def _erase(self) -> None:
        if self.is_terminal:
            self.stream.write("\r\x1b[K")


def _fact_text(name: str, value: object) -> str:
    """Return a fact as it stands beside the progress."""
    if name == "images_per_second":
        return f", {value:,.4g} images/s"
    return f", {name} {value:.4g}" if isinstance(value, float) else f", {name} {value}"
