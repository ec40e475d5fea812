"""The training loop: one for every objective, the same for one worker and for many.

A step is a pure function of the weights and of (seed, epoch, step): the feed gives the same global batch and
the same views whoever asks, so a training that was cut anywhere goes on as if it had not been.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from rayscan import comms
from rayscan.config import OptimizerConfig
from rayscan.engine import preemption, watchdog
from rayscan.engine.checkpoint import Checkpoint, Checkpoints
from rayscan.engine.clock import Clock
from rayscan.engine.compiled_programs import use_private_cache
from rayscan.engine.microbatches import microbatches
from rayscan.engine.not_finite import FiniteCheck, Incident, IncidentLog, images_of
from rayscan.engine.optimizer import build_optimizer, learning_rate, optimizer_tensors, restore_optimizer
from rayscan.engine.precision import is_half
from rayscan.engine.tensors import under
from rayscan.errors import DataError
from rayscan.objectives.base import Batch, LossTerms, Objective
from rayscan.types import Ints

Report = Callable[[Mapping[str, Any]], None]


class Feed(Protocol):
    """A source of batches."""

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""

    def batch(self, epoch: int, step: int) -> Batch:
        """This worker's slice of a global batch, a pure function of (epoch, step)."""

    def gids(self, epoch: int, step: int) -> Ints:
        """Images of a global batch."""

    def start(self, epoch: int, step: int, epochs: int) -> None:
        """Begin making batches where the training begins, or begins again."""

    def close(self) -> None:
        """The training is over."""


@dataclass(frozen=True)
class LoopSettings:
    """Settings of a training."""

    epochs: int
    optimizer: OptimizerConfig
    precision: str = "auto"
    accumulate_steps: int = 1
    """Micro-batches of a step, see `engine.microbatches`."""
    checkpoint_every_seconds: float = 30.0
    log_every_steps: int = 10
    device: str = "cpu"


@dataclass
class History:
    """Metrics so far, in long form; part of every checkpoint."""

    rows: list[list[Any]] = field(default_factory=list)
    """[epoch, step, name, value]."""
    timings: list[list[Any]] = field(default_factory=list)
    """Measured times in the form of `rows`; no two runs share them."""

    def add(self, epoch: float, step: int, values: Mapping[str, float]) -> None:
        """Append one row a value."""
        self.rows += [[epoch, step, name, value] for name, value in values.items()]

    def add_timings(self, epoch: float, step: int, values: Mapping[str, float]) -> None:
        """Append one row a measured time."""
        self.timings += [[epoch, step, name, value] for name, value in values.items()]


class Training:
    """A training that can be cut and taken up at any step."""

    def __init__(
        self,
        objective: Objective,
        feed: Feed,
        settings: LoopSettings,
        checkpoints: Checkpoints,
        report: Report,
    ) -> None:
        """Prepare; takes up the newest checkpoint if there is one."""
        self.objective = objective
        self.feed = feed
        self.settings = settings
        self.checkpoints = checkpoints
        self.report = report
        self.optimizer = build_optimizer(objective.module, settings.optimizer)
        self.step = 0
        self.has_stopped = False
        self.history = History()
        self.last_saved = time.monotonic()
        self.clock = Clock()
        self.finite = FiniteCheck(objective.module, settings.device)
        self.incident_log = IncidentLog(checkpoints.place)
        self.is_half = is_half(settings.precision, settings.device, objective.module)
        is_cuda = torch.device(settings.device).type == "cuda"
        torch.backends.cudnn.benchmark = is_cuda  # shapes of a training hardly change
        if is_cuda and not comms.is_distributed():
            use_private_cache()
            objective.compile_nets()  # on CPUs it was measured to cost 36 s and to gain nothing
        if (found := self._newest()) is not None:
            self._take_up(found)
        elif comms.rank() == 0:
            self._save()  # what a step that is not finite goes back to before there is another

    def run(self) -> History:
        """Train to the end, or until the objective asks to stop.

        A loss or gradient that is not finite is not learnt from: all go back to the newest whole checkpoint.

        Raises:
            DataError: it came again at the same step, or without a checkpoint between.
            PreemptedError: a machine is about to be taken away; the state of this step is on storage.
        """
        per_epoch = self.feed.num_steps
        total = per_epoch * self.settings.epochs
        self.feed.start(self.step // per_epoch, self.step % per_epoch, self.settings.epochs)
        try:
            while self.step < total and not self.has_stopped:
                watchdog.heartbeat(self.step)
                epoch, step = divmod(self.step, per_epoch)
                with self.clock.part("data"):
                    batch = self.feed.batch(epoch, step)
                with self.clock.part("compute"):
                    terms = self._train_step(batch)
                self.clock.count_images(batch["count"])
                self.step += 1
                if not self._log(terms, per_epoch, total):
                    self._go_back(per_epoch)
                    continue
                if self.step % per_epoch == 0:
                    self._end_epoch(epoch, is_last=self.step == total)
                self._save_if_due(is_over=self.step == total or self.has_stopped)
        finally:
            self.feed.close()
        self.checkpoints.close()
        return self.history

    def _train_step(self, batch: Batch) -> LossTerms:
        settings = self.settings
        rate = learning_rate(settings.optimizer, self.step, self.feed.num_steps, settings.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts = microbatches(batch, settings.accumulate_steps)
        with comms.no_gradient_sync(self.objective.net):
            shares = [self._backward(part) for part in parts[:-1]]
        shares.append(self._backward(parts[-1]))
        terms = shares[0] if len(shares) == 1 else _summed(shares)
        self.finite.check(self.step, terms.total)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.objective.after_step()
        return terms

    def _backward(self, batch: Batch) -> LossTerms:
        device_type = torch.device(self.settings.device).type
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=self.is_half):
            terms = self.objective.loss(batch)
        (terms.total * self.finite.initial_gradient(terms.total)).backward()
        return terms

    def _log(self, terms: LossTerms, per_epoch: int, total: int) -> bool:
        """A row of metrics, at every few steps and the end of an epoch; False if something was not finite."""
        if self.step % self.settings.log_every_steps and self.step % per_epoch:
            return True
        names = sorted(terms.parts)
        shares = [*(terms.parts[n].double() for n in names), self.finite.has_failed]
        *values, bad = comms.all_reduce(torch.stack(shares)).tolist()
        if bad:
            return False
        facts = dict(zip(names, values, strict=True))
        facts["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self.history.add(self.step / per_epoch, self.step, facts)
        timings = self.clock.take()
        self.history.add_timings(self.step / per_epoch, self.step, timings)
        trouble: dict[str, Any] = {"alert": self.checkpoints.trouble} if self.checkpoints.trouble else {}
        if self.incident_log.incidents:
            trouble["rolled_back"] = len(self.incident_log.incidents)
        self.report({"step": self.step, "total": total, **facts, **timings, **trouble})
        return True

    def _go_back(self, per_epoch: int) -> None:
        """To the newest whole checkpoint, which is from before what was not finite; all workers together."""
        step, workers = self.finite.first_failure()
        epoch, batch = divmod(step, per_epoch)
        if comms.rank() == 0:
            self.checkpoints.wait()
        found = self._newest()
        world, back_to = comms.world_size(), -1 if found is None else found.step
        gids = images_of(self.feed.gids(epoch, batch), workers, world)
        incident = Incident(step, epoch, batch, workers, world, gids, back_to)
        verdict = comms.broadcast_text(self.incident_log.record(incident) if comms.rank() == 0 else None)
        if found is None or verdict is not None:
            raise self.incident_log.error(incident, verdict or "", per_epoch)
        reached = self.step
        self._take_up(found)
        self.optimizer.zero_grad(set_to_none=True)
        self.finite.reset()
        self.history.add_timings(step / per_epoch, step, {"rolled_back": float(reached - self.step)})
        self.feed.close()
        self.feed.start(self.step // per_epoch, self.step % per_epoch, self.settings.epochs)

    def _end_epoch(self, epoch: int, *, is_last: bool) -> None:
        end = self.objective.end_epoch(epoch, is_last=is_last)
        self.has_stopped = end.should_stop
        self.history.add(epoch + 1.0, self.step, end.metrics)

    def _save_if_due(self, *, is_over: bool) -> None:
        if comms.rank():
            return
        if not is_over and preemption.is_announced():
            self._save()
            self.checkpoints.wait()
            raise preemption.PreemptedError(f"preempted at step {self.step}")
        waited = time.monotonic() - self.last_saved
        if waited >= self.settings.checkpoint_every_seconds and not self.checkpoints.is_busy:
            self._save()

    def _save(self) -> None:
        self.last_saved = time.monotonic()
        with self.clock.part("checkpoint"):
            self._save_now()

    def _save_now(self) -> None:
        tensors = {
            **{f"objective.{k}": v for k, v in self.objective.state_dict().items()},
            **{f"optimizer.{k}": v for k, v in optimizer_tensors(self.optimizer).items()},
        }
        notes = {
            "rows": self.history.rows,
            "timings": self.history.timings,
            "has_stopped": self.has_stopped,
        }
        self.checkpoints.save(self.step, tensors, notes)

    def _newest(self) -> Checkpoint | None:
        """The checkpoint that worker 0 finds newest, on all workers."""
        found = self.checkpoints.newest(self.settings.device) if comms.rank() == 0 else None
        newest = comms.broadcast_text(None if found is None else found.name)
        if newest is None:
            return None
        if comms.rank():
            found = self.checkpoints.load(newest, self.settings.device)
        if found is None:
            raise DataError(
                "a worker does not see the checkpoint that worker 0 takes up",
                expected=newest,
                got="no whole checkpoint of that name",
                where=f"worker {comms.rank()}, {self.checkpoints.place.uri}",
                fix="put --out on storage that every node reaches",
            )
        return found

    def _take_up(self, found: Checkpoint) -> None:
        self.objective.load_state_dict(under(found.tensors, "objective"))
        restore_optimizer(self.optimizer, under(found.tensors, "optimizer"))
        self.history.rows = list(found.notes["rows"])
        self.history.timings = list(found.notes.get("timings", []))
        self.step, self.has_stopped = found.step, bool(found.notes["has_stopped"])


def _summed(shares: Sequence[LossTerms]) -> LossTerms:
    """The terms of a step from those of its parts."""
    total = torch.stack([share.total.detach() for share in shares]).sum()
    parts = {name: torch.stack([share.parts[name] for share in shares]).sum() for name in shares[0].parts}
    return LossTerms(total, parts)
