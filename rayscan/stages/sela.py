"""Stage sela: labels by optimal transport and a network that learns them, in turns (arXiv 1911.05371).

Stands where scan and selflabel stand in the other river: `--method sela`. With first labels from a file and
no re-labeling it is label transfer: another network, trained on what one run found.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.artifacts import Artifact, Step, digest
from rayscan.config import Recipe
from rayscan.data.order import Order, rank_slice
from rayscan.engine import watchdog
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.forward import forward
from rayscan.engine.loop import History
from rayscan.engine.tensors import pack
from rayscan.fleet.train import Worker, train
from rayscan.nets.heads import ClusterHeads, ClusterNet
from rayscan.nets.modes import evaluating
from rayscan.objectives.scan import Judge
from rayscan.objectives.sela import Features, Sela, random_labels
from rayscan.sections import semantic
from rayscan.stages.context import Context, Sources
from rayscan.stages.features import CachedFeatures
from rayscan.stages.first_labels import read_labels
from rayscan.stages.judging import graph_logits, heldout_graph
from rayscan.stages.models import build_cluster_net, feature_net, with_seed
from rayscan.stages.prior import prior_tensor, read_prior
from rayscan.stages.scan import heads_facts
from rayscan.stages.training import (
    Gids,
    TrainJob,
    check_batch,
    entries_from_json,
    entries_to_json,
    loop_settings,
    metrics_table,
    show_training,
)

NAME = "sela"
INPUTS = ("index", "pretext", "embed", "mine")
SCHEMA = 1
MODEL = "model.safetensors"
LOOKS = 10
"""Looks at the held-out graph in a training on images."""


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {
        "sela": semantic(recipe.sela),
        "num_clusters": recipe.num_clusters,
        "seed": recipe.seed,
        "images": semantic(recipe.images),
        "heldout_fraction": recipe.scan.heldout_fraction,
    }
    if (prior := read_prior(recipe, recipe.sela.prior)) is not None:
        config["prior"] = prior
    if recipe.sela.first_labels is not None:
        gids = done["embed"].read_array("gids.npy")[: int(done["embed"].facts["train_rows"])]
        config["first_labels"] = digest(read_labels(recipe, gids).tolist())
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in INPUTS})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Train on the fleet; resumes in mid-epoch, labels and all."""
    draft = context.draft(step)
    job = TrainJob(recipe, {name: done[name] for name in INPUTS}, draft, context.work(step))
    if recipe.sela.inputs == "embeddings":
        context.progress.start(NAME, 1, "heads")
        (returned,) = context.fleet.map(train_heads, [job], uses_gpu=True)
    else:
        returned = train(context.fleet, train_worker, job, name=NAME, on_facts=show_training(context, NAME))
    facts = {**returned["facts"], "reads": recipe.sela.inputs}
    artifact = draft.commit(entries_from_json(returned["files"]), facts=facts)
    context.clear(step)
    context.progress.finish(f"{facts['relabelings']} re-labelings, {recipe.sela.num_heads} heads")
    return artifact


def train_worker(job: TrainJob, worker: Worker) -> dict[str, Any]:
    """One worker's part of the training on images; worker 0 writes the result."""
    recipe, settings, gids = job.recipe, job.recipe.sela, job.train_gids()
    check_batch(settings.batch_size, len(gids), "sela.batch_size", worker)
    net = build_cluster_net(recipe, job.inputs["pretext"], settings.num_heads)
    net = net.to(worker.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader, graph = job.view_loader(worker.device), heldout_graph(recipe, job.inputs["mine"], gids)

    def judge(module: nn.Module) -> Tensor:
        return graph.losses(graph_logits(module, graph, loader, worker.device))

    def features(module: nn.Module) -> Tensor:
        assert isinstance(module, ClusterNet)
        mine = rank_slice(gids, comms.rank(), comms.world_size())
        with evaluating(module):
            return forward(module.features, loader.plain, mine, batch_size=256, device=worker.device)

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        views = loader.views(mine, settings.views, epoch, views=(0,))[0]
        return {"images": views, "rows": torch.from_numpy(np.searchsorted(gids, mine))}

    every = max(1, math.ceil(settings.epochs / LOOKS))
    objective = _objective(job, net, features, judge, every, gids)
    feed = OrderedFeed(Order(gids, settings.batch_size, recipe.seed), make, device=worker.device)
    loop = loop_settings(recipe, settings.epochs, settings.optimizer, worker.device)
    history = job.fit(objective, feed, loop, worker.report)
    return {} if worker.rank else _result(job, objective, objective.best.weights, history, gids)


def train_heads(job: TrainJob) -> dict[str, Any]:
    """Heads alone, on cached embeddings, in one process."""
    recipe, settings = job.recipe, job.recipe.sela
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cached = CachedFeatures(job.inputs["embed"], recipe.seed)
    graph = heldout_graph(recipe, job.inputs["mine"], cached.gids)
    watched, everything = cached.plain(graph.gids).to(device), cached.plain(cached.gids).to(device)
    with_seed(recipe.seed, "heads")
    assert recipe.num_clusters is not None
    heads = ClusterHeads(settings.num_heads, cached.dim, recipe.num_clusters).to(device)

    def judge(module: nn.Module) -> Tensor:
        with torch.no_grad():
            return graph.losses(module(watched))

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        rows = torch.from_numpy(np.searchsorted(cached.gids, mine))
        return {"images": cached.drawn(mine, epoch, 0), "rows": rows}

    objective = _objective(job, heads, lambda _: everything, judge, 1, cached.gids)
    order = Order(cached.gids, settings.batch_size, recipe.seed)
    feed = OrderedFeed(order, make, device=device, ahead=False)
    loop = loop_settings(recipe, settings.epochs, settings.optimizer, device)
    history = job.fit(objective, feed, loop, lambda _: None)
    backbone, _ = feature_net(recipe, job.inputs["pretext"])
    whole = {f"backbone.{k}": v for k, v in backbone.state_dict().items()}
    best = {k: v.cpu() for k, v in objective.best.weights.items()}
    return _result(job, objective, {**whole, **best}, history, cached.gids)


def _objective(
    job: TrainJob, net: nn.Module, features: Features, judge: Judge, every: int, gids: Gids
) -> Sela:
    """The objective with its first labels: of a file, or drawn."""
    recipe, settings = job.recipe, job.recipe.sela
    assert recipe.num_clusters is not None
    if settings.first_labels is None:
        labels = random_labels(settings.num_heads, len(gids), recipe.num_clusters, recipe.seed)
    else:
        labels = torch.from_numpy(read_labels(recipe, gids))
    prior = prior_tensor(read_prior(recipe, settings.prior))
    return Sela(net, settings, labels, features, judge, every, prior, on_pass=watchdog.heartbeat)


def _result(
    job: TrainJob, objective: Sela, weights: Mapping[str, Tensor], history: History, gids: Gids
) -> dict[str, Any]:
    """Weights of the best head, the labels of all, and what was measured."""
    columns = {f"head_{h}": pa.array(row.numpy()) for h, row in enumerate(objective.labels)}
    table = pa.table({"gid": pa.array(gids, pa.int64()), **columns})
    heads = heads_facts(objective.best)
    files = {
        MODEL: job.draft.write(MODEL, pack(weights)),
        "labels.parquet": job.draft.write_table("labels.parquet", table),
        "metrics.parquet": job.draft.write_table("metrics.parquet", metrics_table(history)),
        "heads.json": job.draft.write_json("heads.json", heads),
    }
    facts = {"heads": heads, "relabelings": objective.num_relabeled, "last_transport": objective.facts}
    return {"files": entries_to_json(files), "facts": facts}
