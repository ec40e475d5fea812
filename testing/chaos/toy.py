"""A small training through the real engine that says exactly what it has consumed.

Its net, order, loss, checkpoints and restarts are those of every stage; only the images are random rows, a
pure function of (seed, epoch, gid). Two oracles:

- S: `consumed` [epochs, N] counts every (epoch, gid) of the committed history; it travels in the checkpoints
  and must be one everywhere at the end.
- W: sha256 of weights, optimizer state and rows of metrics equal those of an undisturbed run.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.config import OptimizerConfig
from rayscan.data.order import Order
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.loop import LoopSettings, Training
from rayscan.engine.optimizer import optimizer_tensors
from rayscan.engine.tensors import pack
from rayscan.fleet.worker import Worker
from rayscan.nets.batchnorm import GlobalBatchNorm1d
from rayscan.objectives.base import Batch, LossTerms, Objective
from rayscan.objectives.counter import Counter
from rayscan.storage import DEADLINE_VARIABLE, Place

DIM = 8


@dataclass(frozen=True)
class Toy:
    """Settings of the training, its slowness and its faults."""

    out: str
    """Path or URI of the checkpoints."""
    journal: str
    """Local directory in which every worker notes its steps."""
    epochs: int = 4
    num_images: int = 190
    batch_size: int = 10
    step_seconds: float = 0.05
    every_seconds: float = 1.0
    patience_seconds: float = 600.0
    store_patience_seconds: float | None = None
    """How long a store may be away, in the workers and the driver; none leaves their environment as it is."""
    is_double: bool = False
    nan_at: int = -1
    """Step whose loss is not a number."""
    nan_rank: int = -1
    """Worker whose share it is; -1: of all."""
    nan_times: int = 1 << 30
    """How often, over all attempts of a worker."""
    log_every: int = 1
    """Steps between rows of metrics."""
    cut_at: int = -1
    """Step at which every worker raises CutError."""
    hold_at: int = -1
    """Step at which a group of one worker stays until it is ended, so that it can grow in good time."""
    die_in_write: int = -1
    """First step whose checkpoint kills worker 0 between its two files, once."""
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * -(-self.num_images // self.batch_size)


class CutError(Exception):
    """The power went out."""


class Counted(Objective):
    """Cross-entropy of two synchronised layers against a fixed labelling; counts what it consumes."""

    consumed: Tensor

    def __init__(self, toy: Toy, journal: Path) -> None:
        """Same weights everywhere, by seed."""
        torch.manual_seed(toy.seed)
        net = nn.Sequential(nn.Linear(DIM, 16), GlobalBatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
        super().__init__(net.double() if toy.is_double else net)
        self.toy, self.journal = toy, journal
        self.register_buffer("consumed", torch.zeros((toy.epochs, toy.num_images), dtype=torch.int64))
        self.steps = Counter()

    @property
    def step(self) -> int:
        """Steps taken, those before a restart too."""
        return self.steps.value

    def loss(self, batch: Batch) -> LossTerms:
        """Sum over this worker's slice, divided by the global count."""
        if self.step == self.toy.cut_at:
            raise CutError
        while self.step == self.toy.hold_at and comms.world_size() == 1:
            time.sleep(0.05)
        time.sleep(self.toy.step_seconds)
        rows, gids, epoch = batch["rows"], batch["gids"], batch["epoch"]
        scores = torch.log_softmax(self.net(rows), dim=1)
        loss = -scores[torch.arange(len(gids)), gids % 4].sum() / batch["count"]
        if self._is_spoilt():
            loss = loss * float("nan")
        seen = torch.zeros_like(self.consumed)
        for e, gid in zip(epoch.tolist(), gids.tolist(), strict=True):
            seen[e, gid] += 1
        self.consumed += comms.all_reduce(seen)
        return LossTerms(loss, {"loss": loss.detach()})

    def _is_spoilt(self) -> bool:
        toy = self.toy
        if self.step != toy.nan_at or toy.nan_rank not in (-1, comms.rank()):
            return False
        marks = self.journal / f"nan-{comms.rank()}"
        done = len(marks.read_bytes()) if marks.exists() else 0
        marks.write_bytes(bytes(done + 1))
        return done < toy.nan_times

    def after_step(self) -> None:
        """Note the step, so that faults can be timed and their cost measured."""
        self.steps.value += 1
        self.note("step", self.step)

    def note(self, kind: str, step: int) -> None:
        """A line of the journal, with what the weights are now."""
        digest = hashlib.sha256(pack(self.module.state_dict())).hexdigest()[:16]
        facts = {kind: step, "rank": comms.rank(), "world": comms.world_size(), "weights": digest}
        note(self.journal, facts)


class DyingPlace(Place):
    """A place that kills its process between the state and the meta of one checkpoint, once."""

    def __init__(self, uri: str, step: int, mark: Path) -> None:
        """`mark` remembers that it has happened."""
        super().__init__(uri)
        self.step, self.mark = step, mark

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Die before the meta of a checkpoint at or after the step."""
        step = int(name.split("-")[1]) if name.startswith("step-") else -1
        if name.endswith("meta.json") and step >= self.step and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), 9)
        super().write(name, data)


def note(journal: Path, facts: Mapping[str, Any]) -> None:
    """Append a line to this process's journal."""
    import ray

    node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
    line = {"time": time.time(), "pid": os.getpid(), "node": node, **facts}
    with (journal / f"{os.getpid()}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def read_journal(journal: str) -> list[dict[str, Any]]:
    """All lines of all workers, in order of time."""
    lines = [
        json.loads(line)
        for path in Path(journal).glob("*.jsonl")
        for line in path.read_text().splitlines()
        if line.endswith("}")
    ]
    return sorted(lines, key=lambda line: float(line["time"]))


def set_store_patience(toy: Toy) -> None:
    """Set how long this process waits for the store; workers have their node's environment."""
    if toy.store_patience_seconds is not None:
        os.environ[DEADLINE_VARIABLE] = str(toy.store_patience_seconds)


def train_toy(toy: Toy, worker: Worker) -> dict[str, Any]:
    """One worker's part; worker 0 returns the digests."""
    set_store_patience(toy)
    journal = Path(toy.journal)
    journal.mkdir(parents=True, exist_ok=True)
    gids = np.arange(toy.num_images, dtype=np.int64)
    order = Order(gids, toy.batch_size, toy.seed)
    kind = np.float64 if toy.is_double else np.float32

    def make(epoch: int, mine: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Tensor]:
        rows = [np.random.default_rng([toy.seed, epoch, int(gid)]).normal(size=DIM) for gid in mine]
        return {
            "rows": torch.from_numpy(np.stack(rows).astype(kind)),
            "gids": torch.from_numpy(mine.copy()),
            "epoch": torch.full((len(mine),), epoch),
        }

    place = Place(toy.out)
    if toy.die_in_write >= 0:
        place = DyingPlace(toy.out, toy.die_in_write, journal / "died")
    objective = Counted(toy, journal)
    settings = LoopSettings(
        epochs=toy.epochs,
        optimizer=OptimizerConfig(kind="sgd", learning_rate=0.05, warmup_epochs=1),
        checkpoint_every_seconds=toy.every_seconds,
        log_every_steps=toy.log_every,
    )
    checkpoints = Checkpoints(place, "toy", patience_seconds=toy.patience_seconds)
    training = Training(objective, OrderedFeed(order, make), settings, checkpoints, worker.report)
    objective.note("resumed", training.step)
    history = training.run()
    if worker.rank:
        return {}
    net, optimizer = objective.module.state_dict(), optimizer_tensors(training.optimizer)
    return {
        "weights": hashlib.sha256(pack(net)).hexdigest(),
        "optimizer": hashlib.sha256(pack(optimizer)).hexdigest(),
        "history": hashlib.sha256(json.dumps(history.rows).encode()).hexdigest(),
        "values": {k: v.double().flatten().tolist() for k, v in net.items()},
        "consumed_once": bool((objective.consumed == 1).all()),
        "least": int(objective.consumed.min()),
        "most": int(objective.consumed.max()),
    }
