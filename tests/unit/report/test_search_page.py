"""The page of a search: what it shows is what it was given, and nothing foreign becomes markup."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser

import pytest

from rayscan.report.figures import LEFT, RIGHT, WIDTH
from rayscan.report.scatter import Scale, scatter
from rayscan.report.search import Dimension, Row, SearchContent, render

HOSTILE = '<img src=x onerror="alert(1)">&'


def row(status: str, weight: float, score: float | None, *, is_chosen: bool = False) -> Row:
    return Row(
        status=status,
        reason="why not" * (status != "finished"),
        values={"scan.entropy_weight": weight, "k": HOSTILE},
        texts={"scan.entropy_weight": f"{weight:g}", "k": HOSTILE},
        score=score,
        nmi_nn=score,
        cv_mi=score,
        balance=0.5,
        seconds=1.5,
        is_chosen=is_chosen,
    )


def content(rows: list[Row]) -> SearchContent:
    return SearchContent(
        recipe=HOSTILE,
        num_clusters=10,
        num_images=1498,
        seed=0,
        from_images=False,
        dimensions=[
            Dimension("scan.entropy_weight", 1, 20, True),
            Dimension("k", 0, 0, False, (HOSTILE, "other")),
        ],
        rows=rows,
        finalists=[(HOSTILE, 0.75, [0.8, None, 0.7], 0.66)],
    )


ROWS = [
    row("finished", 2, 0.6),
    row("rejected", 1, 0.1),
    row("finished", 5, 0.8, is_chosen=True),
    row("stopped", 20, None),
    row("failed", 3, None),
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(page)
    return parser.tags


def test_policy_admits_our_style_and_nothing_else() -> None:
    page = render(content(ROWS))
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(a["content"] for t, a in tags(page) if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script-src" not in policy
    names = [name for name, _ in tags(page)]
    assert names.count("style") == 1
    assert "script" not in names
    assert not [a for _, a in tags(page) if "style" in a or any(k.startswith("on") for k in a)]
    addresses = [a[k] for _, a in tags(page) for k in ("src", "href") if k in a]
    assert all(v is not None and v.startswith(("#", "data:")) for v in addresses)


def test_foreign_text_stays_text() -> None:
    page = render(content(ROWS))
    assert HOSTILE not in page
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;&amp;" in page
    assert "img" not in [name for name, _ in tags(page)]


def test_every_scored_trial_is_a_dot_in_every_chart() -> None:
    dots = [a["class"] for name, a in tags(render(content(ROWS))) if name == "circle"]
    assert dots.count("dot chosen") == dots.count("dot rejected") == dots.count("dot other") == 3
    page = render(content(ROWS))
    assert "5 trials on 1,498 images" in page
    assert '<data id="chosen-score" value="0.75">0.7500</data>' in page
    assert "1 stopped early, 1 failed" in page
    assert page.index("0.8000") < page.index("0.6000")  # best first


def test_a_search_without_a_result_is_a_page_too() -> None:
    none = SearchContent(**{**vars(content([row("failed", 2, None)])), "finalists": []})
    assert "no trial with a score" in render(none)


@pytest.mark.parametrize(
    ("scale", "x", "share"),
    [
        (Scale(1, 100, is_log=True), 10.0, 0.5),
        (Scale(0, 4), 1.0, (0.25 * 4 + 0.03 * 4) / (1.06 * 4)),
        (Scale(0, 0, names=("a", "b", "c")), 1.0, 0.5),
    ],
)
def test_dots_lie_where_their_value_is(scale: Scale, x: float, share: float) -> None:
    page = str(scatter([(x, 0.5, "other", "t")], scale, "x", "says"))
    at = float(re.search(r'cx="([\d.]+)"', page)[1])  # type: ignore[index]
    assert at == pytest.approx(LEFT + share * (WIDTH - LEFT - RIGHT), abs=0.06)


def test_marks_of_a_logarithmic_axis() -> None:
    marks = Scale(1, 20, is_log=True).tick_labels()
    assert [name for _, name in marks] == ["1", "2", "5", "10", "20"]
    assert [at for at, _ in marks] == pytest.approx([math.log10(v) for v in (1, 2, 5, 10, 20)])
    assert [name for _, name in Scale(1e-5, 1e-1, is_log=True).tick_labels()] == [
        "1e-05",
        "0.0001",
        "0.001",
        "0.01",
        "0.1",
    ]
