"""A worker dies, a node is announced to go: the training ends with the same bits, every image consumed once.

The longer ones (`pytest -m soak tests/nodes/test_recovery.py`) lose nodes, drivers, disks, stores, and shrink
and grow in mid-epoch. What an undisturbed training ends with is found without Ray, by two processes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayscan.fleet.worker import Worker
from testing.chaos import faults
from testing.chaos.faults import Setting
from testing.chaos.machines import kill, machines
from testing.chaos.records import WHOLE, plant, records
from testing.chaos.store import CREDENTIALS, Line, service
from testing.chaos.toy import Toy, train_toy
from testing.chaos.trial import LONGEST_SECONDS, Trial, farthest
from tests.gloo.world import run_in_world

TOY = Toy(out="", journal="", epochs=6)
pytestmark = pytest.mark.timeout(600)


def train_here(rank: int, toy: Toy, world: int) -> dict[str, Any]:
    """The toy without Ray: nothing but the engine and gloo."""
    return train_toy(toy, Worker(rank, world, "cpu", lambda _: None))


def undisturbed(folder: Path, toy: Toy, world: int) -> dict[str, Any]:
    quick = replace(toy, out=str(folder / "out"), journal=str(folder / "journal"), step_seconds=0.0)
    if world == 1:
        return train_here(0, quick, 1)
    return run_in_world(world, train_here, quick, world)[0]


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    reference = undisturbed(tmp_path_factory.mktemp("undisturbed"), TOY, 2)
    before = {name: os.environ.get(name) for name in CREDENTIALS}
    os.environ.update(CREDENTIALS)
    with service() as where, machines(2) as fleet:
        line = Line(where)
        yield Setting(fleet, tmp_path_factory.mktemp("faults"), line, reference, {}, TOY)
        line.close()
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


def held(row: dict[str, Any], *, is_bitwise: bool = True) -> dict[str, Any]:
    """Both oracles."""
    assert row["exact_s"], row
    assert row["exact_w"] is (True if is_bitwise else None), row
    assert (row["torn_loads"], row["orphans"]) == (0, 0), row
    return row


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(setting: Setting) -> None:
    trial = setting.trial("kill").start()
    trial.until(30)
    pid = trial.worker(1)["pid"]
    trial.strike()
    kill(pid)
    row = held(faults.judged(trial, setting))
    assert row["gap_seconds"] > 0, "it was started again"
    assert 0 <= row["lost_steps"] < 30, "none, where the last step before had just been kept"


@pytest.mark.soak
def test_a_notice_costs_no_step(setting: Setting) -> None:
    """A checkpoint just in time, and a move that is no failure: `max_failures` is 0 here."""
    row = held(faults.notice(setting, random.Random(1), "notice"))
    assert row["lost_steps"] <= 1
    setting.machines.fill(2)


@pytest.mark.soak
@pytest.mark.parametrize(
    "kind", ["worker_kill", "node_spare", "driver", "head", "disk", "store", "store_gone"]
)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_bits_whatever_befalls(setting: Setting, kind: str, seed: int) -> None:
    setting.machines.fill(2)
    held(faults.CLASSES[kind](setting, random.Random(seed), f"{kind}-{seed}"))


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_who_waits_for_a_hung_worker_says_where_before_it_is_given_up(setting: Setting, seed: int) -> None:
    setting.machines.fill(2)
    row = held(faults.worker_hang(setting, random.Random(seed), f"hang-{seed}"))
    assert row["stacks"] == 1


@pytest.mark.soak
def test_a_death_inside_a_checkpoint_is_survived(setting: Setting) -> None:
    trial = setting.trial("in-write", die_in_write=40).start()
    trial.strike()
    row = held(faults.judged(trial, setting))
    assert (Path(trial.toy.journal) / "died").exists()
    assert row["torn_loads"] == 0


@pytest.mark.soak
def test_ray_s_own_record_torn_at_any_byte_changes_nothing(setting: Setting) -> None:
    """Ray Train resumes by a file that it rewrites in place, and cannot start from half of one."""
    trial = setting.trial("torn-record").start()
    trial.until(60)
    assert trial.driver is not None
    assert records(Path(trial.toy.out)) == [], "Ray keeps something of ours"
    trial.strike()
    kill(trial.driver.pid)
    trial.driver.wait()
    assert plant(Path(trial.toy.out), "toy", range(len(WHOLE) + 1)) > len(WHOLE)
    row = held(faults.judged(trial.start(), setting))
    assert row["lost_steps"] < 60, "it went on, not back to the start"


@pytest.mark.soak
def test_a_loss_that_is_no_number_again_ends_the_run(setting: Setting) -> None:
    trial = setting.trial("nan", nan_at=25, nan_rank=1).start()
    outcome = trial.end()
    assert outcome["error"] == "DataError"
    assert "not finite: the second time at this step" in outcome["text"]
    assert "step 25" in outcome["text"]
    assert len({line["pid"] for line in trial.lines()}) == 2, "workers were started again for nothing"


@pytest.mark.soak
def test_a_loss_that_is_no_number_once_changes_nothing(setting: Setting) -> None:
    trial = setting.trial("nan-once", nan_at=25, nan_rank=1, nan_times=1).start()
    trial.strike()
    held(faults.judged(trial, setting))
    taken = [line["step"] for line in trial.lines() if "step" in line]
    assert taken.count(26) == 4, "two workers, twice"
    assert len({line["pid"] for line in trial.lines()}) == 2


@pytest.mark.soak
def test_without_a_machine_the_wait_ends(setting: Setting) -> None:
    """A deadline instead of waiting for ever; with a machine the same command ends with the same bits."""
    setting.machines.fill(1)
    trial = setting.trial("pending", fleet={"pending_seconds": 20.0}).start()
    outcome = trial.end()
    assert outcome["error"] == "FleetError"
    assert "no machine came" in outcome["text"]
    setting.machines.fill(2)
    trial.fleet = {}
    held(faults.judged(trial.start(), setting))


@pytest.mark.soak
def test_two_one_two_workers_in_mid_epoch(setting: Setting, tmp_path: Path) -> None:
    """S exactly; weights equal to one worker's in float64 (rtol 1e-9); no step is skipped or done in part."""
    toy = replace(TOY, epochs=8, step_seconds=0.08, is_double=True)
    reference = undisturbed(tmp_path, toy, 1)
    setting.machines.fill(2)
    trial: Trial = setting.trial("elastic", fleet={"min_workers": 1})
    trial.toy = replace(toy, out=trial.toy.out, journal=trial.toy.journal, hold_at=75)
    trial.start()
    wait_for(trial, lambda: newest(trial) % 19 != 0)  # a checkpoint in the middle of an epoch
    worker = trial.worker(1)
    trial.strike()
    setting.machines.lose(setting.machines.node(worker["node"]), worker["pid"])
    alone = grown_to(trial, 1)
    wait_for(trial, lambda: newest(trial) > alone)
    setting.machines.fill(2)
    together = grown_to(trial, 2)
    outcome = trial.end()
    assert alone % 19 and together % 19, "cut at the end of an epoch"
    assert alone < together <= 75
    assert outcome["consumed_once"]
    assert farthest(outcome, reference) < 1e-9
    assert trial.torn_loads() == 0
    steps = [(line["world"], line["step"]) for line in trial.lines() if "step" in line]
    by_world = {world: [step for of, step in steps if of == world] for world in (1, 2)}
    assert max(by_world[1]) >= together, "nothing was done alone"
    assert max(by_world[2]) == toy.steps


def wait_for(trial: Trial, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, trial.log()
        trial.until(0)
        time.sleep(0.02)


def newest(trial: Trial) -> int:
    """Step of the newest whole checkpoint; 0 if there is none."""
    found = Path(trial.toy.out).glob("step-*/meta.json")
    return max((int(path.parent.name.split("-")[1]) for path in found), default=0)


def grown_to(trial: Trial, world: int) -> int:
    """Wait until a group of this size has taken up the training after the fault; where it did."""
    before = len(trial.lines())
    while True:
        trial.until(0)
        found = [x for x in trial.lines()[before:] if "resumed" in x and x["world"] == world]
        if found:
            return int(found[0]["resumed"])
