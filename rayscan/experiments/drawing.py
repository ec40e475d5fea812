"""A figure as a standalone SVG: lines with error bars over x, or horizontal bars. No library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLORS = ("#0b6e99", "#b85c00", "#4b7f3a", "#7d4a8d", "#8a2c2c")
WIDTH, LEFT, RIGHT = 560.0, 60.0, 20.0


@dataclass(frozen=True)
class Point:
    """One row: mean and deviation."""

    name: str
    series: str
    x: float | None
    mean: float
    std: float


def draw(title: str, points: Sequence[Point], x_label: str, y_label: str) -> str:
    """The figure of some rows; lines where every row has an x."""
    is_line = bool(points) and all(p.x is not None for p in points) and bool(x_label)
    height, body = _lines(points, x_label, y_label) if is_line else _bars(points, y_label)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        'font-family="sans-serif" font-size="12">'
        f'<title>{escape(title)}</title><rect width="100%" height="100%" fill="#fff"/>'
        f"{_text(WIDTH / 2, 18, title, 'middle', size=14)}{body}</svg>\n"
    )


def _bars(points: Sequence[Point], label: str) -> tuple[float, str]:
    left, step = 300.0, 26.0
    height = 50 + step * max(1, len(points))
    most = max((p.mean + p.std for p in points), default=1.0) or 1.0
    scale = (WIDTH - left - 60) / most
    parts = [_text(left, height - 6, label)]
    for number, p in enumerate(points):
        y = 32 + step * number
        end = left + scale * max(0.0, p.mean)
        parts.append(_text(left - 8, y + 13, p.name[:44], "end"))
        parts.append(
            f'<rect x="{left:g}" y="{y:g}" width="{end - left:.1f}" height="18" fill="{COLORS[0]}"/>'
        )
        low, high = end - scale * p.std, end + scale * p.std
        parts.append(_line(low, y + 9, high, y + 9, "#222"))
        parts.append(_text(high + 5, y + 13, f"{p.mean:.1f}"))
    return height, "".join(parts)


def _lines(points: Sequence[Point], x_label: str, y_label: str) -> tuple[float, str]:
    height, top, bottom = 340.0, 34.0, 60.0
    xs = [p.x or 0.0 for p in points]
    low, high = min(p.mean - p.std for p in points), max(p.mean + p.std for p in points)
    pad = 0.08 * (high - low) or 1.0
    low, high = low - pad, high + pad
    span = (max(xs) - min(xs)) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - min(xs)) / span * (WIDTH - LEFT - RIGHT)
        return across, height - bottom - (y - low) / (high - low) * (height - top - bottom)

    parts = [
        _line(LEFT, height - bottom, WIDTH - RIGHT, height - bottom, "#222"),
        _line(LEFT, top, LEFT, height - bottom, "#222"),
        _text((LEFT + WIDTH - RIGHT) / 2, height - bottom + 32, x_label, "middle"),
        _text(LEFT, top - 4, y_label),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        value = low + share * (high - low)
        parts.append(_text(LEFT - 6, place(min(xs), value)[1] + 4, f"{value:.4g}", "end"))
    parts += [_text(place(x, low)[0], height - bottom + 16, f"{x:g}", "middle") for x in sorted(set(xs))]
    names = list(dict.fromkeys(p.series for p in points))
    for number, name in enumerate(names):
        color = COLORS[number % len(COLORS)]
        mine = sorted((p for p in points if p.series == name), key=lambda p: p.x or 0.0)
        path = " ".join("{:.1f},{:.1f}".format(*place(p.x or 0.0, p.mean)) for p in mine)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        for p in mine:
            x, y = place(p.x or 0.0, p.mean)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>')
            parts.append(_line(x, place(0, p.mean - p.std)[1], x, place(0, p.mean + p.std)[1], color))
        parts.append(_text(LEFT + 10 + 150 * number, height - 8, name, fill=color))
    return height, "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", *, size: int = 12, fill: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
