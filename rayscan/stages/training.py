"""What the training stages share: a job for workers, its checkpoints, its metrics table, its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from rayscan.artifacts import Artifact, Draft, FileEntry
from rayscan.config import OptimizerConfig, Recipe
from rayscan.data.loader import ViewLoader
from rayscan.data.order import Order
from rayscan.data.table import ImageTable
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.loop import History, LoopSettings, Training
from rayscan.engine.tensors import pack
from rayscan.errors import ConfigError
from rayscan.fleet.train import Worker
from rayscan.objectives.base import Objective
from rayscan.stages.context import Context
from rayscan.storage import Place

Gids = np.ndarray[Any, np.dtype[np.int64]]

SHOWN = ("loss", "confident_fraction", "images_per_second", "rolled_back", "alert")
HALF_FROM_PX = 32
"""On a CPU: below this, converting to bf16 costs what the convolutions gain."""
METRICS = pa.schema(
    [("epoch", pa.float64()), ("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]
)


@dataclass(frozen=True)
class TrainJob:
    """What a worker needs to train a stage: settings and addresses, never data."""

    recipe: Recipe
    inputs: Mapping[str, Artifact]
    draft: Draft
    work: Place

    def view_loader(self, device: str = "cpu") -> ViewLoader:
        """The images of the run."""
        table = ImageTable.from_artifact(self.inputs["index"])
        return ViewLoader(table, self.recipe.images, self.recipe.seed, device=device)

    def order(self, gids: Gids, batch_size: int) -> Order:
        """Global batches over images: all mixed, or a window of shards at a time."""
        window = self.recipe.images.shard_window
        if window is None:
            return Order(gids, batch_size, self.recipe.seed)
        shards = ImageTable.from_artifact(self.inputs["index"]).shard[gids].astype(np.int64)
        return Order(gids, batch_size, self.recipe.seed, shards, window)

    def train_gids(self) -> Gids:
        """Usable images of the train split, sorted."""
        return ImageTable.from_artifact(self.inputs["index"]).gids("train")

    def fit(
        self,
        objective: Objective,
        feed: OrderedFeed,
        loop: LoopSettings,
        report: Callable[[Mapping[str, Any]], None],
    ) -> History:
        """Train, from the newest checkpoint if there is one."""
        patience = self.recipe.fleet.checkpoint_patience_seconds
        checkpoints = Checkpoints(self.work, self.draft.step.fingerprint, patience_seconds=patience)
        return Training(objective, feed, loop, checkpoints, report).run()

    def write(self, model: str, module: torch.nn.Module, history: History) -> dict[str, FileEntry]:
        """Weights and metrics of a finished training."""
        return {
            model: self.draft.write(model, pack(module.state_dict())),
            "metrics.parquet": self.draft.write_table("metrics.parquet", metrics_table(history)),
        }


def loop_settings(recipe: Recipe, epochs: int, optimizer: OptimizerConfig, device: str) -> LoopSettings:
    """Settings of the loop for one training of a recipe."""
    precision = recipe.pretext.precision
    if precision == "auto" and device == "cpu" and recipe.images.size_px < HALF_FROM_PX:
        precision = "fp32"
    return LoopSettings(
        epochs=epochs,
        optimizer=optimizer,
        precision=precision,
        checkpoint_every_seconds=recipe.fleet.checkpoint_every_seconds,
        log_every_steps=recipe.fleet.log_every_steps,
        device=device,
    )


def metrics_table(history: History) -> pa.Table:
    """Metrics in long form: epoch, step, name, value."""
    columns = list(zip(*history.rows, *history.timings, strict=True)) or [(), (), (), ()]
    return pa.table([pa.array(c, type=f.type) for c, f in zip(columns, METRICS, strict=True)], schema=METRICS)


def entries_to_json(entries: Mapping[str, FileEntry]) -> dict[str, dict[str, Any]]:
    """File entries as plain values, for the way home from a worker."""
    return {name: vars(entry) for name, entry in entries.items()}


def entries_from_json(value: Mapping[str, Mapping[str, Any]]) -> dict[str, FileEntry]:
    """File entries again."""
    return {name: FileEntry(**entry) for name, entry in value.items()}


def show_training(context: Context, label: str) -> Callable[[Mapping[str, Any]], None]:
    """A listener that shows how far a training is."""

    def on_facts(facts: Mapping[str, Any]) -> None:
        shown = {k: v for k, v in facts.items() if k in SHOWN}
        if facts.get("restarts"):
            shown["restarts"] = facts["restarts"]
        if facts.get("workers"):
            shown["workers"] = facts["workers"]
        context.progress.at(facts["step"], facts["total"], **shown)
        if context.trackers is not None:
            values = {k: v for k, v in facts.items() if k not in ("step", "total", "workers", "restarts")}
            context.trackers.log(label, facts["step"], values)

    context.progress.start(label, 0, "steps")
    return on_facts


def check_batch(batch_size: int, num_images: int, key: str, worker: Worker) -> None:
    """Refuse a batch that leaves a worker without images.

    Raises:
        ConfigError: naming the key and the numbers.
    """
    smallest = min(batch_size, num_images)
    if smallest < 2 * worker.world_size:
        raise ConfigError(
            "too few images per step for the workers",
            expected=f">= {2 * worker.world_size} images per step for {worker.world_size} workers",
            got=f"batch_size {batch_size}, {num_images} images",
            where=key,
            fix="raise the batch size, add images, or lower --fleet.num-workers",
        )
