"""Scatter plots over a linear, logarithmic or categorical axis. As `figures`: SVG, escaped, unstyled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rayscan.report.figures import BOTTOM, DOT, HEIGHT, Axes, compact, svg, text, ticks

Point = tuple[float, float, str, str]
"""x, y, class of the dot, title."""


@dataclass(frozen=True)
class Scale:
    """The x axis."""

    low: float
    high: float
    is_log: bool = False
    names: Sequence[str] | None = None
    """Categories at 0, 1, 2 ... instead of numbers."""

    def transform(self, x: float) -> float:
        """Return where a value lies on the linear axis."""
        return math.log10(x) if self.is_log else x

    def limits(self) -> tuple[float, float]:
        """Return the left and right end of the linear axis, with a margin."""
        low, high = (
            (0.0, len(self.names) - 1.0)
            if self.names
            else (self.transform(self.low), self.transform(self.high))
        )
        room = 0.5 if self.names else (high - low) * 0.03
        return low - room, high + room

    def tick_labels(self) -> list[tuple[float, str]]:
        """Return tick labels, with their places on the linear axis."""
        if self.names:
            return [(float(i), name) for i, name in enumerate(self.names)]
        if not self.is_log:
            return [(t, compact(t)) for t in ticks(self.low, self.high, 5)]
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        wide = math.log10(self.high / self.low) > 3
        round_ones = [m * 10.0**p for p in powers for m in ((1,) if wide else (1, 2, 5))]
        return [
            (self.transform(v), compact(v)) for v in round_ones if self.low <= v <= self.high * (1 + 1e-9)
        ]


def scatter(points: Sequence[Point], scale: Scale, x_label: str, description: str) -> Markup:
    """Draw a dot for each point, marked ones on top."""
    if not points:
        return Markup('<p class="quiet">no trial with a score</p>')
    heights = [y for _, y, _, _ in points]
    margin = (max(heights) - min(heights)) * 0.08 or max(abs(heights[0]) * 0.05, 1e-3)
    axes = Axes(*scale.limits(), min(heights) - margin, max(heights) + margin)
    body = axes.frame(x_label, x_ticks=[])
    for at, name in scale.tick_labels():
        body += text(axes.x(at), HEIGHT - BOTTOM + 15, name, "middle")
    for x, y, kind, title in sorted(points, key=lambda p: p[2] == "chosen"):
        body += DOT.format(kind, axes.x(scale.transform(x)), axes.y(y), 5 if kind == "chosen" else 3, title)
    return svg(description, body)
