"""What the fleet costs beside the work: a workload that sleeps instead of computing, so the rest is ours.

    python -m benchmarks.scaling --json F [--quick]

`overhead_per_step_ms`: a step of the training loop with 1 worker, less its sleep of 250 ms: feed, loss, DDP,
optimizer, metrics, board. `efficiency_4`: images/s of 4 workers over 4 times those of 1, each worker sleeping
the same for its own images; 2 workers stand beside. 40 steps (quick: 20) after 5, by the clock of worker 0.
`checkpoint_stall_fraction`: how much longer a checkpoint of a ResNet-50 with momentum makes the steps around
it (the copy, then sharing the machine with the writer for 60 steps, quick: 24), over 120 s: one every two
minutes of model time. The reference is the same training without it.
`embed_actor_overhead`: 16 parts (quick: 8) of 0.5 s that write 2,048 rows of 512 floats each, one at a time
on the fleet, over the same parts in this process.
`startup_seconds`: of a run, stage by stage, first use to first result: importing the stages (a process of its
own), a local Ray, the first task, a training of 2 workers, the actors of mining. Each is taken once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness import ROOT, Report, Times, interleaved, options, ratio, spread
from rayscan.artifacts import Draft, Step
from rayscan.config import FleetConfig, OptimizerConfig
from rayscan.data.order import Order
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.loop import LoopSettings, Training
from rayscan.fleet.connect import Fleet
from rayscan.fleet.train import train
from rayscan.fleet.worker import Worker
from rayscan.nets.catalog import build_backbone
from rayscan.objectives.base import Batch, LossTerms, Objective
from rayscan.storage import Place

STEP_SECONDS = 0.25
WARM_STEPS = 5
IMAGES_PER_WORKER = 32
STEPS_BEFORE = 6
EVERY_SECONDS = 120.0
PART_SECONDS = 0.5
WORKERS = (1, 2, 4)


@dataclass(frozen=True)
class Sleeping:
    """A training whose every step sleeps."""

    place: Place
    steps: int


class Sleep(Objective):
    """A net of nine weights, and a loss that takes its time."""

    def __init__(self, net: nn.Module, seconds: float) -> None:
        """Sleep so long in every step."""
        super().__init__(net)
        self.seconds = seconds
        self.began: list[float] = []

    def loss(self, batch: Batch) -> LossTerms:
        """The mean square of the outputs."""
        self.began.append(time.perf_counter())
        time.sleep(self.seconds)
        total = self.net(batch["x"]).square().sum() / batch["count"]
        return LossTerms(total, {"loss": total.detach()})


class Still(Sleep):
    """Every weight of a large net gets a gradient of zero: its state is as large as in a real training."""

    def loss(self, batch: Batch) -> LossTerms:
        """Zero."""
        self.began.append(time.perf_counter())
        time.sleep(self.seconds)
        total = sum((p.sum() * 0.0 for p in self.module.parameters()), torch.zeros(()))
        return LossTerms(total, {"loss": total.detach()})


def main() -> None:
    """Measure and report."""
    asked = options(__doc__)
    report = Report(asked, "scaling")
    with tempfile.TemporaryDirectory(prefix="rayscan-") as folder:
        out = Place(folder)
        times = checkpoints(report, out, asked.rounds, 24 if asked.quick else 60)
        startup = {"import": import_seconds()}
        config = FleetConfig(num_workers=max(WORKERS), checkpoint_every_seconds=1e9)
        with Fleet(config, out) as fleet:
            startup |= first_uses(fleet)
            steps(report, fleet, asked.rounds, 20 if asked.quick else 40)
            times |= parts(report, fleet, asked.rounds, 8 if asked.quick else 16)
    report.detail("startup_seconds", {name: round(seconds, 3) for name, seconds in startup.items()})
    report.value("startup_total_seconds", sum(startup.values()))
    report.finish(times)


def steps(report: Report, fleet: Fleet, rounds: int, count: int) -> None:
    """Step times of the loop with 1, 2 and 4 workers."""
    taken: dict[int, list[float]] = {workers: [] for workers in WORKERS}

    def run(workers: int) -> None:
        some = Fleet(replace(fleet.config, num_workers=workers), fleet.out)
        job = Sleeping(fleet.out.child(f"steps-{workers}-{len(taken[workers])}"), count + WARM_STEPS)
        returned = train(some, sleep_worker, job, name="sleep", on_facts=lambda _: None)
        taken[workers].append(returned["seconds"] / count)

    interleaved({str(w): lambda w=w: run(w) for w in WORKERS}, rounds=rounds, warmups=0)
    overheads = {w: spread([1000 * (s - STEP_SECONDS) for s in taken[w]]) for w in WORKERS}
    report.value("overhead_per_step_ms", overheads[1])
    report.detail("overhead_per_step_ms_by_workers", overheads)
    for workers, goal in ((2, None), (4, (">=", 0.95))):
        efficiency = [one / many for one, many in zip(taken[1], taken[workers], strict=True)]
        report.value(f"efficiency_{workers}", spread(efficiency), goal=goal)  # type: ignore[arg-type]


def sleep_worker(job: Sleeping, worker: Worker) -> dict[str, Any]:
    """Train; worker 0 tells how long the steps after the first few took."""
    batch = IMAGES_PER_WORKER * worker.world_size
    order = Order(np.arange(batch * job.steps), batch, 0)

    def make(_epoch: int, mine: Any) -> dict[str, Tensor]:
        return {"x": torch.ones(len(mine), 8)}

    objective = Sleep(nn.Linear(8, 1), STEP_SECONDS)
    loop = LoopSettings(1, OptimizerConfig(), checkpoint_every_seconds=1e9)
    checkpoints = Checkpoints(job.place, "sleep")
    Training(objective, OrderedFeed(order, make), loop, checkpoints, worker.report).run()
    return {"seconds": time.perf_counter() - objective.began[WARM_STEPS]}


class Once(Checkpoints):
    """Takes one checkpoint after step 0: a second would wait for the writer, as none at 120 s does."""

    is_taken = False

    def save(self, step: int, *state: Any, **more: Any) -> None:
        """The first one is saved."""
        if step > 0 and not self.is_taken:
            self.is_taken = True
            super().save(step, *state, **more)


def checkpoints(report: Report, out: Place, rounds: int, steps_after: int) -> dict[str, Times]:
    """Step times with and without a checkpoint of a ResNet-50 and its momentum, by the loop's clock."""
    taken: dict[str, list[float]] = {"checkpoint": [], "none": []}

    def run(name: str, every: float) -> None:
        torch.manual_seed(0)
        count = STEPS_BEFORE + steps_after
        objective = Still(build_backbone("resnet50", "imagenet"), STEP_SECONDS)
        feed = OrderedFeed(Order(np.arange(8 * count), 8, 0), lambda _, mine: {"x": torch.ones(len(mine), 1)})
        loop = LoopSettings(1, OptimizerConfig(learning_rate=1e-9), checkpoint_every_seconds=every)
        keeper = Once(out.child(f"{name}-{len(taken[name])}"), "still")
        Training(objective, feed, loop, keeper, lambda _: None).run()
        assert keeper.is_taken == (name == "checkpoint")
        taken[name].append(objective.began[-1] - objective.began[1])

    every = STEPS_BEFORE * STEP_SECONDS
    pair: dict[str, Callable[[], Any]] = {
        "checkpoint": lambda: run("checkpoint", every),
        "none": lambda: run("none", 1e9),
    }
    times = interleaved(pair, rounds=rounds, warmups=0)
    both = zip(taken["checkpoint"], taken["none"], strict=True)
    stalls = [(with_it - without) / EVERY_SECONDS for with_it, without in both]
    report.value("checkpoint_stall_fraction", spread(stalls), goal=("<=", 0.005))
    return times


def parts(report: Report, fleet: Fleet, rounds: int, count: int) -> dict[str, Times]:
    """Parts that sleep and write, on the fleet one at a time, and in this process."""
    alone = Fleet(replace(fleet.config, cpus_per_worker=fleet.cluster.cpus, threads_per_worker=1), fleet.out)
    number = iter(range(1000))

    def drafts() -> list[tuple[Draft, int]]:
        draft = Draft(fleet.out, Step("parts", 1, {"round": next(number)}))
        return [(draft, part) for part in range(count)]

    pair: dict[str, Callable[[], Any]] = {
        "fleet": lambda: alone.map(sleep_part, drafts()),
        "one process": lambda: [sleep_part(item) for item in drafts()],
    }
    times = interleaved(pair, rounds=rounds)
    report.value(
        "embed_actor_overhead", ratio(times["fleet"], times["one process"], of="wall"), goal=("<=", 1.1)
    )
    return times


def sleep_part(item: tuple[Draft, int]) -> None:
    """What embed does with a part, but for the net."""
    draft, number = item
    time.sleep(PART_SECONDS)
    name = f"part-{number:05d}.npy"
    entry = draft.write_array(name, np.ones((2048, 512), np.float32))
    draft.finish_part(name, {name: entry})


def import_seconds() -> float:
    """A process that loads all stages, less one that loads nothing."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        return time.perf_counter() - began

    return max(0.0, seconds("import rayscan.pipeline") - seconds("pass"))


def first_uses(fleet: Fleet) -> Mapping[str, float]:
    """Seconds until each kind of work gives its first result."""
    taken: dict[str, float] = {}

    def timed(name: str, fn: Callable[[], Any]) -> None:
        began = time.perf_counter()
        fn()
        taken[name] = time.perf_counter() - began

    two = Fleet(replace(fleet.config, num_workers=2), fleet.out)
    timed("ray", fleet.join)
    timed("index, embed, assign: first task", lambda: fleet.map(torch_version, [0]))
    timed("pretext, scan, selflabel: two workers", lambda: train(
        two, nothing, None, name="nothing", on_facts=lambda _: None))  # fmt: skip
    timed("mine: two shards", lambda: mine_little(fleet.out))
    return taken


def torch_version(_: int) -> str:
    """What a first task has to load."""
    return torch.__version__


def nothing(_settings: None, _worker: Worker) -> dict[str, Any]:
    """A training without a step."""
    return {}


def mine_little(out: Place) -> None:
    """Neighbors of 256 rows, on two shards."""
    from rayscan.fleet.search_settings import SearchSettings
    from rayscan.fleet.shards import mine_blocks
    from rayscan.vectors.merge import blocks
    from testing.matrices import collapsed, embedded

    rng = np.random.default_rng(0)
    rows = rng.standard_normal((256, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    from rayscan.vectors.parts import EmbeddingRows

    representatives, searched = collapsed(EmbeddingRows(embedded(out.child("rows"), rows)), 10)
    draft = Draft(out, Step("mine", 1, {"of": "benchmark"}))
    settings = SearchSettings(10, num_shards=2)
    mine_blocks(blocks(representatives, 128), searched, draft, settings, lambda *_: None)


if __name__ == "__main__":
    main()
