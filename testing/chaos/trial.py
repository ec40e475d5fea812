"""One training of the toy in a driver of its own, watched from outside, and what a fault cost it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from testing.chaos.machines import Machines, kill, start_driver
from testing.chaos.toy import Toy, read_journal

LONGEST_SECONDS = 240.0
"""A trial that takes longer counts as an unbounded wait."""

ORPHAN_SECONDS = 20.0
"""Longest time after its end in which a training's workers may still be about to leave."""

Line = dict[str, Any]


class StuckError(AssertionError):
    """A wait that should have ended has not."""


@dataclass
class Trial:
    """A training under way."""

    machines: Machines
    folder: Path
    toy: Toy
    fleet: dict[str, Any] = field(default_factory=dict)
    driver: subprocess.Popen[bytes] | None = None
    struck: float = 0.0
    """When the fault came, seconds of the epoch."""

    def start(self) -> Trial:
        """Start the driver; a second call is the same command again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        fleet = {"address": self.machines.address, "num_workers": 2, **self.fleet}
        spec = {"toy": asdict(self.toy), "fleet": fleet, "result": str(self.folder / "result.json")}
        (self.folder / "spec.json").write_text(json.dumps(spec))
        self.driver = start_driver(self.folder / "spec.json", self.folder / "log")
        return self

    def lines(self) -> list[Line]:
        """Journal of all workers so far."""
        return read_journal(self.toy.journal) if Path(self.toy.journal).is_dir() else []

    def until(self, step: int, *, after: float = 0.0) -> None:
        """Wait until a step has been taken after a time."""
        assert self.driver is not None
        deadline = time.monotonic() + LONGEST_SECONDS
        while not any(line.get("step", -1) >= step and line["time"] > after for line in self.lines()):
            if self.driver.poll() is not None:
                raise AssertionError(f"the driver ended before step {step}\n{self.log()}")
            if time.monotonic() > deadline:
                raise StuckError(f"step {step} never came\n{self.log()}")
            time.sleep(0.02)

    def worker(self, rank: int) -> Line:
        """The newest line of a rank: its pid and node."""
        return [line for line in self.lines() if line["rank"] == rank and "step" in line][-1]

    def strike(self) -> None:
        """The fault comes now."""
        self.struck = time.time()

    def end(self) -> dict[str, Any]:
        """Wait for the driver; what it wrote."""
        assert self.driver is not None
        try:
            self.driver.wait(LONGEST_SECONDS)
        except subprocess.TimeoutExpired as error:
            kill(self.driver.pid)
            self.driver.wait()
            raise StuckError(f"the driver never ended\n{self.log()}") from error
        path = self.folder / "result.json"
        if not path.exists():
            raise AssertionError(f"no result, exit status {self.driver.returncode}\n{self.log()}")
        outcome: dict[str, Any] = json.loads(path.read_text())
        return outcome

    def log(self) -> str:
        """The end of what the driver said."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def torn_loads(self) -> int:
        """Resumptions from weights that no worker had after that step."""
        had: dict[int, set[str]] = {}
        for line in self.lines():
            if "step" in line:
                had.setdefault(line["step"], set()).add(line["weights"])
        taken_up = [line for line in self.lines() if line.get("resumed")]
        return sum(line["weights"] not in had.get(line["resumed"], set()) for line in taken_up)

    def orphans(self) -> int:
        """Workers of this training that are still there some seconds after its end."""
        pids = {line["pid"] for line in self.lines()}
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := sum(is_alive(pid) for pid in pids)) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def cost(self) -> dict[str, Any]:
        """What the fault cost: seconds without a new step, and steps that were done again.

        `gap_seconds` runs from the fault to the first step of the group that was started after it.
        """
        steps = [line for line in self.lines() if "step" in line]
        before = [line for line in steps if line["time"] <= self.struck]
        restarts = [line["time"] for line in self.lines() if "resumed" in line and line["time"] > self.struck]
        if not before or not restarts:
            return {"gap_seconds": None, "lost_steps": 0, "lost_intervals": 0.0}
        group = [line for line in steps if line["time"] > min(restarts)]
        resumed = min(line["resumed"] for line in self.lines() if line["time"] in restarts)
        last = max((line for line in steps if line["time"] <= min(restarts)), key=lambda line: line["step"])
        reached = [line for line in steps if line["step"] == resumed and line["time"] <= min(restarts)]
        lost = last["time"] - reached[0]["time"] if reached else 0.0
        return {
            "gap_seconds": round(group[0]["time"] - self.struck, 3) if group else None,
            "lost_steps": last["step"] - resumed,
            "lost_intervals": round(lost / self.toy.every_seconds, 3),
            "worlds": sorted({line["world"] for line in group}),
        }


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_same(outcome: Mapping[str, Any], reference: Mapping[str, Any]) -> bool:
    """Oracle W: weights, optimizer and history to the bit."""
    return all(outcome.get(key) == reference[key] for key in ("weights", "optimizer", "history"))


def farthest(outcome: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    """Largest difference of a weight, relative to the largest of its tensor."""
    worst = 0.0
    for name, values in reference["values"].items():
        scale = max(abs(v) for v in values) or 1.0
        worst = max(
            worst, *(abs(a - b) / scale for a, b in zip(outcome["values"][name], values, strict=True))
        )
    return worst
