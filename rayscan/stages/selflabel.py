"""Stage selflabel: what the classifier is sure of teaches it the rest (SCAN Sec. 2.3).

It leaves no run worse than it found it by the label-free score on the held-out graph: where that fell, the
weights of scan are kept, and the facts and the terminal say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.data.order import Order
from rayscan.engine.feed import OrderedFeed
from rayscan.engine.loop import History
from rayscan.engine.tensors import pack, unpack
from rayscan.fleet.train import Worker, train
from rayscan.metrics.label_free import has_fallen
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.selflabel import SelfLabel
from rayscan.sections import semantic
from rayscan.stages.context import Context, Sources
from rayscan.stages.features import CachedFeatures
from rayscan.stages.judging import graph_logits, graph_score, heldout_graph
from rayscan.stages.models import load_cluster_net, load_heads
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

NAME = "selflabel"
SCHEMA = 3  # 2: the guard, 3: it tolerates a small fall
MODEL = "model.safetensors"


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {"selflabel": semantic(recipe.selflabel), "seed": recipe.seed, "images": semantic(recipe.images)}
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in _inputs(recipe)})


def _inputs(recipe: Recipe) -> tuple[str, ...]:
    is_cached = recipe.selflabel.inputs == "embeddings"
    inputs = ("index", "pretext", "embed", "scan") if is_cached else ("index", "pretext", "scan")
    return (*inputs, "mine") if recipe.selflabel.keep_better else inputs


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Fine-tune on the fleet; with 0 epochs the model of scan is taken as it is."""
    draft = context.draft(step)
    job = TrainJob(recipe, {name: done[name] for name in _inputs(recipe)}, draft, context.work(step))
    reads = done["scan"].facts["reads"] if recipe.selflabel.inputs == "embeddings" else "images"
    if recipe.selflabel.epochs == 0:
        files = {
            MODEL: draft.write(MODEL, done["scan"].read(MODEL)),
            "metrics.parquet": draft.write_table("metrics.parquet", metrics_table(History())),
        }
        facts: dict[str, Any] = {"epochs": 0, "confident": [], "reads": done["scan"].facts["reads"]}
        return draft.commit(files, facts=facts)
    if recipe.selflabel.inputs == "embeddings":
        context.progress.start(NAME, 1, "heads")
        (returned,) = context.fleet.map(train_head, [job], uses_gpu=True)
    else:
        returned = train(context.fleet, train_worker, job, name=NAME, on_facts=show_training(context, NAME))
    artifact = draft.commit(entries_from_json(returned["files"]), facts={**returned["facts"], "reads": reads})
    context.clear(step)
    confident = returned["facts"]["confident"]
    context.progress.finish(f"{len(confident)} epochs, {confident[-1]:,} images confident")
    guard = returned["facts"].get("guard")
    if guard and not guard["kept_new"]:
        context.progress.say(
            f"  {NAME}: the label-free score fell from {guard['before']:.4f} to {guard['after']:.4f}; the "
            "weights of scan are kept (--selflabel.no-keep-better takes the new ones)"
        )
    return artifact


def train_worker(job: TrainJob, worker: Worker) -> dict[str, Any]:
    """One worker's part of the training on images; worker 0 writes the result."""
    recipe, settings = job.recipe, job.recipe.selflabel
    gids = job.train_gids()
    check_batch(settings.batch_size, len(gids), "selflabel.batch_size", worker)
    net = load_cluster_net(recipe, job.inputs["pretext"], job.inputs["scan"])
    net = net.to(worker.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if settings.update == "head":
        net.backbone.requires_grad_(requires_grad=False)
    loader = job.view_loader(worker.device)

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        return {
            "weak": loader.plain(mine),
            "strong": loader.views(mine, settings.views, epoch, views=(0,))[0],
        }

    objective = SelfLabel(net, settings, len(gids))
    if settings.update == "head":
        net.backbone.eval()
    feed = OrderedFeed(Order(gids, settings.batch_size, recipe.seed), make, device=worker.device)
    loop = loop_settings(recipe, settings.epochs, settings.optimizer, worker.device)
    history = job.fit(objective, feed, loop, worker.report)
    guard = None
    if settings.keep_better:
        graph = heldout_graph(recipe, job.inputs["mine"], gids)
        before = load_cluster_net(recipe, job.inputs["pretext"], job.inputs["scan"]).to(worker.device)
        was, became = (
            graph_score(graph, graph_logits(module, graph, loader, worker.device))
            for module in (before, objective.average)
        )
        guard = verdict(was, became, settings.tolerated_fall)
    return {} if worker.rank else _result(job, objective, objective.average.state_dict(), history, guard)


def train_head(job: TrainJob) -> dict[str, Any]:
    """The head alone, on cached embeddings, in one process."""
    features = CachedFeatures(job.inputs["embed"], job.recipe.seed)
    found = load_heads(job.inputs["scan"])
    objective, history = fit_head(job, features, load_heads(job.inputs["scan"]))
    whole = unpack(job.inputs["scan"].read(MODEL))
    whole |= {f"heads.{k}": v for k, v in objective.average.state_dict().items()}
    guard = guard_heads(job, features, found, objective.average)
    return _result(job, objective, whole, history, guard)


def fit_head(job: TrainJob, features: CachedFeatures, head: ClusterHeads) -> tuple[SelfLabel, History]:
    """Train one head; writes nothing but checkpoints.

    Args:
        job: Settings and addresses.
        features: The embeddings, with the recipe's seed.
        head: What scan gave.
    """
    recipe, settings = job.recipe, job.recipe.selflabel
    device = "cuda" if torch.cuda.is_available() else "cpu"
    objective = SelfLabel(head.to(device), settings, features.num_train)

    def make(epoch: int, mine: Gids) -> dict[str, Tensor]:
        return {"weak": features.plain(mine), "strong": features.strong(mine, epoch)}

    feed = OrderedFeed(
        Order(features.gids, settings.batch_size, recipe.seed), make, device=device, ahead=False
    )
    loop = loop_settings(recipe, settings.epochs, settings.optimizer, device)
    return objective, job.fit(objective, feed, loop, lambda _: None)


def guard_heads(
    job: TrainJob, features: CachedFeatures, found: nn.Module, made: nn.Module
) -> dict[str, Any] | None:
    """Verdict on the head that scan found and the one made of it; None if it is not asked for."""
    if not job.recipe.selflabel.keep_better:
        return None
    graph = heldout_graph(job.recipe, job.inputs["mine"], features.gids)
    watched = features.plain(graph.gids)
    with torch.no_grad():
        before, after = (graph_score(graph, head.cpu()(watched)) for head in (found, made))
    return verdict(before, after, job.recipe.selflabel.tolerated_fall)


def verdict(before: float, after: float, tolerated_fall: float) -> dict[str, Any]:
    """The label-free scores of the model found and the model made, and whether the latter is kept."""
    fell = has_fallen(before, after, tolerated_fall)
    return {"score": "nmi_nn", "before": before, "after": after, "kept_new": not fell}


def _result(
    job: TrainJob,
    objective: SelfLabel,
    weights: Mapping[str, Tensor],
    history: History,
    guard: Mapping[str, Any] | None,
) -> dict[str, Any]:
    is_kept = guard is None or guard["kept_new"]
    files = {
        MODEL: job.draft.write(MODEL, pack(weights) if is_kept else job.inputs["scan"].read(MODEL)),
        "metrics.parquet": job.draft.write_table("metrics.parquet", metrics_table(history)),
    }
    facts = {"epochs": len(objective.history), "confident": objective.history, "guard": guard}
    return {"files": entries_to_json(files), "facts": facts}
