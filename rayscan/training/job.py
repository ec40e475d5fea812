"""TrainJob: what a worker needs to train a stage, and how a stage hands it to the fleet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rayscan.artifacts import Artifact, Draft
from rayscan.config import Recipe
from rayscan.context import Context
from rayscan.data.loader import ViewLoader
from rayscan.data.order import Order
from rayscan.data.table import ImageTable
from rayscan.engine.loop import History
from rayscan.fleet.worker import Worker
from rayscan.storage import Place
from rayscan.training.pictures import images_of
from rayscan.training.sources import FeatureSource, ImageSource
from rayscan.training.trained import Trained
from rayscan.types import Ints

Inputs = Literal["images", "embeddings"]

SHOWN = ("loss", "confident_fraction", "images_per_second", "rolled_back", "alert")
METRICS = pa.schema(
    [("epoch", pa.float64()), ("step", pa.int64()), ("name", pa.string()), ("value", pa.float64())]
)


@dataclass(frozen=True)
class TrainJob:
    """Settings and addresses of one training, never data: it travels to workers."""

    recipe: Recipe
    inputs: Mapping[str, Artifact]
    draft: Draft
    work: Place
    """Checkpoints."""
    reads: Inputs = "images"
    """What is trained on: pictures, or stored embeddings."""

    def source(self, device: str) -> ImageSource | FeatureSource:
        """Where the inputs of this training come from."""
        if self.reads == "embeddings":
            return FeatureSource(self.inputs["embed"], self.recipe.seed, device)
        return self.images(device)

    def images(self, device: str) -> ImageSource:
        """The pictures of the train split."""
        table = ImageTable.from_artifact(self.inputs["index"])
        images = images_of(self.recipe, self.inputs.get("pretext"))
        loader = ViewLoader(table, images, self.recipe.seed, device=device)
        return ImageSource(loader, table.gids("train"), self.recipe.seed, device)

    def windowed_order(self, gids: Ints, batch_size: int) -> Order:
        """Global batches over images: all mixed, or a window of shards at a time."""
        window = self.recipe.images.shard_window
        if window is None:
            return Order(gids, batch_size, self.recipe.seed)
        shards = ImageTable.from_artifact(self.inputs["index"]).shard[gids].astype(np.int64)
        return Order(gids, batch_size, self.recipe.seed, shards, window)


TrainFunction = Callable[[TrainJob, Worker], Trained]


def train_on_fleet(context: Context, job: TrainJob, fn: TrainFunction) -> Trained:
    """Run `fn(job, worker)` on the fleet, with its progress shown; resumes from its newest checkpoint.

    Heads on embeddings are so small that one worker is quickest: they take `fleet.head_workers`.
    """
    from rayscan.fleet.train import train  # Ray Train, a second of imports that only a training needs

    name = job.draft.step.stage
    workers = job.recipe.fleet.head_workers if job.reads == "embeddings" else None
    returned: Trained = train(
        context.fleet, fn, job, name=name, on_facts=show_training(context, name), num_workers=workers
    )
    return returned


def metrics_table(history: History) -> pa.Table:
    """Metrics in long form: epoch, step, name, value."""
    columns = list(zip(*history.rows, *history.timings, strict=True)) or [(), (), (), ()]
    return pa.table([pa.array(c, type=f.type) for c, f in zip(columns, METRICS, strict=True)], schema=METRICS)


def show_training(context: Context, label: str) -> Callable[[Mapping[str, Any]], None]:
    """A listener that shows how far a training is."""

    def on_facts(facts: Mapping[str, Any]) -> None:
        shown = {k: v for k, v in facts.items() if k in SHOWN}
        shown |= {k: facts[k] for k in ("restarts", "workers") if facts.get(k)}
        context.progress.at(facts["step"], facts["total"], **shown)
        if context.trackers is not None:
            values = {k: v for k, v in facts.items() if k not in ("step", "total", "workers", "restarts")}
            context.trackers.log(label, facts["step"], values)

    context.progress.start(label, 0, "steps")
    return on_facts
