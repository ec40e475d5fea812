"""Stage pretext: unlabelled train images -> a backbone whose features say what is alike (SCAN Sec. 2.1).

Features that are not `own` are taken over: nothing is trained (`training.spaces`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.engine.tensors import pack
from rayscan.fleet.worker import Worker
from rayscan.nets.catalog import require_any_side
from rayscan.objectives.pretext import PretextObjective
from rayscan.objectives.pretexts import build_objective, build_projected_net
from rayscan.sections import semantic
from rayscan.training.fit import Schedule, fit
from rayscan.training.job import TrainJob, metrics_table, train_on_fleet
from rayscan.training.models import WEIGHTS, with_seed
from rayscan.training.monitor import FeatureMonitor
from rayscan.training.sources import ImageSource
from rayscan.training.spaces import IMPORTS
from rayscan.training.trained import Trained

NAME = "pretext"
SCHEMA = 4


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    (space,) = recipe.spaces
    if space.kind in IMPORTS:
        return Step(NAME, SCHEMA, IMPORTS[space.kind].config(recipe, space))
    config = {"pretext": semantic(recipe.pretext), "images": semantic(recipe.images), "seed": recipe.seed}
    return Step(NAME, SCHEMA, config, {"index": done["index"].identity})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Train on the fleet, resuming in mid-epoch; or take over what is there."""
    draft, (space,) = context.draft(step), recipe.spaces
    if space.kind in IMPORTS:
        return IMPORTS[space.kind].take(recipe, space, draft, context)
    job = TrainJob(recipe, {"index": done["index"]}, draft, context.work(step))
    trained = train_on_fleet(context, job, train_worker)
    artifact = draft.commit(trained.files, facts=trained.facts)
    context.clear(step)
    context.progress.finish(f"{trained.facts['images_seen']:,} images seen")
    return artifact


def train_worker(job: TrainJob, worker: Worker) -> Trained:
    """One worker's part of the training; worker 0 writes the result."""
    settings, source = job.recipe.pretext, job.images(worker.device)
    objective, schedule = build(job, source, worker.device)
    history = fit(job, worker, objective, source, schedule)
    if worker.rank:
        return Trained()
    facts = {
        "kind": "own",
        "method": settings.method,
        "backbone": settings.backbone,
        "stem": settings.stem,
        "dim": objective.encoder.backbone.dim,
        "size_px": job.recipe.images.size_px,
        "images_seen": len(source.gids) * settings.epochs,
        "source": "trained here",
        "trained_with": "no labels",
    }
    files = {
        WEIGHTS: job.draft.write(WEIGHTS, pack(objective.encoder.state_dict())),
        "metrics.parquet": job.draft.write_table("metrics.parquet", metrics_table(history)),
        "pretext.json": job.draft.write_json("pretext.json", facts),
    }
    return Trained(files, facts)


def build(job: TrainJob, source: ImageSource, device: str) -> tuple[PretextObjective, Schedule]:
    """The objective of this stage and what it goes through."""
    settings, gids = job.recipe.pretext, source.gids
    if settings.first_px is not None:
        require_any_side(settings.backbone, "pretext.first_px")
        source.side_at = partial(settings.side_at, last_px=job.recipe.images.size_px)
    with_seed(job.recipe.seed, "pretext")
    net = build_projected_net(settings, job.recipe.images.size_px).to(device)
    net = net.to(memory_format=torch.channels_last)  # measured 1.6x on CPUs, and what tensor cores want
    order = job.windowed_order(gids, settings.batch_size)
    total_steps = order.num_steps * settings.epochs
    objective = build_objective(settings, net, num_images=len(gids), total_steps=total_steps)
    objective.monitor = FeatureMonitor(settings.epochs, source)
    return objective, Schedule(
        order, settings.epochs, settings.optimizer, "pretext.batch_size", settings.accumulate_steps
    )
