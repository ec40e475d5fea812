"""The page of `rayscan howmany`: the numbers, two curves, pictures at some candidates.

Pure: values in, HTML out. The walls are those of `search`: everything escaped, one style sheet, no script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from rayscan.report.page import filled
from rayscan.report.scatter import Scale, scatter

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Group:
    """A cluster of a candidate."""

    size: int
    gids: Sequence[int]
    """Typical images, the most typical first."""


@dataclass(frozen=True)
class Candidate:
    """Clusters at one number of them."""

    num_clusters: int
    groups: Sequence[Group]
    """Those shown, the largest first."""


@dataclass(frozen=True, kw_only=True)
class HowManyContent:
    """A whole page."""

    recipe: str
    num_images: int
    suggested: int
    low: int
    high: int
    caution: str
    table: Sequence[tuple[str, int]]
    """Estimators and their numbers."""
    curve: Curve
    """(K, coding length in nats an image)."""
    modularity: Curve
    candidates: Sequence[Candidate]
    pictures: Mapping[int, str]
    """gid -> data URL."""
    notes: Sequence[str] = ()


def render(content: HowManyContent) -> str:
    """Return the page: a whole HTML document."""
    return filled(
        "howmany.html",
        c=content,
        charts=[
            ("coding length, nats an image: low is good", _chart(content.curve, "Coding length", min)),
            ("modularity: high is good", _chart(content.modularity, "Modularity", max)),
        ],
    )


def _chart(curve: Curve, name: str, best: Callable[[Iterable[float]], float]) -> Markup:
    """Draw a value over the number of clusters, the best one marked."""
    chosen = best(value for _, value in curve)
    points = [
        (float(k), value, "chosen" if value == chosen else "other", f"{k} clusters: {value:.5g}")
        for k, value in curve
    ]
    scale = Scale(1.0, float(max(2, *(k for k, _ in curve))), is_log=True)
    return scatter(points, scale, "clusters", f"{name} over the number of clusters")
