"""Stage scan: images and their mined neighbors -> a classifier without a label (SCAN Sec. 2.2, Eq. 2).

Heads can be trained on cached embeddings (seconds), on images, or first the one and then the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.artifacts import Artifact, FileEntry, Step
from rayscan.config import Recipe
from rayscan.data.keyed import permutation
from rayscan.data.order import Order, rank_slice
from rayscan.data.pairs import NeighborPairs
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.forward import forward
from rayscan.engine.loop import History
from rayscan.engine.tensors import pack, under, unpack
from rayscan.fleet.train import Worker, train
from rayscan.nets.heads import ClusterHeads
from rayscan.nets.modes import evaluating
from rayscan.objectives.best import BestHead
from rayscan.objectives.scan import Scan, ScanHeads
from rayscan.objectives.selection import HeldoutGraph, split_heldout
from rayscan.sections import semantic
from rayscan.stages.context import Context, Sources
from rayscan.stages.features import CachedFeatures
from rayscan.stages.models import build_cluster_net, feature_net, with_seed
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

NAME = "scan"
SCHEMA = 1
HEADS = "heads.safetensors"
LOOKS_ON_IMAGES = 10


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {
        "scan": semantic(recipe.scan),
        "num_clusters": recipe.num_clusters,
        "seed": recipe.seed,
        "images": semantic(recipe.images),
    }
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


def neighbor_ids(mine: Artifact, num_neighbors: int) -> tuple[Gids, Gids]:
    """Gids [N] and their first `num_neighbors` neighbors [N, K]."""
    table = mine.read_table("neighbors.parquet", columns=["gid", "ids"])
    gids = table.column("gid").to_numpy()
    flat = table.column("ids").combine_chunks().flatten().to_numpy()
    return gids, np.ascontiguousarray(flat.reshape(len(gids), -1)[:, :num_neighbors])


def train_heads(job: TrainJob) -> None:
    """H heads side by side on cached embeddings, in one process."""
    recipe = job.recipe
    objective, history = fit_heads(job, CachedFeatures(job.inputs["embed"], recipe.seed))
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
    }
    draft.finish_part(HEADS, files, {"heads": heads_facts(objective.best)})


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
    num_neighbors = settings.head_num_neighbors or settings.num_neighbors
    trained, graph, pairs = _graph(job, features.gids, num_neighbors)
    with_seed(recipe.seed, "heads")
    assert recipe.num_clusters is not None
    heads = ClusterHeads(settings.num_heads, features.dim, recipe.num_clusters).to(device)
    watched = features.plain(graph.gids).to(device)

    def judge(net: nn.Module) -> Tensor:
        with torch.no_grad():
            return graph.losses(net(watched))

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        near = pairs.draw(mine, epoch)
        return {"anchors": features.drawn(mine, epoch, 0), "neighbors": features.drawn(near, epoch, 1)}

    objective = ScanHeads(heads, settings.entropy_weight, judge, judge_every=1)
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

    def judge(module: nn.Module) -> Tensor:
        mine = rank_slice(graph.gids, worker.rank, worker.world_size)
        with evaluating(module):
            rows = forward(
                lambda pixels: module(pixels).transpose(0, 1),
                loader.plain,
                mine,
                batch_size=256,
                device=worker.device,
            )
        gathered: Tensor = comms.all_gather_with_grad(rows.to(worker.device))
        return graph.losses(gathered.transpose(0, 1))

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        near = pairs.draw(mine, epoch)
        anchors = loader.views(mine, settings.views, epoch, views=(0,))[0]
        return {"anchors": anchors, "neighbors": loader.views(near, settings.views, epoch, views=(1,))[0]}

    every = max(1, math.ceil(settings.epochs / LOOKS_ON_IMAGES))
    objective = Scan(net, settings.entropy_weight, judge, every, is_head_only=settings.update == "head")
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


def _graph(job: TrainJob, gids: Gids, num_neighbors: int) -> tuple[Gids, HeldoutGraph, NeighborPairs]:
    """Gids in the loss, the held-out graph, and the pairs one is drawn from."""
    recipe = job.recipe
    known, ids = neighbor_ids(job.inputs["mine"], max(num_neighbors, 5))
    order = permutation(recipe.seed, -1, len(gids))  # epoch -1: no epoch of any training
    trained, heldout = split_heldout(gids, recipe.scan.heldout_fraction, order)
    pairs = NeighborPairs(known, ids, num_neighbors, recipe.seed)
    return trained, HeldoutGraph.build(heldout, known, ids), pairs


def heads_facts(best: BestHead) -> dict[str, Any]:
    """Losses of all heads at the last look, and which head and epoch were kept."""
    return {"losses": best.latest, "best_head": best.head, "best_epoch": best.epoch, "best_loss": best.loss}
