"""Stage sela: labels by optimal transport and a network that learns them, in turns (arXiv 1911.05371).

Stands where scan and selflabel stand under `--method scan`. With first labels from a file and no re-labeling
it is label transfer: another network, trained on what one run found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pyarrow as pa
import torch
from torch import nn

from rayscan.artifacts import Artifact, Step, digest
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.order import Order
from rayscan.engine import watchdog
from rayscan.engine.tensors import pack
from rayscan.fleet.worker import Worker
from rayscan.objectives.sela import Sela, random_labels
from rayscan.sections import semantic
from rayscan.training.first_labels import read_labels
from rayscan.training.fit import Schedule, fit
from rayscan.training.heldout import HeldoutJudge, heldout_graph
from rayscan.training.job import TrainJob, metrics_table, train_on_fleet
from rayscan.training.models import MODEL, build_cluster_net, fresh_heads, with_backbone
from rayscan.training.pictures import images_of
from rayscan.training.prior import prior_tensor, read_prior
from rayscan.training.sources import FeatureSource, TrainSource
from rayscan.training.trained import Trained

NAME = "sela"
INPUTS = ("index", "pretext", "embed", "mine")
SCHEMA = 2
LABELS = "labels.parquet"
JUDGEMENTS_ON_IMAGES = 10


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {
        "sela": semantic(recipe.sela),
        "num_clusters": recipe.num_clusters,
        "seed": recipe.seed,
        "images": semantic(images_of(recipe, done.get("pretext"))),
        "heldout_fraction": recipe.scan.heldout_fraction,
    }
    if (prior := read_prior(recipe, recipe.sela.prior)) is not None:
        config["prior"] = prior
    if recipe.sela.first_labels is not None:
        gids = done["embed"].read_array("gids.npy")[: int(done["embed"].facts["train_rows"])]
        config["first_labels"] = digest(read_labels(recipe, gids).tolist())
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in INPUTS if name in done})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Train on the fleet; resumes in mid-epoch, labels and all."""
    draft, reads = context.draft(step), recipe.sela.inputs
    job = TrainJob(
        recipe, {name: done[name] for name in INPUTS if name in done}, draft, context.work(step), reads
    )
    trained = train_on_fleet(context, job, train_worker)
    artifact = draft.commit(trained.files, facts={**trained.facts, "reads": reads})
    context.clear(step)
    context.progress.finish(f"{trained.facts['relabelings']} re-labelings, {recipe.sela.num_heads} heads")
    return artifact


def train_worker(job: TrainJob, worker: Worker) -> Trained:
    """One worker's part of the training; worker 0 writes the weights of the best head and all labels."""
    source = job.source(worker.device)
    objective, schedule = build(job, source, worker.device)
    history = fit(job, worker, objective, source, schedule)
    if worker.rank:
        return Trained()
    weights = objective.best.weights()
    if job.reads == "embeddings":
        weights = with_backbone(job.recipe, job.inputs.get("pretext"), weights)
    columns = {f"head_{h}": pa.array(row.numpy()) for h, row in enumerate(objective.labels)}
    table = pa.table({"gid": pa.array(source.gids, pa.int64()), **columns})
    heads = objective.best.facts()
    files = {
        MODEL: job.draft.write(MODEL, pack(weights)),
        LABELS: job.draft.write_table(LABELS, table),
        "metrics.parquet": job.draft.write_table("metrics.parquet", metrics_table(history)),
        "heads.json": job.draft.write_json("heads.json", heads),
    }
    facts = {"relabelings": int(objective.num_relabeled), "last_transport": objective.facts}
    return Trained(files, {"heads": heads, **facts})


def build(job: TrainJob, source: TrainSource, device: str) -> tuple[Sela, Schedule]:
    """The objective of this stage, with its first labels from a file or drawn, and what it goes through."""
    recipe, settings, gids = job.recipe, job.recipe.sela, source.gids
    judge = HeldoutJudge(heldout_graph(recipe, job.inputs["mine"], gids), source)
    net = _net(job, source).to(device)
    if settings.first_labels is None:
        labels = random_labels(settings.num_heads, len(gids), recipe.clusters, recipe.seed)
    else:
        labels = torch.from_numpy(read_labels(recipe, gids))
    prior = prior_tensor(read_prior(recipe, settings.prior))
    is_cached = job.reads == "embeddings"
    every = 1 if is_cached else max(1, math.ceil(settings.epochs / JUDGEMENTS_ON_IMAGES))
    objective = Sela(net, settings, labels, source.features, judge, every, prior, on_pass=watchdog.heartbeat)
    order = Order(gids, settings.batch_size, recipe.seed)
    return objective, Schedule(order, settings.epochs, settings.optimizer, "sela.batch_size")


def _net(job: TrainJob, source: TrainSource) -> nn.Module:
    if isinstance(source, FeatureSource):
        return fresh_heads(job.recipe, job.recipe.sela.num_heads, source.dim)
    net = build_cluster_net(job.recipe, job.inputs["pretext"], job.recipe.sela.num_heads)
    return net.to(memory_format=torch.channels_last)
