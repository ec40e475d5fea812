"""A node that is gone by the time it is asked whether it sees --out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from rayscan.errors import FleetError
from rayscan.fleet import storage_check
from rayscan.fleet.cluster import alive_nodes
from rayscan.fleet.storage_check import StorageCheck
from rayscan.storage import Place

GONE = "5" * 56


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_node_that_is_gone_does_not_count(tmp_path: Path) -> None:
    StorageCheck(Place(str(tmp_path))).require([*alive_nodes(), GONE])
    assert not list(tmp_path.iterdir())


def test_a_node_that_sees_nothing_is_refused_beside_one_that_is_gone(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(storage_check, "_sees", lambda *_: False)
    with pytest.raises(FleetError, match="invisible on 1 of 2 nodes"):
        StorageCheck(Place(str(tmp_path))).require([*alive_nodes(), GONE])


def test_what_a_node_raises_is_raised(tmp_path: Path, monkeypatch) -> None:
    def breaks(*_: object) -> bool:
        raise PermissionError("closed")

    monkeypatch.setattr(storage_check, "_sees", breaks)
    with pytest.raises(PermissionError, match="closed"):
        StorageCheck(Place(str(tmp_path))).require([*alive_nodes(), GONE])
