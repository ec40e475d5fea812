"""A real Chromium over the DevTools protocol: open a page, run an expression, hear what it complains of."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

BINARIES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-address=127.0.0.1",
    "--remote-debugging-port=0",
)
START_SECONDS = 60
PAUSE = 0.05
"""Seconds between two looks at a page."""
LOUD = ("error", "warning", "assert")


class Tab:
    """One page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self._listener = asyncio.create_task(self._listen())
        self.complaints: list[str] = []
        """Console errors, exceptions, blocked or refused things, dialogs."""
        self.requests: list[str] = []
        """Every address the page asked for, without data: URLs."""

    async def _listen(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event)
            else:
                self._hear(event["method"], event["params"])

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:400])
        elif method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {params['message']}")
        elif method == "Log.entryAdded" and params["entry"]["level"] in LOUD:
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in LOUD:
            self.complaints.append(json.dumps(params["args"])[:400])

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(self._answers[number], START_SECONDS)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, page: Path, *, width: int = 1200, height: int = 900, is_dark: bool = False) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        async with self.navigation():
            await self.call("Page.navigate", url=page.as_uri())

    @asynccontextmanager
    async def navigation(self) -> AsyncIterator[None]:
        """A block in which the tab goes to a page; it ends when that one is loaded."""
        self._loaded.clear()
        yield
        await asyncio.wait_for(self._loaded.wait(), START_SECONDS)

    async def value(self, expression: str) -> Any:
        """What an expression gives, JSON values only; a promise is waited for."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:400])
        return answer["result"].get("value")

    async def screenshot(self, to: Path) -> None:
        """The whole page as PNG."""
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def browser() -> Iterator[int]:
    """A browser with a profile of its own, gone with the block; its DevTools port on loopback."""
    binary = next(found for name in BINARIES if (found := shutil.which(name)))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [binary, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _port(Path(profile) / "DevToolsActivePort", process)
        finally:
            process.terminate()
            process.wait(timeout=START_SECONDS)


@asynccontextmanager
async def new_tab(port: int) -> AsyncIterator[Tab]:
    """A fresh tab, closed with the block."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        async with session.put("/json/new?about:blank") as answer:
            target = await answer.json()
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            yield Tab(socket)
        async with session.get(f"/json/close/{target['id']}"):
            pass


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the browser ended with {process.returncode}")
        if file.exists() and (text := file.read_text()):
            return int(text.splitlines()[0])
        time.sleep(0.05)
    raise RuntimeError("the browser opened no DevTools port")


async def settled(tab: Tab, expression: str, want: Any = True, *, seconds: float = 5) -> Any:
    """Wait until an expression gives what is wanted: toggle events and pictures come a moment later."""
    got = None
    for _ in range(round(seconds / PAUSE)):
        got = await tab.value(expression)
        if got == want:
            break
        await asyncio.sleep(PAUSE)
    return got
