"""Charts of the report as inline SVG, colored by the page's own style sheet, light or dark.

Comes from arrays, goes into `page`. Every text passes through `Markup.format`, which escapes it. No style
attributes: the page's Content-Security-Policy forbids them. One unit is about one px on a narrow phone.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

WIDTH, HEIGHT = 344.0, 176.0
LEFT, RIGHT, TOP, BOTTOM = 46.0, 10.0, 10.0, 34.0
MAX_BARS = 160
MAX_POINTS = 240
MAX_OUTLINE = 400
MAX_NAMED = 30
MIN_COUNT_CELL = 20.0

LINE = Markup('<line class="{}" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>')
TEXT = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
SLANTED = Markup('<text class="tick" x="{:.1f}" y="{:.1f}" transform="rotate(-50 {:.1f} {:.1f})">{}</text>')
BAR = Markup(
    '<rect class="bar" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{:.2f}"><title>{:,.0f}</title></rect>'
)
CELL = Markup(
    '<rect class="heat" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.3f}">'
    "<title>{}: {:,} ({:.1%})</title></rect>"
)
DOT = Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>')


@dataclass(frozen=True)
class Axes:
    """A plot area with linear scales from data to chart units."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Return the chart x of a data value."""
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the chart y of a data value; larger values are higher up."""
        return HEIGHT - BOTTOM - (value - self.y_low) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)

    def frame(self, x_label: str, *, x_ticks: Sequence[float] | None = None) -> Markup:
        """Draw grid lines, tick labels and the name of the x axis."""
        parts: list[Markup] = []
        for tick in ticks(self.y_low, self.y_high, 4):
            y = self.y(tick)
            parts += [
                LINE.format("grid", LEFT, WIDTH - RIGHT, y, y),
                text(LEFT - 6, y + 4, compact(tick), "end"),
            ]
        along = ticks(self.x_low, self.x_high, 5) if x_ticks is None else x_ticks
        parts += [text(self.x(tick), HEIGHT - BOTTOM + 15, compact(tick), "middle") for tick in along]
        parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, x_label, "middle", "axis"))
        return _join(parts)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return round numbers within low..high, about so many, in steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def compact(value: float) -> str:
    """Return a number in compact notation, as for a tick: 12k, 1.5M, 0.25."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.3g}{letter}"
    return f"{value:,.0f}" if value == round(value) else f"{value:.3g}"


def sizes(counts: Array) -> Markup:
    """Draw images per cluster, largest cluster first: bars, or one outline where there are many clusters."""
    ordered = np.sort(np.asarray(counts, np.float64))[::-1]
    axes = Axes(0, len(ordered), 0, max(float(ordered.max(initial=0)), 1.0) * 1.05)
    even = axes.y(float(ordered.mean()))
    shape = _bars(axes, ordered) if len(ordered) <= MAX_BARS else _outline(axes, ordered)
    line = LINE.format("even", LEFT, WIDTH - RIGHT, even, even)
    description = (
        f"Images per cluster: {len(ordered)} clusters of {ordered[0]:,.0f} down to {ordered[-1]:,.0f} images"
    )
    return svg(description, axes.frame("clusters, largest first (dashed: all equal)") + shape + line)


def histogram(counts: Array, low: float, high: float, x_label: str, *, mark: float | None = None) -> Markup:
    """Draw counts in equal bins over low..high, and a dashed line at a value."""
    values = np.asarray(counts, np.float64)
    axes = Axes(0, len(values), 0, max(float(values.max(initial=0)), 1.0) * 1.05)
    named = [(low + (high - low) * i / 5, len(values) * i / 5) for i in range(6)]
    labels = [text(axes.x(at), HEIGHT - BOTTOM + 15, f"{value:.2g}", "middle") for value, at in named]
    description = f"Histogram of {x_label}, {values.sum():,.0f} images"
    bars = _bars(axes, values) + _join(labels)
    if mark is not None:
        x = axes.x((mark - low) / (high - low) * len(values))
        bars += LINE.format("even", round(x, 1), round(x, 1), TOP, HEIGHT - BOTTOM)
        description += f", dashed line at {mark:.3g}"
    return svg(description, axes.frame(x_label, x_ticks=[]) + bars)


def curve(x: Array, y: Array, x_label: str, description: str) -> Markup:
    """Draw a line over x; values that are not finite are left out, long series are averaged in bins."""
    keep = np.isfinite(y) & np.isfinite(x)
    xs, ys = _thin(np.asarray(x, np.float64)[keep], np.asarray(y, np.float64)[keep])
    if not xs.size:
        return Markup('<p class="quiet">no finite values</p>')
    low, high = float(ys.min()), float(ys.max())
    margin = (high - low) * 0.06 or max(abs(high) * 0.05, 1e-3)
    right = float(xs[-1]) if xs[-1] > xs[0] else float(xs[0]) + 1.0
    axes = Axes(float(xs[0]), right, low - margin, high + margin)
    points = " ".join(
        f"{axes.x(a):.1f},{axes.y(b):.1f}" for a, b in zip(xs.tolist(), ys.tolist(), strict=True)
    )
    marks = Markup('<polyline class="line" points="{}"/>').format(points)
    marks += _dot(axes, float(xs[-1]), float(ys[-1]), "end", compact(float(ys[-1])))
    return svg(f"{description}: last value {ys[-1]:.4g}", axes.frame(x_label) + marks)


def dot_plot(values: Sequence[float], chosen: int | None, x_label: str, description: str) -> Markup:
    """Draw one dot per value in order, one of them marked: the losses of the heads."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return Markup('<p class="quiet">no finite values</p>')
    margin = (max(finite) - min(finite)) * 0.1 or max(abs(finite[0]) * 0.05, 1e-3)
    axes = Axes(-0.5, len(values) - 0.5, min(finite) - margin, max(finite) + margin)
    steps = [t for t in ticks(0, max(len(values) - 1, 1), 5) if t == round(t) and t < len(values)]
    marks = [
        _dot(axes, i, v, "chosen" if i == chosen else "other", f"{i}: {v:.4g}" + ", kept" * (i == chosen))
        for i, v in enumerate(values)
        if math.isfinite(v)
    ]
    return svg(description, axes.frame(x_label, x_ticks=steps) + _join(marks))


def heatmap(counts: Array, rows: Sequence[str], columns: Sequence[str], description: str) -> Markup:
    """Draw a table of counts [R, L] as colored cells, each row on the scale of its own sum.

    Up to 30 x 30 with names and, where they fit, counts; above that as a picture of one px per cell.

    Args:
        counts: Non-negative integers [R, L].
        rows: Name of each row.
        columns: Name of each column.
        description: Text for a screen reader.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if max(counts.shape) > MAX_NAMED:
        return _pixels(shares, description)
    left, top = 14.0 + 6 * max(len(_cut(name)) for name in rows), 74.0
    cell = min(30.0, (WIDTH - left - 2) / counts.shape[1])
    height = top + cell * counts.shape[0] + 4
    parts: list[Markup] = []
    for j, name in enumerate(columns):
        x = left + (j + 0.62) * cell
        parts.append(SLANTED.format(x, top - 6, x, top - 6, _cut(name)))
    for i, name in enumerate(rows):
        y = top + i * cell
        parts.append(text(left - 5, y + cell / 2 + 4, _cut(name), "end"))
        for j, column in enumerate(columns):
            value = (float(shares[i, j]), int(counts[i, j]))
            parts.append(_cell(left + j * cell, y, cell, value, f"{name} / {column}"))
    return svg(description, _join(parts), height=height, kind="chart heatmap")


def _cell(x: float, y: float, side: float, value: tuple[float, int], title: str) -> Markup:
    share, count = value
    opacity = 0.04 + 0.96 * share
    rect = CELL.format(x + 0.5, y + 0.5, side - 1, side - 1, opacity, title, count, share)
    if side < MIN_COUNT_CELL or not count:
        return rect
    kind = "count dark" if share > 0.5 else "count"
    return rect + text(x + side / 2, y + side / 2 + 3, compact(count), "middle", kind)


def _pixels(shares: Array, description: str) -> Markup:
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = (58, 123, 200)
    pixels[..., 3] = np.round(255 * np.sqrt(shares))  # the root keeps rare confusions visible
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img class="pixels" alt="{}" src="data:image/png;base64,{}">').format(description, data)


def _thin(x: Array, y: Array) -> tuple[Array, Array]:
    if x.size <= MAX_POINTS:
        return x, y
    bins = np.array_split(np.arange(x.size), MAX_POINTS)
    return np.array([x[b].mean() for b in bins]), np.array([y[b].mean() for b in bins])


def _bars(axes: Axes, values: Array) -> Markup:
    width = axes.x(1) - axes.x(0)
    gap = min(1.5, width * 0.15)
    base = axes.y(0)
    return _join(
        BAR.format(axes.x(i) + gap / 2, axes.y(v), width - gap, base - axes.y(v), v)
        for i, v in enumerate(values.tolist())
    )


def _outline(axes: Axes, ordered: Array) -> Markup:
    every = math.ceil(len(ordered) / MAX_OUTLINE)
    points = " ".join(
        f"L{axes.x(i):.1f} {axes.y(v):.1f}" for i, v in list(enumerate(ordered.tolist()))[::every]
    )
    base = axes.y(0)
    return Markup('<path class="bar" d="M{:.1f} {:.1f} {} L{:.1f} {:.1f} Z"/>').format(
        axes.x(0), base, points, axes.x(len(ordered)), base
    )


def _dot(axes: Axes, x: float, y: float, kind: str, title: str) -> Markup:
    return DOT.format(kind, axes.x(x), axes.y(y), 5 if kind == "chosen" else 3, title)


def text(x: float, y: float, words: str, anchor: str, kind: str = "tick") -> Markup:
    """Draw a label in a chart."""
    return TEXT.format(kind, x, y, anchor, words)


def _cut(name: str) -> str:
    return name if len(name) <= 11 else name[:10] + "."


def _join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def svg(description: str, body: Markup, *, height: float = HEIGHT, kind: str = "chart") -> Markup:
    """Return a whole chart; `description` is for a screen reader."""
    return Markup('<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}">{}</svg>').format(
        kind, description, WIDTH, height, body
    )
