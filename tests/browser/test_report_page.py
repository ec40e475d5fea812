"""The report in a real browser: it works, it says what scores.json says, and hostile names do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayscan.config import ReportConfig
from rayscan.stages import evaluate, report
from tests.browser.chromium import Tab, browser, new_tab, settled
from tests.unit.report.digits_run import DigitsRun

HOSTILE = {
    gid: name
    for gid, name in enumerate(
        (
            "<img src=x onerror=alert(1)>.png",
            "</script><script>alert(2)</script>.png",
            "<!--<script>alert(3)//.png",
            "javascript:alert(4)",
            "'\"><svg onload=alert(5)>.png",
            "a-very-long-name-without-any-break-" * 12 + ".png",
        )
        * 20
    )
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> DigitsRun:
    return finished(DigitsRun(tmp_path_factory.mktemp("ten"), names=HOSTILE, bad=3))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> DigitsRun:
    settings = ReportConfig(max_megabytes=1.0)
    return finished(
        DigitsRun(tmp_path_factory.mktemp("k"), num_images=4000, num_clusters=1000, report=settings)
    )


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with browser() as port:
        yield port


def finished(run: DigitsRun) -> DigitsRun:
    run.add_labels()
    for stage in (evaluate, report):
        step = stage.plan(run.recipe, run.done, run.context.sources)
        run.done[stage.NAME] = stage.run(run.recipe, run.done, step, run.context)
    (run.folder / "index.html").write_bytes(run.done["report"].read("index.html"))
    return run


def visit(
    port: int, run: DigitsRun, on_page: Callable[[Tab], Awaitable[Any]], *, anchor: str = "", **view: Any
) -> Any:
    """Open the page, on_page at it, and hold it to what is true of every visit."""

    async def visited() -> Any:
        async with new_tab(port) as tab:
            page = run.folder / "index.html"
            await tab.open(page, **view)
            if anchor:
                await tab.value(f"location.hash = '{anchor}'")
            seen = await on_page(tab)
            assert tab.complaints == []
            assert tab.requests == [page.as_uri()]
            return seen

    return asyncio.run(visited())


def test_numbers_on_the_page_are_those_of_scores_json(port: int, run: DigitsRun) -> None:
    scores = run.done["evaluate"].read_json("scores.json")
    evaluated = scores["splits"]["eval"]["methods"]
    cell = "c => [c.innerText, c.firstElementChild.value]"
    row = f"r => [r.cells[0].innerText, ...[...r.cells].slice(1).map({cell})]"
    tables = f"[...document.querySelectorAll('#scores table')].map(t => [...t.tBodies[0].rows].map({row}))"
    rows = visit(port, run, lambda tab: tab.value(tables))
    titles = {
        "ACC, one to one": "acc",
        "ACC, mapping of the train split": "acc_tr",
        "ACC, many to one": "many_to_one",
        "Top-5": "top5",
        "NMI": "nmi",
        "AMI": "ami",
        "ARI": "ari",
        "Fowlkes-Mallows": "fowlkes_mallows",
    }
    assert [row[0] for row in rows[0]] == list(titles)
    for title, *cells in rows[0]:
        for method, (text, value) in zip(("scan", "kmeans"), cells, strict=True):
            assert float(value) == evaluated[method][titles[title]]
            assert text == f"{100 * evaluated[method][titles[title]]:.2f}"


def test_hostile_names_are_shown_and_run_nothing(port: int, run: DigitsRun) -> None:
    async def on_page(tab: Tab) -> list[str]:
        await tab.value("document.querySelectorAll('.cluster').forEach(c => c.open = true)")
        assert await settled(tab, "document.querySelectorAll('.cluster .body').length", 10) == 10
        await tab.value("document.querySelectorAll('.picture').forEach(p => p.click())")
        assert await tab.value("document.scripts.length") == 2
        assert (
            await tab.value("document.querySelectorAll('svg[onload], [onerror], iframe, object').length") == 0
        )
        details: list[str] = await tab.value(
            "[...document.querySelectorAll('.detail')].map(d => d.innerText)"
        )
        alts: list[str] = await tab.value("[...document.querySelectorAll('.picture img')].map(i => i.alt)")
        await tab.value("document.querySelector('#quarantine details').open = true")
        assert await tab.value("document.querySelectorAll('#quarantine tbody tr').length") == 3
        return details + alts

    texts = visit(port, run, on_page)
    shown = {name for name in HOSTILE.values() if any(name in text for text in texts)}
    assert shown == set(HOSTILE.values())


def test_names_of_images_clusters_and_classes_are_text_where_they_stand_alone(
    port: int, tmp_path: Path
) -> None:
    evil = "<b onmouseover=alert(6)>{}</b><img src=x>"
    settings = ReportConfig(images="none")
    bare = DigitsRun(tmp_path, names=HOSTILE, report=settings, class_name=evil, cluster_name=evil)

    async def on_page(tab: Tab) -> None:
        await tab.value("document.querySelectorAll('.cluster').forEach(c => c.open = true)")
        await settled(tab, "document.querySelectorAll('.cluster .body').length", 10)
        title = await tab.value("document.querySelector('#cluster-4 .title').firstChild.data")
        assert title == evil.format(4)
        small = await tab.value("document.querySelector('#cluster-4 .title small').textContent")
        assert "mostly <b onmouseover=alert(6)>" in small
        names = await tab.value("[...document.querySelectorAll('.nameless')].map(n => n.textContent)")
        assert set(HOSTILE.values()) <= set(names)
        assert await tab.value("document.images.length") == 0

    visit(port, finished(bare), on_page)


def test_a_strange_script_would_be_stopped(port: int, run: DigitsRun) -> None:
    """The policy is at work: markup that got in somehow would still do nothing."""

    async def on_page() -> tuple[list[str], Any]:
        async with new_tab(port) as tab:
            await tab.open(run.folder / "index.html")
            await tab.value(
                "document.body.append(Object.assign(document.createElement('script'), {text: 'leak = 1'}))"
            )
            await tab.value(
                "document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x.png\">')"
            )
            await asyncio.sleep(0.2)
            return tab.complaints, await tab.value("typeof leak")

    complaints, kind = asyncio.run(on_page())
    assert kind == "undefined"
    assert sum("Content Security Policy" in text for text in complaints) == 2


@pytest.mark.parametrize("width", [360, 768, 1200])
@pytest.mark.parametrize("is_dark", [False, True])
def test_nothing_is_wider_than_the_screen(port: int, run: DigitsRun, width: int, is_dark: bool) -> None:
    async def on_page(tab: Tab) -> None:
        await tab.value("document.querySelectorAll('details').forEach(d => d.open = true)")
        await settled(tab, "document.querySelectorAll('.cluster .body').length", 10)
        await tab.value("document.querySelectorAll('.picture').forEach(p => p.click())")
        assert await tab.value("document.documentElement.scrollWidth") <= width
        wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('svg, .skip') && "
        assert (
            await tab.value(f"{wide} e.getBoundingClientRect().right > {width} + 1).map(e => e.outerHTML)")
            == []
        )

    visit(port, run, on_page, width=width, is_dark=is_dark)


@pytest.mark.parametrize("is_dark", [False, True])
def test_text_can_be_read(port: int, run: DigitsRun, is_dark: bool) -> None:
    """Contrast of every text color against the backgrounds it stands on, WCAG 2.1 AA: 4.5 to 1."""

    async def on_page(tab: Tab) -> list[float]:
        luminance = (
            "const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).map(v => { v /= 255; "
            "return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); "
            "return .2126*r + .7152*g + .0722*b; };"
            "const of = (e, p) => light(getComputedStyle(document.querySelector(e))[p]);"
            "const contrast = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);"
        )
        grounds = "[of('body', 'backgroundColor'), of('.cluster', 'backgroundColor')]"
        texts = "['body', '.lead', 'nav a', '.other', '.numbers', 'caption'].map(e => of(e, 'color'))"
        ratios: list[float] = await tab.value(
            f"(() => {{ {luminance} return {grounds}.flatMap(g => {texts}.map(t => contrast(g, t))); }})()"
        )
        return ratios

    assert min(visit(port, run, on_page, is_dark=is_dark)) >= 4.5


def test_every_picture_and_chart_has_a_name_and_every_control_a_label(port: int, run: DigitsRun) -> None:
    async def on_page(tab: Tab) -> None:
        await tab.value("document.querySelector('#cluster-0').open = true")
        await settled(tab, "document.querySelectorAll('#cluster-0 .picture').length > 0")
        assert await tab.value("[...document.querySelectorAll('.picture img')].every(i => i.alt)")
        assert await tab.value(
            "[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))"
        )
        assert await tab.value("[...document.querySelectorAll('input, select')].every(c => c.labels.length)")
        assert await settled(tab, "[...document.images].every(i => i.complete && i.naturalWidth > 0)")

    visit(port, run, on_page)


def test_a_thousand_clusters_open_page_and_filter(port: int, large: DigitsRun) -> None:
    async def on_page(tab: Tab) -> None:
        listed = "[...document.querySelectorAll('.cluster .title')].map(t => t.firstChild.data)"
        assert len(await tab.value(listed)) == 20
        assert await tab.value("document.querySelector('#where').innerText") == "Page 1 of 50"
        assert (
            await tab.value("document.querySelectorAll('.cluster .body').length") == 0
        )  # nothing is drawn unopened
        await tab.value("document.querySelector('#next').click()")
        assert (await tab.value(listed))[0] == "Cluster 20"
        await tab.value("document.querySelector('#cluster-20 summary').click()")
        images = "[...document.querySelectorAll('#cluster-20 .picture img')]"
        assert await settled(tab, f"{images}.length > 0 && {images}.every(i => i.naturalWidth === 8)")
        await tab.value("query.value = '777'; query.dispatchEvent(new Event('input'))")
        assert await tab.value(listed) == ["Cluster 777"]
        await tab.value("query.value = ''; order.value = 'largest'; order.dispatchEvent(new Event('change'))")
        sizes = [c["size"] for c in large.done["assign"].read_json("clusters.json")]
        numbers = "document.querySelectorAll('.cluster .numbers span:first-child b')"
        shown = await tab.value(f"[...{numbers}].map(b => Number(b.innerText))")
        assert shown == sorted(sizes, reverse=True)[:20]

    visit(port, large, on_page)


def test_a_link_to_a_cluster_opens_it_wherever_it_is(port: int, large: DigitsRun) -> None:
    async def on_page(tab: Tab) -> None:
        assert await settled(tab, "document.querySelector('#cluster-512')?.open")
        assert await settled(tab, "document.querySelectorAll('#cluster-512 .picture').length > 0")

    visit(port, large, on_page, anchor="#cluster-512")


def test_the_keyboard_reaches_and_opens_clusters(port: int, run: DigitsRun) -> None:
    async def on_page(tab: Tab) -> None:
        await tab.value("document.querySelector('#cluster-3 summary').focus()")
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        await tab.call("Input.dispatchKeyEvent", type="keyDown", text="\r", **enter)
        await tab.call("Input.dispatchKeyEvent", type="keyUp", **enter)
        assert await settled(tab, "document.querySelector('#cluster-3').open")
        style = "getComputedStyle(document.querySelector('#cluster-3 summary')).outlineStyle"
        assert await tab.value(style) == "solid"

    visit(port, run, on_page)


def test_the_page_is_not_blank_in_a_screenshot(port: int, run: DigitsRun, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    async def on_page(tab: Tab) -> None:
        await tab.screenshot(tmp_path / "page.png")

    visit(port, run, on_page, width=360, is_dark=True)
    pixels = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    assert pixels.shape[1] == 360
    assert pixels[0, 0] < 40  # dark paper
    assert (pixels > 180).mean() > 0.005  # light ink
