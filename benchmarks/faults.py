"""Seeded random faults on a fleet of several nodes on this machine, and what each of them cost.

    python -m benchmarks.faults --json F [--quick] [--classes worker_kill,driver] [--each N] [--seed S]

Trains a toy net (19 steps x 6 epochs of 0.05 s, two workers, a checkpoint every second) through the real
engine, Ray Train and storage, in a driver of its own, and lets one fault befall each training. Faults are
stratified by class, never pooled: `faults` = classes x each (20 each without --quick: 240). Two oracles: S,
every (epoch, gid) was consumed exactly once in committed history; W, weights, optimizer and metrics equal to
the bit those of a training that nothing befell (not promised after a shrink). `torn_loads` counts resumptions
from weights that were not those of that step. `max_lost_intervals` leaves out `store_gone`, where training
goes on for as long as its patience with the store lasts, and then loses that. Seconds are wall-clock on this
machine, with everything of all nodes on its cores.

A campaign can be cut and goes on: finished faults are kept in F.rows.jsonl. --quick: 16 faults, all classes.

The goodput model is a model, not a measurement: 1 - stall - (interval / 2 + restart) / MTBF, with a
checkpoint interval of 30 s (the default), the larger of the measured median gaps as restart, and no stall,
because writing is off the step path; MTBF is 3 h and 10 min.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import Report, options
from testing.chaos.faults import CLASSES, Row, Setting, mine
from testing.chaos.machines import machines
from testing.chaos.store import CREDENTIALS, Line, service
from testing.chaos.toy import Toy
from testing.chaos.trial import StuckError, Trial

QUICK = {"worker_kill": 3, "node_spare": 2, "notice": 2}
EACH = 20
INTERVAL_SECONDS = 30.0
MTBF_SECONDS = {"goodput_model_3h": 3 * 3600.0, "goodput_model_10min": 600.0}
NODES = 2


@dataclass(frozen=True)
class Campaign:
    """Which faults, and where the finished ones are kept."""

    plan: tuple[tuple[str, int], ...]
    """(class, number) of every fault."""
    seed: int
    rows: Path

    def done(self) -> list[Row]:
        """Faults of this plan that have befallen already."""
        if not self.rows.exists():
            return []
        kept = [json.loads(line) for line in self.rows.read_text().splitlines() if line.endswith("}")]
        return [r for r in kept if (r["class"], r["number"]) in self.plan and r["seed"] == self.seed]

    def left(self) -> list[tuple[str, int]]:
        """Faults still to come; classes take turns, so that a campaign that is cut has some of each."""
        known = {(row["class"], row["number"]) for row in self.done()}
        return sorted((fault for fault in self.plan if fault not in known), key=lambda f: (f[1], f[0]))


def main() -> None:
    """Run the campaign and report."""
    campaign, rest = arguments(sys.argv[1:])
    asked = options(__doc__, rest)
    report = Report(asked, "faults")
    if campaign.left():
        with setting() as shared:
            for kind, number in campaign.left():
                row = befall(shared, campaign, kind, number)
                with campaign.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
    summarise(report, campaign.done())
    report.finish()


def arguments(given: Sequence[str]) -> tuple[Campaign, list[str]]:
    """The options of this benchmark, and those that all share."""
    import argparse

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--classes", default=",".join(CLASSES))
    parser.add_argument("--each", type=int)
    parser.add_argument("--seed", type=int, default=0)
    mine_, rest = parser.parse_known_args(list(given))
    quick = "--quick" in rest
    counts = {
        kind: mine_.each or (QUICK.get(kind, 1) if quick else EACH) for kind in mine_.classes.split(",")
    }
    place = rest[rest.index("--json") + 1] if "--json" in rest else f"{tempfile.mkdtemp()}/faults.json"
    rows = Path(f"{place}.rows.jsonl")
    rows.parent.mkdir(parents=True, exist_ok=True)
    plan = tuple((kind, number) for kind, count in counts.items() for number in range(count))
    return Campaign(plan, mine_.seed, rows), rest


@contextlib.contextmanager
def setting() -> Iterator[Setting]:
    """The fleet, the store, and what trainings end with when nothing befalls them."""
    os.environ.update(CREDENTIALS, RAYSCAN_STORE_PATIENCE_SECONDS="90")
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        service() as where,
        machines(NODES) as fleet,
    ):
        toy = Toy(out="", journal="", epochs=6)
        line = Line(where)
        shared = Setting(fleet, Path(folder), line, {}, {}, toy)
        shared.reference = undisturbed(shared.trial("reference"))
        (Path(folder) / "mined").mkdir()
        shared.mined = mine(fleet, Path(folder) / "mined", 0, 0)
        yield shared
        line.close()


def undisturbed(trial: Trial) -> dict[str, Any]:
    """Outcome of a training that nothing befalls."""
    outcome = trial.start().end()
    assert outcome["consumed_once"], outcome
    return outcome


def befall(shared: Setting, campaign: Campaign, kind: str, number: int) -> Row:
    """One fault; what goes wrong with it is a result, not an end."""
    chance = random.Random(f"{campaign.seed}/{kind}/{number}")
    row: Row = {"class": kind, "number": number, "seed": campaign.seed, "stuck": False}
    shared.machines.fill(NODES)
    began = time.monotonic()
    try:
        row |= CLASSES[kind](shared, chance, f"{kind}-{number}")
    except StuckError as error:
        row |= {"exact_s": False, "exact_w": False, "stuck": True, "error": str(error)[-1500:]}
    except Exception:
        row |= {"exact_s": False, "exact_w": False, "error": traceback.format_exc()[-3000:]}
    return row | {"took_seconds": round(time.monotonic() - began, 1), "load": os.getloadavg()[0]}


def summarise(report: Report, rows: Sequence[Row]) -> None:
    """The numbers of the campaign."""
    exact = [r for r in rows if r["exact_s"] and r["exact_w"] in (True, None)]
    report.value("faults", len(rows), goal=(">=", 10 if report.asked.quick else 200))
    report.value("exact", len(exact), goal=(">=", len(rows)))
    gaps = {}
    for key, kind, bound in (
        ("gap_worker_kill_seconds", "worker_kill", 10.0),
        ("gap_node_spare_seconds", "node_spare", 15.0),
        ("gap_shrink_seconds", "shrink", 45.0),
    ):
        found = [r["gap_seconds"] for r in rows if r["class"] == kind and r.get("gap_seconds") is not None]
        gaps[key] = statistics.median(found) if found else None
        report.value(key, gaps[key], goal=("<=", bound))
    noticed = [r["lost_steps"] for r in rows if r["class"] == "notice" and "lost_steps" in r]
    report.value("max_lost_steps_with_notice", max(noticed, default=None), goal=("<=", 1))
    lost = [r["lost_intervals"] for r in rows if r.get("lost_intervals") is not None]
    report.value("max_lost_intervals", max(lost, default=None), goal=("<=", 2))
    report.value("torn_loads", sum(r.get("torn_loads", 0) for r in rows), goal=("<=", 0))
    report.value("unbounded_waits", sum(r["stuck"] for r in rows), goal=("<=", 0))
    restart = max((g for k, g in gaps.items() if g is not None and k != "gap_shrink_seconds"), default=None)
    for key, mtbf in MTBF_SECONDS.items():
        model = None if restart is None else 1 - (INTERVAL_SECONDS / 2 + restart) / mtbf
        report.value(key, model, goal=(">=", 0.98 if mtbf > 3600 else 0.85))
    report.detail("orphans", sum(r.get("orphans", 0) for r in rows))
    report.detail("is_a_model", list(MTBF_SECONDS))
    report.detail("by_class", {kind: [r for r in rows if r["class"] == kind] for kind in CLASSES})


if __name__ == "__main__":
    main()
