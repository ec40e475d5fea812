"""Charts say what the arrays say: positions derived from the scales, names kept harmless."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from rayscan.report import figures
from rayscan.report.figures import HEIGHT, LEFT, RIGHT, TOP, WIDTH

HOSTILE = '"><script>alert(1)</script>'


def parts(svg: str, tag: str, kind: str) -> list[ElementTree.Element]:
    return [e for e in ElementTree.fromstring(svg).iter(tag) if e.get("class", "").split()[:1] == [kind]]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1234), (-1.37, -1.21), (3e6, 9e6), (-5, 5)])
def test_ticks_are_round_inside_and_evenly_spaced(low: float, high: float) -> None:
    found = figures.ticks(low, high, 5)
    assert 2 <= len(found) <= 11
    assert low <= found[0] <= found[-1] <= high
    steps = np.diff(found)
    assert np.allclose(steps, steps[0])
    assert re.fullmatch(r"[125](\.0+)?e[+-]\d+", f"{steps[0]:.6e}")


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_000, "12k"), (1_500_000, "1.5M"), (0.25, "0.25"), (999, "999"), (2_000, "2,000"), (-3, "-3")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert figures.compact(value) == text


def test_size_bars_are_proportional_and_fall() -> None:
    svg = figures.sizes(np.array([10, 40, 20, 0]))
    heights = [float(bar.get("height", "")) for bar in parts(svg, "rect", "bar")]
    assert np.allclose(heights, heights[0] * np.array([1, 0.5, 0.25, 0]), atol=0.02)
    axis_y = HEIGHT - figures.BOTTOM
    (even,) = parts(svg, "line", "even")  # the mean size, 17.5
    assert (axis_y - float(even.get("y1", ""))) == pytest.approx(heights[0] * 17.5 / 40, abs=0.1)


def test_a_thousand_clusters_are_one_outline() -> None:
    svg = figures.sizes(np.arange(1000))
    assert not parts(svg, "rect", "bar")
    (outline,) = parts(svg, "path", "bar")
    heights = [float(y) for y in re.findall(r"L[\d.]+ ([\d.]+)", outline.get("d", ""))]
    assert heights == sorted(heights)  # falls from the top left
    assert (HEIGHT - figures.BOTTOM - heights[0]) == pytest.approx(
        (HEIGHT - TOP - figures.BOTTOM) / 1.05, abs=0.1
    )
    assert len(heights) <= figures.MAX_OUTLINE + 1


def test_histogram_bars_are_proportional() -> None:
    svg = figures.histogram(np.array([0, 5, 10, 5]), 0, 1, "confidence")
    heights = [float(bar.get("height", "")) for bar in parts(svg, "rect", "bar")]
    assert np.allclose(heights, heights[2] * np.array([0, 0.5, 1, 0.5]), atol=0.02)
    assert "20 images" in svg


def test_curve_runs_from_left_to_right_and_skips_what_is_not_finite() -> None:
    x = np.array([0.0, 1.0, 2.0, 4.0])
    svg = figures.curve(x, np.array([8.0, np.nan, 4.0, 2.0]), "epoch", "loss")
    (line,) = parts(svg, "polyline", "line")
    points = np.array([[float(v) for v in p.split(",")] for p in line.get("points", "").split()])
    assert np.allclose(points[:, 0], LEFT + np.array([0, 2, 4]) / 4 * (WIDTH - LEFT - RIGHT), atol=0.06)
    assert points[0, 1] < points[1, 1] < points[2, 1]  # a falling loss falls on the screen
    assert points[0, 1] > TOP
    ratio = (points[1, 1] - points[0, 1]) / (points[2, 1] - points[0, 1])
    assert ratio == pytest.approx((8 - 4) / (8 - 2), abs=0.01)
    assert "no finite" in figures.curve(x, np.full(4, np.nan), "epoch", "loss")


def test_long_series_are_averaged_not_sampled() -> None:
    y = np.tile([0.0, 2.0], 5_000)
    (line,) = parts(figures.curve(np.arange(10_000.0), y, "epoch", "loss"), "polyline", "line")
    heights = {point.split(",")[1] for point in line.get("points", "").split()}
    assert len(line.get("points", "").split()) <= figures.MAX_POINTS
    assert len(heights) <= 3  # bins of equal mean, but for an odd one


def test_the_kept_head_is_marked() -> None:
    svg = figures.dot_plot([3.0, 1.0, 2.0], 1, "head", "losses")
    kinds = [dot.get("class") for dot in parts(svg, "circle", "dot")]
    assert kinds == ["dot other", "dot chosen", "dot other"]
    lowest = max(parts(svg, "circle", "dot"), key=lambda dot: float(dot.get("cy", "")))
    assert lowest.get("class") == "dot chosen"


def test_heatmap_shades_by_row_share_and_names_cells() -> None:
    svg = figures.heatmap(np.array([[3, 1], [0, 0]]), ["0", "1"], ["cat", "dog"], "table")
    cells = parts(svg, "rect", "heat")
    shades = [float(cell.get("fill-opacity", "")) for cell in cells]
    assert np.allclose(shades, 0.04 + 0.96 * np.array([0.75, 0.25, 0, 0]), atol=1e-3)
    assert [cell.find("title").text for cell in cells][:2] == ["0 / cat: 3 (75.0%)", "0 / dog: 1 (25.0%)"]  # type: ignore[union-attr]


def test_a_large_heatmap_is_a_picture_of_one_px_per_cell() -> None:
    import base64
    import io

    from PIL import Image

    counts = np.zeros((50, 40), np.int64)
    counts[7, 9] = 4
    image = figures.heatmap(counts, ["r"] * 50, ["c"] * 40, HOSTILE)
    data = re.search(r'base64,([^"]+)"', image)
    assert data is not None
    alpha = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))))[..., 3]
    assert alpha.shape == (50, 40)
    assert np.argwhere(alpha).tolist() == [[7, 9]]
    assert "<script" not in image


def test_names_cannot_become_markup() -> None:
    short = HOSTILE[:11]
    for svg in (
        figures.heatmap(np.ones((1, 1), np.int64), [short], [short], HOSTILE),
        figures.curve(np.arange(3.0), np.arange(3.0), HOSTILE, HOSTILE),
        figures.histogram(np.ones(3), 0, 1, HOSTILE),
        figures.dot_plot([1.0, 2.0], 0, HOSTILE, HOSTILE),
    ):
        tags = {element.tag for element in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "rect", "text", "title", "line", "polyline", "circle"}
        assert "style=" not in svg
