"""Edits on a report page by mouse and keyboard, saved, applied to the run, and shown by its next page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rayscan.config import ReportConfig
from rayscan.edits.applying import apply
from rayscan.run import Run
from rayscan.stages import report
from tests.browser.chromium import Tab, browser, new_tab, settled
from tests.browser.hands import (
    CONTROL,
    SHIFT,
    click,
    downloaded,
    downloads_to,
    press,
    tab_to,
    without_motion,
    write,
)
from tests.unit.edits.recorded import clusters_of, fingerprint, recorded
from tests.unit.report.digits_run import DigitsRun

PICKED = "document.querySelector('#picked').textContent"
EDITED = "document.querySelector('#edited').textContent"
TITLES = "[...document.querySelectorAll('.cluster .title')].map(t => t.firstChild.data)"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with browser() as port:
        yield port


def page_of(run: DigitsRun) -> Path:
    """The page of the run as it is now."""
    run.done["assign"] = Run(run.out.uri).artifact("assign")
    shown = {name: artifact for name, artifact in run.done.items() if name != "report"}
    step = report.plan(run.recipe, shown, run.context.sources)
    page = run.folder / "index.html"
    page.write_bytes(report.run(run.recipe, shown, step, run.context).read("index.html"))
    return page


def at_page(port: int, page: Path, act: Callable[[Tab], Awaitable[Any]], **view: Any) -> Any:
    async def visited() -> Any:
        async with new_tab(port) as tab:
            await downloads_to(tab, page.parent)
            await tab.open(page, **view)
            await without_motion(tab)
            got = await act(tab)
            await tab.value("localStorage.clear()")  # the next test has the same run, and this browser
            assert tab.complaints == []
            return got

    return asyncio.run(visited())


async def opened(tab: Tab, number: int) -> None:
    await click(tab, f"#cluster-{number} summary")
    assert await settled(tab, f"document.querySelectorAll('#cluster-{number} .body').length", 1)


def size_of(number: int) -> str:
    return f"Number(document.querySelector('#cluster-{number} .numbers b').textContent)"


def test_edits_by_mouse_are_saved_applied_and_shown(port: int, tmp_path: Path) -> None:
    run = recorded(tmp_path)
    before = clusters_of(run)
    moved: list[int] = []

    async def act(tab: Tab) -> None:
        await opened(tab, 3)
        await click(tab, "#cluster-3 .rename input")
        await write(tab, "sevens \u732b")
        await click(tab, "#cluster-3 .rename button")
        assert (await tab.value(TITLES))[3] == "sevens \u732b"
        sizes = [await tab.value(size_of(n)) for n in (3, 5)]
        await click(tab, "[data-key='pick-3']")
        await click(tab, "[data-key='pick-5']")
        assert await tab.value(PICKED) == "2 clusters selected"
        await click(tab, "#join")
        assert await tab.value(size_of(3)) == sum(sizes)
        assert await tab.value("document.querySelector('#cluster-5')") is None
        await click(tab, "[data-key='pick-9']")
        await click(tab, "#waste")
        assert "marked as waste" in await tab.value("document.querySelector('#cluster-9 small').textContent")
        await opened(tab, 0)
        for at in (1, 3):
            picture = f"#cluster-0 .grid .picture:nth-child({at})"
            moved.append(int(await tab.value(f"document.querySelector({picture!r}).dataset.gid")))
            await click(tab, picture)
        joined = "p => JSON.parse(data.textContent).pictures[p.dataset.gid][1] === 5"
        find = f"[...document.querySelectorAll('#cluster-3 .picture')].find({joined})"
        moved.append(int(await tab.value(f"{find}.dataset.gid")))
        await click(tab, f"#cluster-3 .picture[data-gid='{moved[-1]}']")
        assert await tab.value(PICKED) == "3 images selected"
        await click(tab, "#target")
        await write(tab, "new kind")
        await click(tab, "#move")
        assert await tab.value(size_of(10)) == 3
        assert await tab.value(size_of(3)) == sum(sizes) - 1
        assert await tab.value(size_of(0)) == list(before.values()).count(0) - 2
        assert await tab.value(EDITED) == "5 edits, not saved"
        await click(tab, "#undo")
        assert await tab.value("document.querySelector('#cluster-10')") is None
        await click(tab, "#redo")
        await click(tab, "#save")
        assert await tab.value(EDITED) == "5 edits, saved"

    page = page_of(run)
    at_page(port, page, act)
    saved = json.loads(asyncio.run(downloaded(tmp_path / "edits.json")))
    assert saved == {
        "schema": 1,
        "fingerprint": fingerprint(run),
        "operations": [
            {"op": "rename", "cluster": 3, "name": "sevens \u732b"},
            {"op": "join", "clusters": [5], "into": 3},
            {"op": "waste", "clusters": [9]},
            {"op": "create", "cluster": 10, "name": "new kind"},
            {"op": "move", "images": sorted(moved), "to": 10},
        ],
    }
    apply(run.out.uri, str(tmp_path / "edits.json"))
    wanted = {g: {5: 3, 9: -1}.get(c, c) for g, c in before.items()} | dict.fromkeys(moved, 10)
    assert clusters_of(run) == wanted

    async def shown(tab: Tab) -> list[Any]:
        row = "[c.id, c.querySelector('.title').firstChild.data, c.querySelector('.numbers b').textContent]"
        got: list[Any] = await tab.value(f"[...document.querySelectorAll('.cluster')].map(c => {row})")
        assert await tab.value(EDITED) == "No edits", "those of the former page are not of this one"
        return got

    called = {3: "sevens \u732b", 10: "new kind", -1: "waste"}
    assert at_page(port, page_of(run), shown) == [
        [f"cluster-{n}", called.get(n, f"Cluster {n}"), str(list(wanted.values()).count(n))]
        for n in sorted(set(wanted.values()))
    ]


def test_everything_works_with_keys_alone(port: int, tmp_path: Path) -> None:
    run = recorded(tmp_path)

    async def act(tab: Tab) -> None:
        await tab.value("document.querySelector('#order').focus()")
        await tab_to(tab, "e.dataset.key === 'pick-2'")
        await press(tab, " ")
        assert await tab.value(PICKED) == "1 cluster selected"
        await press(tab, "Tab")
        await press(tab, "Enter")
        await settled(tab, "document.querySelectorAll('#cluster-2 .picture').length > 0")
        await press(tab, "Tab")
        await press(tab, " ")
        assert await tab.value(PICKED) == "1 cluster, 1 image selected"
        await tab_to(tab, "e.dataset.key === 'name-2'")
        await write(tab, "cluster 4")
        await press(tab, "Enter")  # a name that is taken: the two are one
        assert await tab.value("document.querySelector('#cluster-2')") is None
        assert "joined" in await tab.value("document.querySelector('#told').textContent")
        assert await tab.value(PICKED) == "1 image selected"
        await tab_to(tab, "e.id === 'target'")
        await write(tab, "waste")
        await tab_to(tab, "e.id === 'move'")
        await press(tab, "Enter")
        assert await tab.value(size_of(-1).replace("cluster--1", "cluster-\\\\-1")) == 1
        await press(tab, "z", CONTROL)
        assert await tab.value(EDITED) == "1 edit, not saved"
        await press(tab, "z", CONTROL)
        assert await tab.value("document.querySelector('#cluster-2').id") == "cluster-2"
        await press(tab, "z", CONTROL | SHIFT)
        await press(tab, "y", CONTROL)
        assert await tab.value(EDITED) == "2 edits, not saved"
        await tab_to(tab, "e.id === 'save'")
        await press(tab, "Enter")

    at_page(port, page_of(run), act)
    saved = json.loads(asyncio.run(downloaded(tmp_path / "edits.json")))["operations"]
    assert saved[0] == {"op": "join", "clusters": [2], "into": 4}
    assert (saved[1]["op"], len(saved[1]["images"]), saved[1]["to"]) == ("move", 1, -1)
    before = clusters_of(run)
    apply(run.out.uri, str(tmp_path / "edits.json"))
    wasted = dict.fromkeys(saved[1]["images"], -1)
    assert clusters_of(run) == {g: 4 if c == 2 else c for g, c in before.items()} | wasted


def test_unsaved_edits_warn_and_survive_a_reload(port: int, tmp_path: Path) -> None:
    run = recorded(tmp_path)

    async def act(tab: Tab) -> None:
        await click(tab, "[data-key='pick-1']")
        await click(tab, "#waste")
        async with tab.navigation():
            leaving = asyncio.create_task(tab.call("Page.reload"))
            for _ in range(200):
                if tab.complaints:
                    break
                await asyncio.sleep(0.05)
            assert tab.complaints == ["dialog: "], "a browser words the warning itself"
            tab.complaints.clear()
            await tab.call("Page.handleJavaScriptDialog", accept=True)
            await leaving
        assert await settled(tab, EDITED, "1 edit, not saved") == "1 edit, not saved"
        assert "earlier visit" in await tab.value("document.querySelector('#told').textContent")
        assert "marked as waste" in await tab.value("document.querySelector('#cluster-1 small').textContent")
        await click(tab, "#save")
        async with tab.navigation():
            await tab.call("Page.reload")  # saved: nothing to warn of
        assert await settled(tab, EDITED, "1 edit, saved") == "1 edit, saved"

    at_page(port, page_of(run), act)


def test_a_proposed_name_is_taken_with_one_click(port: int, tmp_path: Path) -> None:
    run = recorded(tmp_path)
    run.commit("names", {"proposed.json": {"4": ["twos <b>", "swans"]}})

    async def act(tab: Tab) -> None:
        await opened(tab, 4)
        assert await tab.value("document.querySelector('#cluster-4 .title').firstChild.data") == "Cluster 4"
        assert "Proposed" in await tab.value("document.querySelector('#cluster-4 .proposed').textContent")
        await click(tab, "[data-key='proposed-4-0']")
        assert await tab.value("document.querySelector('#cluster-4 .title').firstChild.data") == "twos <b>"
        offers = "[...document.querySelectorAll('#cluster-4 .proposed button')].map(b => b.textContent)"
        assert await tab.value(offers) == ["swans"]
        await click(tab, "#save")

    at_page(port, page_of(run), act)
    saved = json.loads(asyncio.run(downloaded(tmp_path / "edits.json")))
    assert saved["operations"] == [{"op": "rename", "cluster": 4, "name": "twos <b>"}]


def test_a_thousand_clusters(port: int, tmp_path: Path) -> None:
    run = recorded(tmp_path, num_images=4000, num_clusters=1000, report=ReportConfig(max_megabytes=1.0))
    before = clusters_of(run)

    async def act(tab: Tab) -> None:
        await click(tab, "[data-key='pick-3']")
        for _ in range(2):
            await click(tab, "#next")
        assert "Page 3 of 50" in await tab.value("document.querySelector('#where').textContent")
        await click(tab, "[data-key='pick-45']")
        assert await tab.value(PICKED) == "2 clusters selected"
        await click(tab, "#target")
        await write(tab, "777")
        await click(tab, "#join")
        assert "Page 3 of 50" in await tab.value("document.querySelector('#where').textContent")
        assert await tab.value("document.querySelector('#found').textContent") == "998 of 998 clusters"
        await tab.value("query.value = '777'; query.dispatchEvent(new Event('input'))")
        assert await tab.value(size_of(777)) == sum(c in (3, 45, 777) for c in before.values())
        await opened(tab, 777)
        await click(tab, "[data-key='name-777']")
        await write(tab, "cluster 500")
        await press(tab, "Enter")
        await tab.value("query.value = ''; query.dispatchEvent(new Event('input'))")
        assert await tab.value("document.querySelector('#found').textContent") == "997 of 997 clusters"
        await tab.value("location.hash = '#cluster-45'")  # where it is now
        assert await settled(tab, "document.querySelector('#cluster-500')?.open")
        await click(tab, "#save")

    at_page(port, page_of(run), act)
    asyncio.run(downloaded(tmp_path / "edits.json"))
    apply(run.out.uri, str(tmp_path / "edits.json"))
    assert clusters_of(run) == {g: 500 if c in (3, 45, 777) else c for g, c in before.items()}
    assert len(Run(run.out.uri).clusters) == 997


@pytest.mark.parametrize("width", [360, 1200])
def test_the_controls_fit_and_have_labels(port: int, tmp_path: Path, width: int) -> None:
    run = recorded(tmp_path)

    async def act(tab: Tab) -> None:
        await opened(tab, 1)
        assert await tab.value("[...document.querySelectorAll('input, select')].every(c => c.labels.length)")
        assert await tab.value("document.documentElement.scrollWidth") <= width
        assert await tab.value(
            "[...document.querySelectorAll('button')].every(b => b.type && b.textContent.trim())"
        )
        assert await tab.value("document.querySelector('#edits').getBoundingClientRect().height") < 450

    at_page(port, page_of(run), act, width=width)
