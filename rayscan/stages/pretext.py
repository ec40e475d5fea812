"""Stage pretext: unlabelled train images -> a backbone whose features say what is alike (SCAN Sec. 2.1).

With `pretext.checkpoint` nothing is trained: somebody else's weights are read (`stages.imported_pretext`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.engine.feed import OrderedFeed
from rayscan.fleet.train import Worker, train
from rayscan.objectives.pretexts import build_objective, build_projected_net, extra_tensors
from rayscan.sections import semantic
from rayscan.stages import imported_pretext
from rayscan.stages.context import Context, Sources
from rayscan.stages.models import with_seed
from rayscan.stages.monitor import Monitor
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
SCHEMA = 3  # 2: digits are stretched too, 3: and their ink varies


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    if recipe.pretext.checkpoint is not None:
        return Step(NAME, SCHEMA, imported_pretext.config(recipe.pretext))
    config = {"pretext": semantic(recipe.pretext), "images": semantic(recipe.images), "seed": recipe.seed}
    return Step(NAME, SCHEMA, config, {"index": done["index"].identity})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Train on the fleet, resuming in mid-epoch; or take over a checkpoint."""
    draft = context.draft(step)
    if recipe.pretext.checkpoint is not None:
        return imported_pretext.import_checkpoint(recipe, draft, context)
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
    parts = settings.accumulate_steps
    check_batch(settings.batch_size // parts, len(gids) // parts, "pretext.batch_size", worker)
    order = job.order(gids, settings.batch_size)
    with_seed(recipe.seed, "pretext")
    net = build_projected_net(settings).to(worker.device)
    net = net.to(memory_format=torch.channels_last)  # measured 1.6x on CPUs, and what tensor cores want
    loader = job.view_loader(worker.device)
    objective = build_objective(
        settings, net, num_images=len(gids), total_steps=order.num_steps * settings.epochs
    )
    objective.watch = Monitor(settings.epochs, loader, gids)

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        views = loader.views(mine, settings.views, epoch, views=objective.views)
        return {"views": views, **extra_tensors(settings, gids, mine, recipe.seed, epoch)}

    feed = OrderedFeed(order, make, device=worker.device, expect=loader.expect)
    loop = loop_settings(recipe, settings.epochs, settings.optimizer, worker.device)
    loop = replace(loop, accumulate_steps=parts)
    history = job.fit(objective, feed, loop, worker.report)
    if worker.rank:
        return {}
    files = job.write("backbone.safetensors", objective.encoder, history)
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
