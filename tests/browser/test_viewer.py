"""`rayscan view` in a real browser: the map, its pictures and neighbors, without a network; and its end."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import chromium
from tests.browser.chromium import Tab, browser, new_tab
from tests.unit.exports.pictured import NAMES, PicturedRun, pictured

pytest.importorskip("embedding_atlas")

EXPECTED = "No available adapters."
"""What Chromium says where there is no graphics adapter; the page goes on with a canvas."""
settled = partial(chromium.settled, seconds=60)


class Address:
    """An address as `Tab.open` takes a page."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def as_uri(self) -> str:
        return self._uri


@contextmanager
def viewed(made: PicturedRun, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command at work: its address and its process."""
    command = [sys.executable, "-m", "rayscan", "view", made.out.uri, "--no-browser", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"open (http://127\.0\.0\.1:\d+/) in a browser; Ctrl-C ends it", line):
                break
        else:
            raise AssertionError("".join(said))
        yield found[1], process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> PicturedRun:
    return pictured(tmp_path_factory.mktemp("run"), num_images=4000)


@pytest.fixture(scope="module")
def served(made: PicturedRun) -> Iterator[str]:
    with viewed(made) as (address, _):
        yield address


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with browser() as port:
        yield port


def visit(port: int, address: str, on_page: Callable[[Tab], Awaitable[Any]]) -> Any:
    """Open the page, on_page at it, and hold it to asking nothing of anybody else."""

    async def visited() -> Any:
        async with new_tab(port) as tab:
            await tab.open(Address(address), width=1500, height=1000)  # type: ignore[arg-type]
            seen = await on_page(tab)
            assert [text for text in tab.complaints if text != EXPECTED] == []
            assert all(request.startswith((address, "blob:")) for request in tab.requests), tab.requests
            return seen

    return asyncio.run(visited())


INK = """(() => {
  const canvas = [...document.querySelectorAll('canvas')].sort((a, b) => b.width - a.width)[0];
  if (!canvas?.own) return [];
  const {width, height} = canvas, data = canvas.own.getImageData(0, 0, width, height).data;
  const colors = new Map();
  for (let i = 0; i < data.length; i += 4)
    if (data[i + 3]) {
      const color = data.slice(i, i + 3).join();
      const at = colors.get(color) ?? [0, 0, 0];
      at[0]++; at[1] += (i / 4) % width; at[2] += Math.floor(i / 4 / width);
      colors.set(color, at);
    }
  return [...colors].map(([color, [n, x, y]]) => [color, n, x / n, y / n]);
})()"""
"""Each color of the map: pixels, and their mean place."""
SOME_POINT = """(() => {
  const canvas = [...document.querySelectorAll('canvas')].sort((a, b) => b.width - a.width)[0];
  const {width, height} = canvas, data = canvas.own.getImageData(0, 0, width, height).data;
  const at = data.findIndex((value, i) => i % 4 == 3 && value && i > 0.4 * data.length) >> 2;
  const box = canvas.getBoundingClientRect();
  return [box.left + at % width * box.width / width, box.top + Math.floor(at / width) * box.height / height];
})()"""
"""Where a point of the map is on the screen, px."""


def test_the_map_has_every_cluster_in_its_color_and_by_its_name(port: int, served: str) -> None:
    async def on_page(tab: Tab) -> tuple[list[list[Any]], str]:
        assert await settled(tab, "document.body.innerText.includes('4,000 / 4,000 points')")
        assert await settled(tab, f"{INK}.length", 10)
        assert await settled(tab, f"document.body.innerText.includes({NAMES[0]!r})")
        return await tab.value(INK), await tab.value("document.body.innerText")

    colors, text = visit(port, served, on_page)
    assert len(colors) == 10
    assert min(color[1] for color in colors) > 100
    for name in NAMES:
        assert text.count(name) >= 2  # in the legend, and on the map or in the table


def test_the_server_gives_rows_pictures_and_neighbors(port: int, served: str, made: PicturedRun) -> None:
    """As the page asks it: SQL over the rows; picture and neighbors of one image."""

    async def on_page(tab: Tab) -> list[Any]:
        sql = (
            "SELECT gid, name, confidence, neighbors.ids AS ids, octet_length(image.bytes) AS bytes "
            "FROM dataset WHERE gid IN (17, 3999) ORDER BY gid"
        )
        asked = (
            f"fetch('./data/query', {{method: 'POST', body: JSON.stringify({{type: 'json', sql: {sql!r}}})}})"
        )
        found: list[Any] = await tab.value(f"{asked}.then(r => r.json())")
        return found

    rows = visit(port, served, on_page)
    assigned = {row["gid"]: row for row in made.opened.assignments.to_pylist()}
    for row in rows:
        want = assigned[row["gid"]]
        assert row["name"] == NAMES[want["cluster"]]
        assert row["confidence"] == pytest.approx(want["confidence"], abs=1e-6)
        assert 200 < row["bytes"] < 10_000
        cosine = made.rows @ made.rows[row["gid"]]
        assert np.allclose(cosine[row["ids"]], 1, atol=0.2)


def test_a_picture_is_shown_with_its_neighbors(port: int, served: str) -> None:
    """Click a point of the map: its picture comes, and a button that finds those like it."""

    async def on_page(tab: Tab) -> None:
        assert await settled(tab, f"{INK}.length", 10)
        place = await tab.value(SOME_POINT)
        mouse = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        await tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
        await tab.call("Input.dispatchMouseEvent", type="mousePressed", **mouse)
        await tab.call("Input.dispatchMouseEvent", type="mouseReleased", **mouse)
        shown = "[...document.images].some(i => i.naturalWidth === 128 && i.naturalHeight === 96)"
        assert await settled(tab, shown)
        button = "[...document.querySelectorAll('button')].find(b => /neighbor/i.test(b.title + b.innerText))"
        assert await settled(tab, f"!!{button}")
        await tab.value(f"{button}.click()")
        assert await settled(tab, "/Neighbors of #\\d+/i.test(document.body.innerText)")
        assert await settled(tab, "document.body.innerText.includes('15 results')")
        assert await settled(tab, "(document.body.innerText.match(/Distance/g) ?? []).length >= 15")

    visit(port, served, on_page)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Host", "rebound.example"),
        ("Origin", "http://strange.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ],
)
def test_strange_pages_and_names_get_nothing(served: str, header: str, value: str) -> None:
    asked = urllib.request.Request(f"{served}data/query?query=%7B%7D", headers={header: value})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked)
    assert refused.value.code == 403


def test_it_listens_on_loopback_alone(served: str) -> None:
    number = int(served.rstrip("/").rpartition(":")[2])
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rpartition(":")[2], 16) == number
    ]
    assert listening == [f"0100007F:{number:04X}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_the_next_one_lays_out_nothing_anew(
    tmp_path: Path, number: signal.Signals
) -> None:
    made = pictured(tmp_path / "own", num_images=60)
    with viewed(made) as (address, process):
        urllib.request.urlopen(address).read()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(number)
        assert process.wait(timeout=60) == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)
        with pytest.raises(OSError):
            urllib.request.urlopen(address)
    (file,) = (tmp_path / "own/run/view").iterdir()
    before = file.stat()
    with viewed(made):
        assert file.stat().st_mtime_ns == before.st_mtime_ns
    clusters = Path(made.out.uri, "clusters.json")
    clusters.write_text(clusters.read_text().replace("cluster 3", "three"))
    with viewed(made):
        (other,) = (tmp_path / "own/run/view").iterdir()
        assert other != file


def test_a_port_that_is_taken_is_said(served: str, made: PicturedRun) -> None:
    taken = served.rstrip("/").rpartition(":")[2]
    command = [sys.executable, "-m", "rayscan", "view", made.out.uri, "--no-browser", "--port", taken]
    told = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=120)
    assert told.returncode == 2
    assert "pass another --port" in told.stderr


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_images(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PicturedRun, "side_px", (40, 30))
    made = pictured(tmp_path / "many", num_images=100_000)

    async def on_page(tab: Tab) -> int:
        assert await settled(tab, "document.body.innerText.includes('100,000 / 100,000 points')")
        assert await settled(tab, f"{INK}.length", 10)
        return sum(color[1] for color in await tab.value(INK))

    with viewed(made) as (address, _):
        assert visit(port, address, on_page) > 10_000
