"""Stage scan: images and their mined neighbors -> a classifier without a label (SCAN Sec. 2.2, Eq. 2).

Heads can be trained on cached embeddings (seconds), on images, or first the one and then the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from rayscan.artifacts import Artifact, FileEntry, Step
from rayscan.config import Recipe, ScanConfig
from rayscan.data.order import Order
from rayscan.data.pairs import NeighborPairs
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.loop import History
from rayscan.engine.tensors import pack, under, unpack
from rayscan.fleet.train import Worker, train
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.best import BestHead
from rayscan.objectives.pair_losses import pair_loss
from rayscan.objectives.scan import Scan, ScanHeads
from rayscan.objectives.selection import GRAPH_NEIGHBORS, HeldoutGraph
from rayscan.sections import semantic
from rayscan.stages.context import Context, Sources
from rayscan.stages.features import CachedFeatures
from rayscan.stages.judging import graph_logits, held_out
from rayscan.stages.models import build_cluster_net, feature_net, with_seed
from rayscan.stages.prior import prior_tensor, read_prior
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
from rayscan.vectors.neighbor_table import NeighborTable

NAME = "scan"
SCHEMA = 1
HEADS = "heads.safetensors"
HEADS_CLUSTERS = "heads_clusters.parquet"
LOOKS_ON_IMAGES = 10
ROWS_AT_ONCE = 16_384


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {
        "scan": semantic(recipe.scan),
        "num_clusters": recipe.num_clusters,
        "seed": recipe.seed,
        "images": semantic(recipe.images),
    }
    if (prior := read_prior(recipe, recipe.scan.prior)) is not None:
        config["prior"] = prior
    return Step(
        NAME, SCHEMA, config, {name: done[name].identity for name in ("index", "pretext", "embed", "mine")}
    )


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Train heads on embeddings, then, if asked for, the net on images."""
    draft = context.draft(step)
    inputs = {name: done[name] for name in ("index", "pretext", "embed", "mine")}
    job = TrainJob(recipe, inputs, draft, context.work(step))
    files: dict[str, FileEntry] = {}
    facts: dict[str, Any] = {}
    if recipe.scan.inputs != "images":
        if draft.finished_part(HEADS) is None:
            context.progress.start(f"{NAME} heads", recipe.scan.num_heads, "heads")
            context.fleet.map(train_heads, [job], uses_gpu=True)
            context.progress.at(recipe.scan.num_heads)
            context.progress.finish()
        finished = draft.finished_part(HEADS)
        assert finished is not None
        files, facts = finished
    if recipe.scan.inputs != "embeddings":
        returned = train(context.fleet, train_worker, job, name=NAME, on_facts=show_training(context, NAME))
        files, facts = files | entries_from_json(returned["files"]), facts | returned["facts"]
        context.progress.finish()
    facts["reads"] = "embeddings" if recipe.scan.inputs == "embeddings" else "images"
    kept = {name: entry for name, entry in files.items() if name != HEADS}
    artifact = draft.commit(kept, facts=facts)
    context.clear(step)
    return artifact


def train_heads(job: TrainJob) -> None:
    """H heads side by side on cached embeddings, in one process."""
    recipe = job.recipe
    features = CachedFeatures(job.inputs["embed"], recipe.seed)
    objective, history = fit_heads(job, features)
    best = {k: v.cpu() for k, v in under(objective.best.weights, "heads").items()}
    backbone, _ = feature_net(recipe, job.inputs["pretext"])
    whole = {f"backbone.{k}": v for k, v in backbone.state_dict().items()} | {
        f"heads.{k}": v for k, v in best.items()
    }
    draft = job.draft
    files = {
        HEADS: draft.write(HEADS, pack(best)),
        "model.safetensors": draft.write("model.safetensors", pack(whole)),
        "heads_metrics.parquet": draft.write_table("heads_metrics.parquet", metrics_table(history)),
        "metrics.parquet": draft.write_table("metrics.parquet", metrics_table(history)),
        "heads.json": draft.write_json("heads.json", heads_facts(objective.best)),
        HEADS_CLUSTERS: draft.write_table(HEADS_CLUSTERS, _clusters_of_heads(objective, features)),
    }
    draft.finish_part(HEADS, files, {"heads": heads_facts(objective.best)})


def _clusters_of_heads(objective: ScanHeads, features: CachedFeatures) -> pa.Table:
    """Cluster of every train image by every head, as they were at the end: gid, head_0, head_1 ..."""
    device = next(objective.module.parameters()).device
    parts = []
    with torch.no_grad():
        for first in range(0, len(features.gids), ROWS_AT_ONCE):
            rows = features.plain(features.gids[first : first + ROWS_AT_ONCE]).to(device)
            parts.append(objective.module(rows).argmax(-1).to("cpu", torch.int32))
    columns = {f"head_{h}": pa.array(row.numpy()) for h, row in enumerate(torch.cat(parts, dim=1))}
    return pa.table({"gid": pa.array(features.gids, pa.int64()), **columns})


def fit_heads(
    job: TrainJob,
    features: CachedFeatures,
    watch: Callable[[Mapping[str, Any], ScanHeads], None] = lambda _, __: None,
) -> tuple[ScanHeads, History]:
    """Train the heads; writes nothing but checkpoints.

    Args:
        job: Settings and addresses.
        features: The embeddings, with the recipe's seed.
        watch: Told what was logged, and the heads as they are then.
    """
    recipe, settings = job.recipe, job.recipe.scan
    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = settings.head_num_neighbors
    num_neighbors = settings.num_neighbors if asked is None else asked
    trained, graph, pairs = _graph(job, features.gids, num_neighbors)
    with_seed(recipe.seed, "heads")
    assert recipe.num_clusters is not None
    temperature = settings.start_temperature
    heads = ClusterHeads(settings.num_heads, features.dim, recipe.num_clusters, temperature=temperature)
    heads = heads.to(device)
    watched = features.plain(graph.gids).to(device)
    prior = prior_tensor(read_prior(recipe, settings.prior), device)

    def judge(net: nn.Module) -> Tensor:
        with torch.no_grad():
            return graph.losses(net(watched), prior)

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        near = neighbors_of(settings, pairs, mine, epoch)
        return {"anchors": features.drawn(mine, epoch, 0), "neighbors": features.drawn(near, epoch, 1)}

    objective = ScanHeads(heads, pair_loss(settings, prior), judge, 1, settings.teacher_decay)
    feed = OrderedFeed(
        Order(trained, settings.head_batch_size, recipe.seed), make, device=device, ahead=False
    )
    loop = loop_settings(recipe, settings.head_epochs, settings.head_optimizer, device)
    heads_job = TrainJob(recipe, job.inputs, job.draft, job.work.child("heads"))
    return objective, heads_job.fit(objective, feed, loop, lambda facts: watch(facts, objective))


def train_worker(job: TrainJob, worker: Worker) -> dict[str, Any]:
    """One worker's part of the training on images; worker 0 writes the result."""
    recipe, settings = job.recipe, job.recipe.scan
    trained, graph, pairs = _graph(job, job.train_gids(), settings.num_neighbors)
    check_batch(settings.batch_size, len(trained), "scan.batch_size", worker)
    starts_from_heads = settings.inputs == "both"
    net = build_cluster_net(recipe, job.inputs["pretext"], 1 if starts_from_heads else settings.num_heads)
    if starts_from_heads:
        finished = job.draft.finished_part(HEADS)
        assert finished is not None
        net.heads.load_state_dict(unpack(job.draft.place.read(finished[0][HEADS].path)))
    net = net.to(worker.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = job.view_loader(worker.device)

    prior = prior_tensor(read_prior(recipe, settings.prior), worker.device)

    def judge(module: nn.Module) -> Tensor:
        return graph.losses(graph_logits(module, graph, loader, worker.device), prior)

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        near = neighbors_of(settings, pairs, mine, epoch)
        anchors = loader.views(mine, settings.views, epoch, views=(0,))[0]
        return {"anchors": anchors, "neighbors": loader.views(near, settings.views, epoch, views=(1,))[0]}

    every = max(1, math.ceil(settings.epochs / LOOKS_ON_IMAGES))
    loss, is_head_only = pair_loss(settings, prior), settings.update == "head"
    objective = Scan(net, loss, judge, every, settings.teacher_decay, is_head_only=is_head_only)
    feed = OrderedFeed(Order(trained, settings.batch_size, recipe.seed), make, device=worker.device)
    loop = loop_settings(recipe, settings.epochs, settings.optimizer, worker.device)
    history = job.fit(objective, feed, loop, worker.report)
    if worker.rank:
        return {}
    facts = {"heads": heads_facts(objective.best)}
    name = "heads.json" if not starts_from_heads else "finetune.json"
    files = {
        "model.safetensors": job.draft.write("model.safetensors", pack(objective.best.weights)),
        "metrics.parquet": job.draft.write_table("metrics.parquet", metrics_table(history)),
        name: job.draft.write_json(name, facts["heads"]),
    }
    return {"files": entries_to_json(files), "facts": {} if starts_from_heads else facts}


def neighbors_of(settings: ScanConfig, pairs: NeighborPairs, gids: Gids, epoch: int) -> Gids:
    """Gids whom the anchors meet at a step: one each [B], or all of them, anchor by anchor [B K]."""
    return pairs.draw(gids, epoch) if settings.neighbors_per_step == "one" else pairs.all(gids, epoch).ravel()


def _graph(job: TrainJob, gids: Gids, num_neighbors: int) -> tuple[Gids, HeldoutGraph, NeighborPairs]:
    """Gids in the loss, the held-out graph, and the pairs one is drawn from."""
    recipe = job.recipe
    lists = NeighborTable.read(job.inputs["mine"])
    ids, counts = lists.paired(num_neighbors)
    trained, heldout = held_out(recipe, gids)
    pairs = NeighborPairs(
        lists.gids, ids, num_neighbors, recipe.seed, includes_self=recipe.scan.include_self, counts=counts
    )
    return trained, HeldoutGraph.build(heldout, lists.gids, lists.ids[:, :GRAPH_NEIGHBORS]), pairs


def heads_facts(best: BestHead) -> dict[str, Any]:
    """Losses of all heads at the last look, and which head and epoch were kept."""
    return {"losses": best.latest, "best_head": best.head, "best_epoch": best.epoch, "best_loss": best.loss}
