"""Several hosts for real: a line is cut in mid-training and restored. S always; W, as two workers stay two.

pytest -m soak tests/nodes/test_link_cut.py        as root, with iproute2
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from testing.chaos.toy import Toy, read_journal
from tests.nodes.namespaces import Hosts, hosts, reason_to_skip, until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
BITWISE = ("weights", "optimizer", "history", "consumed_once")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    if reason := reason_to_skip():
        pytest.skip(reason)
    with hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


class Run:
    """A training whose driver sits on the head."""

    def __init__(self, fleet: Hosts, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.toy = Toy(out=str(folder / "out"), journal=str(folder / "journal"), epochs=8)
        settings = {"address": fleet.address, "num_workers": 2, "collective_seconds": 20.0}
        result = str(folder / "result.json")
        (folder / "spec.json").write_text(
            json.dumps({"toy": asdict(self.toy), "fleet": settings, "result": result})
        )
        command = [sys.executable, "-m", "testing.chaos.driver", str(folder / "spec.json")]
        self.driver = fleet.head.start(*command, environment=fleet.environment, log=folder / "log")

    def lines(self) -> list[dict[str, Any]]:
        return read_journal(self.toy.journal) if Path(self.toy.journal).is_dir() else []

    def reach(self, step: int) -> None:
        until(
            lambda: any(x.get("step", 0) >= step for x in self.lines()), f"step {step}", self.folder / "log"
        )

    def end(self) -> dict[str, Any]:
        status = self.driver.wait(timeout=300)
        assert status == 0, (self.folder / "log").read_text()[-4000:]
        return json.loads((self.folder / "result.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(fleet: Hosts, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Run(fleet, tmp_path_factory.mktemp("undisturbed") / "run").end()


def nodes_of(run: Run) -> set[str]:
    return {line["node"] for line in run.lines() if "step" in line}


def test_workers_are_on_two_hosts(fleet: Hosts, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """And meet on their own addresses: nothing of them could reach another host by a loopback address."""
    run = Run(fleet, tmp_path / "run")
    run.reach(5)
    assert len(nodes_of(run)) == 2
    here = {pid for worker in fleet.workers for pid in worker.pids()}
    assert {line["pid"] for line in run.lines()} <= here
    outcome = run.end()
    assert {k: outcome[k] for k in BITWISE} == {k: undisturbed[k] for k in BITWISE}


def test_a_short_cut_is_ridden_out(fleet: Hosts, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    run = Run(fleet, tmp_path / "run")
    run.reach(40)
    fleet.workers[1].cut()
    time.sleep(2.0)
    fleet.workers[1].mend()
    outcome = run.end()
    assert outcome["consumed_once"]
    assert {k: outcome[k] for k in BITWISE} == {k: undisturbed[k] for k in BITWISE}


def test_a_long_cut_costs_a_restart(fleet: Hosts, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """The node is given up, comes back as a new one, and the training goes on from its checkpoint."""
    run = Run(fleet, tmp_path / "run")
    run.reach(40)
    lost = fleet.workers[1]
    lost.cut()
    until(lambda: fleet.count() == 2, "the loss", run.folder / "log")
    lost.clear()
    lost.mend()
    fleet.join(lost)
    outcome = run.end()
    assert outcome["consumed_once"]
    assert {k: outcome[k] for k in BITWISE} == {k: undisturbed[k] for k in BITWISE}
    restarts = [line for line in run.lines() if line.get("resumed")]
    assert restarts, "the training was never interrupted"
    assert len(nodes_of(run)) == 3


def test_a_cloud_s_notice_reaches_the_training(
    fleet: Hosts, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    """A metadata service on the host itself says so; the watcher drains the node; no step is done again."""
    going = fleet.workers[0]
    said = tmp_path / "metadata" / "computeMetadata" / "v1" / "instance" / "preempted"
    said.parent.mkdir(parents=True)
    said.write_text("FALSE")
    serve = [sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1", "--directory"]
    going.start(*serve, str(tmp_path / "metadata"), environment=fleet.environment, log=tmp_path / "log")
    asks = {"RAYSCAN_METADATA_URL": "http://127.0.0.1:8080", "RAY_ADDRESS": fleet.address}
    watcher = [sys.executable, "-m", "rayscan.fleet.spot"]
    going.start(*watcher, environment={**fleet.environment, **asks}, log=tmp_path / "log")
    run = Run(fleet, tmp_path / "run")
    run.reach(40)
    said.write_text("TRUE")
    names = tmp_path / "run" / "out"
    until(lambda: is_still(run), "the checkpoint and the stop", run.folder / "log")
    last = max(line["step"] for line in run.lines() if "step" in line)
    assert any(int(p.name.split("-")[1]) >= last - 1 for p in names.glob("step-*")), "not just in time"
    going.clear()
    fleet.join(going)
    outcome = run.end()
    assert {k: outcome[k] for k in BITWISE} == {k: undisturbed[k] for k in BITWISE}
    taken_up = [line["resumed"] for line in run.lines() if line.get("resumed")]
    assert min(taken_up) >= last - 1


def is_still(run: Run) -> bool:
    """Whether no step has been taken for some seconds."""
    return time.time() - max(line["time"] for line in run.lines()) > 4.0
