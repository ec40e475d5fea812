"""The page of a search: score against each setting, the finalists, every trial. Pure: values in, HTML out.

The same walls as `page`: Jinja2 escapes everything, and the Content-Security-Policy admits one style sheet by
its sha256 and nothing else; there is no script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rayscan.report.page import filled
from rayscan.report.scatter import Scale, scatter

MAX_LISTED = 500


@dataclass(frozen=True)
class Dimension:
    """One setting that varied."""

    path: str
    low: float
    high: float
    is_log: bool
    names: tuple[str, ...] | None = None
    """Choices in order; None for a range."""


@dataclass(frozen=True)
class Row:
    """One trial."""

    status: str
    """finished, rejected, stopped, failed."""
    reason: str
    values: Mapping[str, Any]
    texts: Mapping[str, str]
    """The values as shown."""
    score: float | None
    nmi_nn: float | None
    cv_mi: float | None
    balance: float | None
    seconds: float | None
    is_chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class SearchContent:
    """A whole page."""

    recipe: str
    num_clusters: int
    num_images: int
    seed: int
    from_images: bool
    dimensions: Sequence[Dimension]
    rows: Sequence[Row]
    """In the order they ended."""
    finalists: Sequence[tuple[str, float, Sequence[float | None], float | None]]
    """Settings, mean score, score of each seed, agreement of the seeds; best first."""
    vote: tuple[float, str] | None = None
    """Score of the vote of the better quarter, and the vote in words; None without one."""


def render(content: SearchContent) -> str:
    """Return the page: a whole HTML document."""
    ranked = sorted(content.rows, key=lambda r: (r.status != "finished", r.score is None, -(r.score or 0.0)))
    return filled(
        "search.html",
        c=content,
        best=next((r for r in ranked if r.status == "finished"), None),
        counts=Counter(r.status for r in content.rows),
        charts=[(d.path, _chart(content, d)) for d in content.dimensions],
        progress=_progress(content),
        ranked=ranked[:MAX_LISTED],
    )


def _chart(content: SearchContent, dimension: Dimension) -> Markup:
    """Draw the score over one setting; rejected trials hollow, the chosen one marked."""
    places = {name: float(i) for i, name in enumerate(dimension.names or ())}
    points = []
    for row in content.rows:
        if row.score is None:
            continue
        text = row.texts[dimension.path]
        x = places[text] if dimension.names else float(row.values[dimension.path])
        kind = "chosen" if row.is_chosen else "rejected" if row.status == "rejected" else "other"
        points.append(
            (x, row.score, kind, f"{text}: {row.score:.4f}" + f", {row.status}" * (kind == "rejected"))
        )
    scale = Scale(dimension.low, dimension.high, dimension.is_log, dimension.names)
    return scatter(points, scale, dimension.path, f"Score against {dimension.path}, {len(points)} trials")


def _progress(content: SearchContent) -> Markup:
    """Draw the score in the order the trials ended."""
    points = [
        (
            float(i),
            r.score,
            "chosen" if r.is_chosen else "rejected" if r.status == "rejected" else "other",
            f"{i}: {r.score:.4f}",
        )
        for i, r in enumerate(content.rows, 1)
        if r.score is not None
    ]
    scale = Scale(0.0, float(max(len(content.rows), 1)), False, None)
    return scatter(points, scale, "trial", f"Score of {len(points)} trials in the order they ended")
