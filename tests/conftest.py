"""What all test folders share: markers by folder, skip rules, real pictures, and Ray kept out of unit/."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
MARKED_FOLDERS = ("gloo", "fleet", "ray", "nodes", "browser")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def folder_of(path: Path) -> str:
    """First folder below tests/."""
    return path.relative_to(ROOT / "tests").parts[0]


def reason_to_skip(folder: str) -> str | None:
    """Why tests of a folder cannot run on this machine, if so."""
    if folder == "browser" and not any(shutil.which(name) for name in BROWSERS):
        return f"no browser: none of {', '.join(BROWSERS)} is installed"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each folder its marker, and skip what this machine cannot run."""
    reasons: dict[str, str | None] = {}
    for item in items:
        folder = folder_of(item.path)
        if folder not in MARKED_FOLDERS:
            continue
        item.add_marker(folder)
        if folder not in reasons:
            reasons[folder] = reason_to_skip(folder)
        if (reason := reasons[folder]) is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a unit test that imports Ray: what a unit test touches must not know Ray."""
    before = "ray" in sys.modules
    result = yield
    if folder_of(item.path) == "unit" and not before and "ray" in sys.modules:
        pytest.fail("this unit test imported ray: it belongs to tests/fleet, or the code to rayscan/fleet")
    return result


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for imports at the top of a unit test's file."""
    before = "ray" in sys.modules
    report = yield
    is_unit = isinstance(collector, pytest.Module) and folder_of(collector.path) == "unit"
    if is_unit and not before and "ray" in sys.modules:
        report.outcome = "failed"
        report.longrepr = f"{collector.path}: importing this unit test imports ray"
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real pictures: cifar10/ and imagenet-sample/ as WebDataset shards."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no shared pictures: ../shared/data is not there")
    return SHARED_DATA
