"""Stage scan: images and their mined neighbors -> a classifier without a label (SCAN Sec. 2.2, Eq. 2).

Heads can be trained on cached embeddings (seconds), on images, or first the one and then the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from rayscan.artifacts import Artifact, FileEntry, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.order import Order
from rayscan.data.pairs import NeighborPairs
from rayscan.engine.tensors import pack, under, unpack
from rayscan.fleet.worker import Worker
from rayscan.nets.heads import heads_of
from rayscan.objectives.pair_losses import pair_loss
from rayscan.objectives.scan import Scan
from rayscan.objectives.selection import GRAPH_NEIGHBORS, HeldoutGraph
from rayscan.sections import semantic
from rayscan.training.fit import Schedule, fit
from rayscan.training.grouping_heads import START, voted_head
from rayscan.training.heldout import HeldoutJudge, split_train
from rayscan.training.job import TrainJob, metrics_table, train_on_fleet
from rayscan.training.models import MODEL, build_cluster_net, fresh_heads, with_backbone
from rayscan.training.pictures import images_of
from rayscan.training.prior import prior_tensor, read_prior
from rayscan.training.sources import FeatureSource, TrainSource
from rayscan.training.trained import Trained
from rayscan.training.whitened import SampledSpace, sampled_space
from rayscan.vectors.neighbor_table import NeighborTable

NAME = "scan"
SCHEMA = 2
INPUTS = ("index", "pretext", "embed", "mine")
HEADS = "heads.safetensors"
HEADS_CLUSTERS = "heads_clusters.parquet"
JUDGEMENTS_ON_IMAGES = 10


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {
        "scan": semantic(recipe.scan),
        "num_clusters": recipe.num_clusters,
        "seed": recipe.seed,
        "images": semantic(images_of(recipe, done.get("pretext"))),
    }
    if recipe.scan.start == "consensus":
        config["sizes"] = recipe.consensus.sizes
    if (prior := read_prior(recipe, recipe.scan.prior)) is not None:
        config["prior"] = prior
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in INPUTS if name in done})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Train heads on embeddings, then, if asked for, the net on images."""
    draft = context.draft(step)
    job = TrainJob(recipe, {name: done[name] for name in INPUTS if name in done}, draft, context.work(step))
    files: dict[str, FileEntry] = {}
    facts: dict[str, Any] = {}
    if recipe.scan.inputs != "images":
        if draft.finished_part(HEADS) is None:
            train_on_fleet(
                context, replace(job, reads="embeddings", work=job.work.child("heads")), train_worker
            )
            context.progress.finish()
        finished = draft.finished_part(HEADS)
        assert finished is not None
        files, facts = finished
    if recipe.scan.inputs != "embeddings":
        trained = train_on_fleet(context, job, train_worker)
        files, facts = files | dict(trained.files), facts | dict(trained.facts)
        context.progress.finish()
    facts["reads"] = "embeddings" if recipe.scan.inputs == "embeddings" else "images"
    kept = {name: entry for name, entry in files.items() if name != HEADS}
    artifact = draft.commit(kept, facts=facts)
    context.clear(step)
    return artifact


def train_worker(job: TrainJob, worker: Worker) -> Trained:
    """One worker's part of the training; worker 0 writes the result."""
    source = job.source(worker.device)
    objective, schedule = build(job, source, worker.device)
    history = fit(job, worker, objective, source, schedule)
    if worker.rank:
        return Trained()
    facts = {"heads": objective.best.facts()}
    if isinstance(source, FeatureSource):
        files = _write_heads(job, objective, source)
    else:
        starts_from_heads = job.recipe.scan.inputs == "both"
        name = "finetune.json" if starts_from_heads else "heads.json"
        files = {
            MODEL: job.draft.write(MODEL, pack(objective.best.weights())),
            name: job.draft.write_json(name, facts["heads"]),
        }
        facts = {} if starts_from_heads else facts
    names = ("metrics.parquet", *["heads_metrics.parquet"] * (job.reads == "embeddings"))
    files |= {name: job.draft.write_table(name, metrics_table(history)) for name in names}
    if job.reads == "embeddings":
        job.draft.finish_part(HEADS, files, facts)
    return Trained(files, facts)


def build(job: TrainJob, source: TrainSource, device: str) -> tuple[Scan, Schedule]:
    """The objective of this stage and what it goes through."""
    recipe, settings = job.recipe, job.recipe.scan
    is_cached = job.reads == "embeddings"
    num_neighbors = settings.num_neighbors
    if is_cached and settings.head_num_neighbors is not None:
        num_neighbors = settings.head_num_neighbors
    trained, graph, pairs = _graph(job, source, num_neighbors)
    prior = prior_tensor(read_prior(recipe, settings.prior), device)
    net = _net(job, source).to(device)
    epochs = settings.head_epochs if is_cached else settings.epochs
    every = 1 if is_cached else max(1, math.ceil(epochs / JUDGEMENTS_ON_IMAGES))
    loss, judge = pair_loss(settings, heads_of(net), prior), HeldoutJudge(graph, source, prior)
    objective = Scan(net, settings, loss, pairs, judge, every)
    batch_size = settings.head_batch_size if is_cached else settings.batch_size
    return objective, Schedule(
        Order(trained, batch_size, recipe.seed),
        epochs,
        settings.head_optimizer if is_cached else settings.optimizer,
        "scan.head_batch_size" if is_cached else "scan.batch_size",
    )


def _net(job: TrainJob, source: TrainSource) -> nn.Module:
    """Fresh heads alone, or on their backbone; or the head that training on embeddings found, on it."""
    recipe, settings = job.recipe, job.recipe.scan
    if isinstance(source, FeatureSource):
        heads = fresh_heads(recipe, settings.num_heads, source.dim)
        if settings.start in START:
            START[settings.start](heads, _space(job), recipe.seed, recipe.consensus.sizes)
        return heads
    starts_from_heads = settings.inputs == "both"
    net = build_cluster_net(recipe, job.inputs["pretext"], 1 if starts_from_heads else settings.num_heads)
    if starts_from_heads:
        finished = job.draft.finished_part(HEADS)
        assert finished is not None
        net.heads.load_state_dict(unpack(job.draft.place.read(finished[0][HEADS].path)))
    net.backbone.requires_grad_(settings.update != "head")
    return net.to(memory_format=torch.channels_last)


def _space(job: TrainJob) -> SampledSpace:
    return sampled_space(job.inputs["embed"], job.inputs["mine"])


def kept_head(
    job: TrainJob, objective: Scan, source: FeatureSource
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The one head that `scan.keep` asks for, its state, and what is to be known of a vote."""
    if job.recipe.scan.keep == "best":
        return under(objective.best.weights(), "heads"), {}
    num_clusters = objective.heads.bias.shape[1]
    groupings = source.clusters(objective.module)
    return voted_head(_space(job), groupings, num_clusters, job.recipe.seed)


def _graph(job: TrainJob, source: TrainSource, num_neighbors: int) -> tuple[Any, HeldoutGraph, NeighborPairs]:
    """Gids in the loss, the held-out graph, and the pairs one is drawn from."""
    recipe = job.recipe
    lists = NeighborTable.read(job.inputs["mine"])
    ids, counts = lists.paired(num_neighbors)
    trained, heldout = split_train(recipe, source.gids)
    pairs = NeighborPairs(
        lists.gids, ids, num_neighbors, recipe.seed, includes_self=recipe.scan.include_self, counts=counts
    )
    return trained, HeldoutGraph.build(heldout, lists.gids, lists.ids[:, :GRAPH_NEIGHBORS]), pairs


def _write_heads(job: TrainJob, objective: Scan, source: FeatureSource) -> dict[str, FileEntry]:
    """The kept head alone and with its features, and the clusters of all heads."""
    draft = job.draft
    head, told = kept_head(job, objective, source)
    whole = with_backbone(job.recipe, job.inputs.get("pretext"), {f"heads.{k}": v for k, v in head.items()})
    facts = objective.best.facts() | ({"vote": told} if told else {})
    return {
        HEADS: draft.write(HEADS, pack(head)),
        MODEL: draft.write(MODEL, pack(whole)),
        "heads.json": draft.write_json("heads.json", facts),
        HEADS_CLUSTERS: draft.write_table(HEADS_CLUSTERS, _clusters_of_heads(objective, source)),
    }


def _clusters_of_heads(objective: Scan, source: FeatureSource) -> pa.Table:
    """Cluster of every train image by every head, as they were at the end: gid, head_0, head_1 ..."""
    clusters = source.clusters(objective.module).astype(np.int32)
    columns = {f"head_{h}": pa.array(row) for h, row in enumerate(clusters)}
    return pa.table({"gid": pa.array(source.gids, pa.int64()), **columns})
