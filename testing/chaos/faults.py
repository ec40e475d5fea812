"""What can befall a training, each a function of a campaign's setting and of chance."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rayscan.fleet.train import STACKS
from testing.chaos.machines import ROOT, Machines, environment_here, kill, machines
from testing.chaos.records import WHOLE, plant
from testing.chaos.store import Line
from testing.chaos.toy import Toy
from testing.chaos.trial import Trial, is_same

NOTICE_SECONDS = 10.0
TICK_SECONDS = 21.0
"""Ray Train looks at the cluster every 20 s."""
TMPFS_BYTES = 1_000_000


@dataclass
class Setting:
    """What every fault of a campaign shares."""

    machines: Machines
    folder: Path
    line: Line
    reference: Mapping[str, Any]
    """Outcome of the undisturbed training."""
    mined: Mapping[str, Any]
    """Outcome of the undisturbed search for neighbors."""
    toy: Toy

    def trial(self, name: str, *, fleet: dict[str, Any] | None = None, **toy: Any) -> Trial:
        """A fresh training in a directory of its own."""
        folder = self.folder / name
        made = replace(self.toy, journal=str(folder / "journal"), **({"out": str(folder / "out")} | toy))
        return Trial(self.machines, folder, made, fleet or {})


Row = dict[str, Any]
Fault = Callable[[Setting, random.Random, str], Row]


def judged(trial: Trial, setting: Setting, *, is_bitwise: bool = True, **more: Any) -> Row:
    """Wait for the end; oracles and cost."""
    outcome = trial.end()
    exact_w = is_same(outcome, setting.reference) if is_bitwise and "error" not in outcome else None
    row = {"exact_s": outcome.get("consumed_once", False), "exact_w": exact_w, **trial.cost(), **more}
    row |= {"torn_loads": trial.torn_loads(), "orphans": trial.orphans()}
    if "error" in outcome:
        row["error"] = outcome["text"][:500]
    return row


def when(setting: Setting, chance: random.Random) -> int:
    """A step in the middle of the training: some checkpoints lie before it, work after it."""
    return chance.randrange(setting.toy.steps // 4, setting.toy.steps * 3 // 4)


def worker_kill(setting: Setting, chance: random.Random, name: str) -> Row:
    """SIGKILL of a worker: at any moment, or between the two files of a checkpoint."""
    if chance.random() < 0.3:
        trial = setting.trial(name, die_in_write=when(setting, chance)).start()
        mark = Path(trial.toy.journal) / "died"
        while not mark.exists():
            trial.until(0)
            time.sleep(0.02)
        trial.struck = mark.stat().st_mtime
        return judged(trial, setting, where="inside a checkpoint")
    trial = setting.trial(name).start()
    trial.until(when(setting, chance))
    pid = trial.worker(chance.randrange(2))["pid"]
    trial.strike()
    kill(pid)
    return judged(trial, setting)


def worker_hang(setting: Setting, chance: random.Random, name: str) -> Row:
    """SIGSTOP of a worker: the other waits in a collective until its time is over, and says where."""
    trial = setting.trial(name, fleet={"collective_seconds": 10.0}).start()
    trial.until(when(setting, chance))
    pid = trial.worker(chance.randrange(2))["pid"]
    trial.strike()
    kill(pid, signal.SIGSTOP)
    try:
        row = judged(trial, setting)
    finally:
        kill(pid)
    found = [path.read_text() for path in Path(trial.toy.out, ".work", STACKS).glob("toy-worker-*.txt")]
    waits = ("in all_reduce", "in all_gather", "in backward")
    return row | {"stacks": sum(any(wait in text for wait in waits) for text in found)}


def node_spare(setting: Setting, chance: random.Random, name: str) -> Row:
    """A node is gone at once; another waits."""
    setting.machines.fill(3)
    trial = setting.trial(name).start()
    trial.until(when(setting, chance))
    worker = trial.worker(chance.randrange(2))
    trial.strike()
    setting.machines.lose(setting.machines.node(worker["node"]), worker["pid"])
    return judged(trial, setting)


def shrink(setting: Setting, chance: random.Random, name: str) -> Row:
    """A node is gone and none waits: the training goes on with one worker."""
    setting.machines.fill(2)
    time.sleep(TICK_SECONDS)  # else it may begin with one
    trial = setting.trial(name, fleet={"min_workers": 1}).start()
    trial.until(when(setting, chance))
    worker = trial.worker(chance.randrange(2))
    trial.strike()
    setting.machines.lose(setting.machines.node(worker["node"]), worker["pid"])
    return judged(trial, setting, is_bitwise=False)


def notice(setting: Setting, chance: random.Random, name: str) -> Row:
    """A spot notice: the node is taken when its time is over; another waits."""
    setting.machines.fill(3)
    trial = setting.trial(name, fleet={"max_failures": 0}).start()
    trial.until(when(setting, chance))
    node = setting.machines.node(trial.worker(chance.randrange(2))["node"])
    trial.strike()
    setting.machines.drain(node, NOTICE_SECONDS)
    time.sleep(NOTICE_SECONDS)
    setting.machines.lose(node)
    return judged(trial, setting)


def driver(setting: Setting, chance: random.Random, name: str) -> Row:
    """SIGKILL of the driver, and Ray's own record of the run torn; the same command again."""
    trial = setting.trial(name).start()
    trial.until(when(setting, chance))
    assert trial.driver is not None
    trial.strike()
    kill(trial.driver.pid)
    trial.driver.wait()
    torn = plant(Path(trial.toy.out), "toy", [chance.randrange(1 + len(WHOLE))])
    return judged(trial.start(), setting, records_torn=torn)


def head(setting: Setting, chance: random.Random, name: str) -> Row:
    """The head dies with everything on it; a new fleet, the same command."""
    with machines(2) as first:
        trial = setting.trial(name)
        trial.machines = first
        trial.start().until(when(setting, chance))
        assert trial.driver is not None
        trial.strike()
        kill(trial.driver.pid)
        first.cluster.remove_node(first.cluster.head_node, allow_graceful=False)
        trial.driver.wait()
    trial.machines = setting.machines
    return judged(trial.start(), setting)


def shard_actor(setting: Setting, chance: random.Random, name: str) -> Row:
    """Shard actors of a search are killed between its blocks."""
    began = time.monotonic()
    found = mine(setting.machines, setting.folder / name, chance.randint(1, 3), chance.randrange(1 << 30))
    is_equal = found["sha256"] == setting.mined["sha256"]
    took = round(time.monotonic() - began, 3)
    return {"exact_s": is_equal, "exact_w": is_equal, "seconds": took, "killed": found["killed"]}


def mine(where: Machines, folder: Path, deaths: int, seed: int) -> dict[str, Any]:
    """A search in a driver of its own."""
    command = [sys.executable, "-m", "testing.chaos.mining", where.address, str(folder)]
    done = subprocess.run(
        [*command, str(deaths), str(seed)],
        cwd=ROOT,
        env=environment_here(),
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def disk(setting: Setting, chance: random.Random, name: str) -> Row:
    """The disk of the checkpoints is full for a while; in half of the cases a worker dies meanwhile."""
    with tmpfs() as mounted:
        trial = setting.trial(name, out=str(mounted)).start()
        trial.until(when(setting, chance))
        filler = mounted / "filler"
        trial.strike()
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
        trial.until(trial.worker(0)["step"] + 10, after=trial.struck)  # it trains on
        if chance.random() < 0.5:
            kill(trial.worker(chance.randrange(2))["pid"])
            time.sleep(1.0)
        filler.unlink()
        return judged(trial, setting)


@contextlib.contextmanager
def tmpfs() -> Iterator[Path]:
    """A small disk of its own; needs root."""
    folder = tempfile.mkdtemp(prefix="small-disk-")
    size = f"size={TMPFS_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "rayscan", folder], check=True, capture_output=True)
    try:
        yield Path(folder)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        Path(folder).rmdir()


def store(setting: Setting, chance: random.Random, name: str) -> Row:
    """The store of the checkpoints is away for a while, and a worker dies in that time."""
    trial = setting.trial(name, out=setting.line.uri(name)).start()
    trial.until(when(setting, chance))
    seconds = chance.uniform(5.0, 30.0)
    trial.strike()
    setting.line.is_cut = True
    threading.Timer(seconds, lambda: setattr(setting.line, "is_cut", False)).start()
    try:
        if chance.random() < 0.5:
            kill(trial.worker(chance.randrange(2))["pid"])
        return judged(trial, setting, away_seconds=round(seconds, 1))
    finally:
        setting.line.is_cut = False


def store_gone(setting: Setting, chance: random.Random, name: str) -> Row:
    """The store is away for longer than anybody waits: a clean end; then the same command again."""
    # slow, and cut early: else it may be done while the removal of old checkpoints waits for the store
    short_deadlines = {"patience_seconds": 0.0, "store_patience_seconds": 2.0, "step_seconds": 0.2}
    trial = setting.trial(name, out=setting.line.uri(name), **short_deadlines).start()
    trial.until(when(setting, chance) // 2)
    trial.strike()
    setting.line.is_cut = True
    try:
        ended = trial.end()
    finally:
        setting.line.is_cut = False
    if ended.get("error") != "ArtifactError":
        return {"exact_s": False, "exact_w": False, "error": f"it should have ended, not: {ended}"[:500]}
    (trial.folder / "result.json").unlink()
    row = judged(trial.start(), setting, ended_with=ended["text"].splitlines()[0])
    # trained on without a store until patience ended: its length, not that of an interval, says how much
    return row | {"lost_intervals": None, "intervals_without_store": row["lost_intervals"]}


def not_finite(setting: Setting, chance: random.Random, name: str) -> Row:
    """The loss of one worker, or of all, is not a number, once."""
    toy = {"nan_at": when(setting, chance), "nan_rank": chance.choice((-1, 0, 1)), "nan_times": 1}
    trial = setting.trial(name, **toy).start()
    row = judged(trial, setting, worker=toy["nan_rank"])
    taken = [line["step"] for line in trial.lines() if line["rank"] == 0 and "step" in line]
    lost = len(taken) - len(set(taken))
    return row | {"lost_steps": lost, "exact_s": row["exact_s"] and lost > 0}


CLASSES: Mapping[str, Fault] = {
    "worker_kill": worker_kill,
    "worker_hang": worker_hang,
    "node_spare": node_spare,
    "shrink": shrink,
    "notice": notice,
    "driver": driver,
    "head": head,
    "shard_actor": shard_actor,
    "disk": disk,
    "store": store,
    "store_gone": store_gone,
    "not_finite": not_finite,
}
