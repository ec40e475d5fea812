"""What the doctor finds wrong with reports of nodes, and what it sees of this machine."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from rayscan.fleet.doctor import NodeReport, findings, inspect_node
from rayscan.storage import Place

VERSIONS = {"python": "3.12.3", "rayscan": "0.1.0", "ray": "2.60.0", "torch": "2.15.0"}
FIT = NodeReport(
    name="a", versions=VERSIONS, memory=64 * 10**9, memory_free=60 * 10**9, shm=32 * 10**9,
    disk_free=150 * 10**9, disk=200 * 10**9, cpus=16, object_store=20e9,
)  # fmt: skip


def test_fit_machines_have_no_findings() -> None:
    assert findings([FIT, replace(FIT, name="b")], driver=replace(FIT, name="this process")) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"versions": {**VERSIONS, "torch": "2.14.0"}}, "torch differs: 2.15.0 on a; 2.14.0 on b"),
        ({"versions": {"python": "3.12.3", "rayscan": "0.1.0", "torch": "2.15.0"}}, "ray differs: 2.60.0"),
        ({"gpus": 4.0}, "b: Ray offers 4 GPUs, torch sees 0"),
        ({"torch_gpus": ("L4",)}, "b: torch sees 1 GPUs, Ray offers none"),
        ({"shm": 64 * 10**6}, "b: /dev/shm has 0.1 GB, less than the object store of 20.0 GB"),
        ({"memory_free": 10**9}, "b: only 1.0 GB of memory"),
        ({"disk_free": 9 * 10**9}, "b: only 9.0 GB of 200 GB"),
        ({"disk_free": 40 * 10**9, "disk": 1000 * 10**9}, "b: only 40.0 GB of 1000 GB"),
        ({"clock": -45.0}, "b: its clock is -45 s off"),
        ({"storage": "s3://x: access denied"}, "b: cannot use the storage: s3://x: access denied"),
        ({"unmet": ("torch>=2.15 (has 2.1)",)}, "b: not installed as rayscan requires: torch>=2.15 (has"),
        ({"trouble": "No module named 'rayscan'"}, "b: cannot run rayscan: No module named 'rayscan'"),
    ],
)  # fmt: skip
def test_each_fault_is_found_and_named_once(wrong: dict[str, object], said: str) -> None:
    (found,) = findings([FIT, replace(FIT, name="b", **wrong)])
    assert found.startswith(said)


def test_versions_of_the_driver_count_too() -> None:
    other = replace(FIT, name="this process", versions={**VERSIONS, "python": "3.11.7"}, disk_free=0)
    (found,) = findings([FIT], driver=other)
    assert found == "python differs: 3.12.3 on a; 3.11.7 on this process"


def test_this_machine_is_seen(tmp_path: Path) -> None:
    report = inspect_node(Place(str(tmp_path)), time.time())
    assert report.memory > report.memory_free > 0
    assert report.disk > report.disk_free > 0
    assert {"python", "ray", "torch", "numpy"} <= set(report.versions)
    assert report.storage == ""
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    assert abs(report.clock) < 5
    assert all(report.lines())


def test_storage_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert str(file) in inspect_node(Place(str(file / "below")), time.time()).storage
