"""A person at the page: a mouse that goes where it is told, keys, and a folder for what is downloaded."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.browser.chromium import Tab

CODES = {"Enter": 13, "Tab": 9, " ": 32, "z": 90, "y": 89}
CONTROL, SHIFT = 2, 8


async def click(tab: Tab, selector: str) -> None:
    """Click at the middle of what a selector finds first, once it is in view."""
    find = f"document.querySelector({selector!r})"
    await tab.value(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    box = await tab.value(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({find}.getBoundingClientRect())")
    x, y = box
    hit = await tab.value(f"{find}.contains(document.elementFromPoint({x}, {y}))")
    assert hit, f"something lies over {selector}"
    for kind in ("mousePressed", "mouseReleased"):
        await tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


async def without_motion(tab: Tab) -> None:
    """Ask for less motion, as people can: what scrolls smoothly is elsewhere when the mouse comes."""
    await tab.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}]
    )


async def press(tab: Tab, key: str, modifiers: int = 0) -> None:
    """Press and release a key."""
    text = {"Enter": "\r", " ": " "}.get(key, "")
    told = {"key": key, "windowsVirtualKeyCode": CODES[key], "modifiers": modifiers}
    await tab.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **told)
    await tab.call("Input.dispatchKeyEvent", type="keyUp", **told)


async def write(tab: Tab, text: str) -> None:
    """Type into what has the focus, over what is selected there."""
    await tab.value("document.activeElement.select()")
    await tab.call("Input.insertText", text=text)


async def tab_to(tab: Tab, condition: str, most: int = 120) -> None:
    """Press Tab until the focused element, `e`, fulfils a condition."""
    for _ in range(most):
        if await tab.value(f"(e => {condition})(document.activeElement)"):
            return
        await press(tab, "Tab")
    raise AssertionError(f"Tab never came to {condition}")


async def downloads_to(tab: Tab, folder: Path) -> None:
    """Have the browser put downloads into a folder without asking."""
    await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))


async def downloaded(path: Path) -> bytes:
    """What was downloaded, once it is whole."""
    for _ in range(600):  # a busy machine takes its time
        if path.exists() and not list(path.parent.glob("*.crdownload")):
            return path.read_bytes()
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} never came")
