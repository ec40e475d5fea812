"""Whether a report page with foreign names holds anything a page with harmless names does not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser

import numpy as np

from rayscan.recipes import by_name
from rayscan.report.content import Cluster, Content, Picture, Quarantined
from rayscan.report.page import render
from rayscan.run import recipe_to_json


class _Elements(HTMLParser):
    """Counts elements and event handlers as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element, its handlers and its script addresses."""
        self.seen[f"<{tag}>"] += 1
        for name, value in attrs:
            if name.startswith("on") or (value or "").strip().lower().startswith("javascript:"):
                self.seen[f"{tag} {name}"] += 1


def strangers(names: Sequence[str]) -> str:
    """What a page has too much, in words; empty if nothing."""
    extra = _elements(names) - _elements([f"photos/{n}.jpg" for n in range(len(names))])
    return ", ".join(f"{count} more {what}" for what, count in extra.items())


def _elements(names: Sequence[str]) -> Counter[str]:
    pictures = {gid: Picture(name, 0, 0.9, 0.5) for gid, name in enumerate(names)}
    content = Content(
        recipe=json.loads(recipe_to_json(by_name("digits"))),
        images={"train": len(names)},
        clusters=[Cluster(0, names[0] if names else "", len(names), 0.9, list(pictures), list(pictures))],
        label_free={"used_clusters": 1, "balance": 1.0, "largest_share": 1.0},
        confidences=np.ones(10, np.int64),
        pictures=pictures,
        quarantined=[Quarantined(name, name) for name in names],
        num_quarantined=len(names),
        facts=[(name, name) for name in names],
        notes=list(names),
    )
    parser = _Elements()
    parser.feed(render(content))
    return parser.seen
