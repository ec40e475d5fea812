"""A node that never comes ends a wait; a node that comes in time ends it better."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from rayscan.config import FleetConfig
from rayscan.errors import FleetError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.security import on_loopback
from rayscan.storage import Place
from testing.chaos.machines import Machines, environment_here, machines


def square(x: int) -> int:
    return x * x


@pytest.fixture(scope="module")
def bare(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[Machines]:
    for name, value in environment_here().items():
        monkeypatch_module.setenv(name, value)
    with machines(0) as fleet, on_loopback():
        ray.init(address=fleet.address, log_to_driver=False)
        yield fleet
        ray.shutdown()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.slow
def test_work_without_a_node_is_given_up_and_resumes_with_one(bare: Machines, tmp_path: Path) -> None:
    out = Place(str(tmp_path))
    began = time.monotonic()
    with pytest.raises(FleetError, match="no machine came for the work"):
        Fleet(FleetConfig(pending_seconds=3.0), out).map(square, [1, 2, 3])
    assert time.monotonic() - began >= 3.0
    bare.add()
    assert Fleet(FleetConfig(pending_seconds=60.0), out).map(square, [1, 2, 3]) == [1, 4, 9]
