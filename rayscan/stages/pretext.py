"""Stage pretext: unlabelled train images -> a backbone whose features say what is alike (SCAN Sec. 2.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rayscan import comms
from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.data.loader import ViewLoader
from rayscan.data.order import Order
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.forward import forward
from rayscan.fleet.train import Worker, train
from rayscan.metrics.effective_rank import effective_rank
from rayscan.nets.modes import evaluating
from rayscan.objectives.base import EpochEnd
from rayscan.objectives.simclr import SimCLR, SimCLRNet
from rayscan.sections import semantic
from rayscan.stages.context import Context, Sources
from rayscan.stages.models import build_pretext_net, with_seed
from rayscan.stages.training import (
    Gids,
    TrainJob,
    check_batch,
    entries_from_json,
    entries_to_json,
    loop_settings,
    show_training,
)

NAME = "pretext"
SCHEMA = 1
MONITOR_IMAGES = 2_048
MONITORS_PER_TRAINING = 10


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {"pretext": semantic(recipe.pretext), "images": semantic(recipe.images), "seed": recipe.seed}
    return Step(NAME, SCHEMA, config, {"index": done["index"].identity})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Train on the fleet; resumes in mid-epoch."""
    draft = context.draft(step)
    job = TrainJob(recipe, {"index": done["index"]}, draft, context.work(step))
    returned = train(context.fleet, train_worker, job, name=NAME, on_facts=show_training(context, NAME))
    artifact = draft.commit(entries_from_json(returned["files"]), facts=returned["facts"])
    context.clear(step)
    context.progress.finish(f"{returned['facts']['images_seen']:,} images seen")
    return artifact


def train_worker(job: TrainJob, worker: Worker) -> dict[str, Any]:
    """One worker's part of the training; worker 0 writes the result."""
    recipe, settings = job.recipe, job.recipe.pretext
    gids = job.train_gids()
    check_batch(settings.batch_size, len(gids), "pretext.batch_size", worker)
    with_seed(recipe.seed, "pretext")
    net = build_pretext_net(settings).to(worker.device)
    net = net.to(memory_format=torch.channels_last)  # measured 1.6x on CPUs, and what tensor cores want
    loader = job.view_loader(worker.device)
    objective = MonitoredSimCLR(net, settings.temperature, settings.epochs, loader, gids)

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        return {"views": loader.views(mine, settings.views, epoch, views=(0, 1))}

    feed = OrderedFeed(Order(gids, settings.batch_size, recipe.seed), make, device=worker.device)
    loop = loop_settings(recipe, settings.epochs, settings.optimizer, worker.device)
    history = job.fit(objective, feed, loop, worker.report)
    if worker.rank:
        return {}
    files = job.write("backbone.safetensors", objective.module, history)
    facts = {
        "method": settings.method,
        "backbone": settings.backbone,
        "stem": settings.stem,
        "dim": net.backbone.dim,
        "images_seen": len(gids) * settings.epochs,
        "source": "trained here",
    }
    files["pretext.json"] = job.draft.write_json("pretext.json", facts)
    return {"files": entries_to_json(files), "facts": facts}


class MonitoredSimCLR(SimCLR):
    """SimCLR that looks, without labels, how many directions its features use (RankMe)."""

    def __init__(
        self, net: SimCLRNet, temperature: float, epochs: int, loader: ViewLoader, gids: Gids
    ) -> None:
        """Watch a fixed sample of the train images.

        Args:
            net: The net to train.
            temperature: tau.
            epochs: Of the training: it is looked at about ten times.
            loader: Gives plain images.
            gids: Train gids; the first are watched.
        """
        super().__init__(net, temperature)
        self._loader = loader
        self._watched = gids[:: max(1, len(gids) // MONITOR_IMAGES)][:MONITOR_IMAGES]
        self._every = max(1, math.ceil(epochs / MONITORS_PER_TRAINING))

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Worker 0 looks about ten times in a training; the others need not."""
        is_due = comms.rank() == 0 and (is_last or (epoch + 1) % self._every == 0)
        return EpochEnd(self.monitor() if is_due else {})

    def monitor(self) -> dict[str, float]:
        """Effective rank of the watched features, scaled to unit length."""
        net = self.module
        assert isinstance(net, SimCLRNet)
        device = str(next(net.parameters()).device)
        with evaluating(net):
            features = forward(net.backbone, self._loader.plain, self._watched, batch_size=256, device=device)
        return {"effective_rank": effective_rank(torch.nn.functional.normalize(features, dim=1))}
