"""What the code of a worker raises under the real Ray Train: tried again once, then the training ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from rayscan.config import FleetConfig
from rayscan.engine import watchdog
from rayscan.errors import FleetError
from rayscan.fleet.connect import Fleet
from rayscan.fleet.train import train
from rayscan.fleet.worker import Worker
from rayscan.storage import Place

STEPS = 8


@dataclass(frozen=True)
class Plan:
    """What each start of a training does, and where it leaves a mark."""

    folder: Path
    what: str
    at: tuple[int, ...]
    """Step at which each start raises; -1: before the first step. Later ones go through."""


class NotToBePickledError(Exception):
    """Takes two arguments and keeps one, so that unpickling it fails."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)
        self.second = second


def the_users_own_code(what: str) -> None:
    if what == "type":
        len(3)  # type: ignore[arg-type]
    elif what == "memory":
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    elif what == "unpickled":
        raise NotToBePickledError("not to be", "pickled")
    else:
        time.sleep(3.0)  # Ray Train takes the death of a worker for its own failure while it starts the group
        os.kill(os.getpid(), signal.SIGKILL)


def work(plan: Plan, worker: Worker) -> dict[str, Any]:
    mine = plan.folder / f"starts-{worker.rank}"
    start = len(mine.read_bytes()) if mine.exists() else 0
    mine.write_bytes(bytes(start + 1))
    at = plan.at[start] if start < len(plan.at) else STEPS
    if at < 0 and worker.rank:
        the_users_own_code(plan.what)
    for step in range(STEPS):
        watchdog.heartbeat(step)
        if step == at and worker.rank:
            the_users_own_code(plan.what)
        torch.distributed.barrier()
        worker.report({"step": step + 1, "total": STEPS})
    return {"start": start}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    out = Place(str(tmp_path_factory.mktemp("exceptions") / "run"))
    with Fleet(FleetConfig(num_workers=2, collective_seconds=60.0), out) as fleet:
        yield fleet


def starts(plan: Plan) -> int:
    return len((plan.folder / "starts-1").read_bytes())


def ended(fleet: Fleet, plan: Plan) -> str:
    with pytest.raises(FleetError) as caught:
        train(fleet, work, plan, name="scan", on_facts=lambda _: None)
    return str(caught.value)


@pytest.mark.parametrize("at", [3, pytest.param(-1, marks=pytest.mark.soak)])
def test_an_exception_that_comes_again_ends_the_second_attempt(fleet: Fleet, tmp_path: Path, at: int) -> None:
    plan = Plan(tmp_path, "type", (at,) * 9)
    said = ended(fleet, plan)
    assert starts(plan) == 2
    assert said.startswith("training scan: TypeError: object of type 'int' has no len()")
    assert "in the_users_own_code" in said
    assert "len(3)" in said
    assert "worker 1" in said
    assert ("at step 3" if at >= 0 else "before the first step") in said
    assert "keep dying" not in said


def test_out_of_memory_says_what_to_lower(fleet: Fleet, tmp_path: Path) -> None:
    plan = Plan(tmp_path, "memory", (0,) * 9)
    said = ended(fleet, plan)
    assert starts(plan) == 2
    assert "Tried to allocate 20.00 GiB" in said
    assert "--scan.batch-size" in said
    assert "--pretext.accumulate-steps" in said


@pytest.mark.soak
def test_one_that_cannot_be_pickled_is_told_all_the_same(fleet: Fleet, tmp_path: Path) -> None:
    plan = Plan(tmp_path, "unpickled", (2,) * 9)
    said = ended(fleet, plan)
    assert starts(plan) == 2
    assert "training scan: NotToBePickledError: not to be" in said


@pytest.mark.parametrize("what", [pytest.param("type", marks=pytest.mark.soak), "death"])
def test_one_that_does_not_come_again_costs_an_attempt(fleet: Fleet, tmp_path: Path, what: str) -> None:
    at = (2, 5) if what == "type" else (3, 3)  # deaths may come again where they were
    plan = Plan(tmp_path, what, at)
    returned = train(fleet, work, plan, name="scan", on_facts=lambda _: None)
    assert starts(plan) == len(at) + 1
    assert returned == {"start": len(at)}
