"""The one trainer: an objective, a source of inputs, a schedule; on one worker or many, resumed exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rayscan.config import OptimizerConfig
from rayscan.data.order import Order
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.loop import History, LoopSettings, Training
from rayscan.errors import ConfigError
from rayscan.fleet.worker import Worker
from rayscan.objectives.base import Objective
from rayscan.training.job import TrainJob
from rayscan.training.sources import TrainSource

HALF_FROM_PX = 32
"""On a CPU: below this, converting to bf16 costs what the convolutions gain."""


@dataclass(frozen=True)
class Schedule:
    """What is gone through, and how."""

    order: Order
    """Global batches of an epoch."""
    epochs: int
    optimizer: OptimizerConfig
    key: str
    """Setting of the batch size, for messages."""
    accumulate_steps: int = 1
    """Parts that a worker cuts its share of a step into."""


def fit(
    job: TrainJob, worker: Worker, objective: Objective, source: TrainSource, schedule: Schedule
) -> History:
    """Train, from the newest checkpoint if there is one; writes nothing but checkpoints.

    Raises:
        ConfigError: a step has too few images for the workers.
        DataError: the loss is not finite, or an image cannot be read.
    """
    _check_batch(schedule, worker)
    feed = OrderedFeed(
        schedule.order,
        partial(_make, objective, source),
        device=worker.device,
        ahead=source.is_slow,
        expect=source.expect,
    )
    patience = job.recipe.fleet.checkpoint_patience_seconds
    checkpoints = Checkpoints(job.work, job.draft.step.fingerprint, patience_seconds=patience)
    loop = _loop_settings(job, schedule, worker.device)
    return Training(objective, feed, loop, checkpoints, worker.report).run()


def _make(objective: Objective, source: TrainSource, epoch: int, gids: Any) -> dict[str, Any]:
    return objective.batch(source, gids, epoch)


def alone(report: Callable[[Mapping[str, Any]], None] = lambda _: None, device: str | None = None) -> Worker:
    """This process as the only worker of a training."""
    import torch

    return Worker(0, 1, device or ("cuda" if torch.cuda.is_available() else "cpu"), report)


def _loop_settings(job: TrainJob, schedule: Schedule, device: str) -> LoopSettings:
    recipe = job.recipe
    precision = recipe.pretext.precision
    if precision == "auto" and device == "cpu" and recipe.images.size_px < HALF_FROM_PX:
        precision = "fp32"
    return LoopSettings(
        epochs=schedule.epochs,
        optimizer=schedule.optimizer,
        precision=precision,
        accumulate_steps=schedule.accumulate_steps,
        checkpoint_every_seconds=recipe.fleet.checkpoint_every_seconds,
        log_every_steps=recipe.fleet.log_every_steps,
        device=device,
    )


def _check_batch(schedule: Schedule, worker: Worker) -> None:
    order, parts = schedule.order, schedule.accumulate_steps
    smallest = min(order.batch_size // parts, len(order.gids) // parts)
    if smallest < 2 * worker.world_size:
        raise ConfigError(
            "too few images per step for the workers",
            expected=f">= {2 * worker.world_size} images per step for {worker.world_size} workers",
            got=f"batch_size {order.batch_size // parts}, {len(order.gids) // parts} images",
            where=schedule.key,
            fix="raise the batch size, add images, or lower --fleet.num-workers",
        )
