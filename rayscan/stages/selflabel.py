"""Stage selflabel: what the classifier is sure of teaches it the rest (SCAN Sec. 2.3).

It leaves no run worse than it found it by the label-free score on the held-out graph: where that fell, the
weights of scan are kept, and the facts and the terminal say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe, SelfLabelConfig
from rayscan.context import Context, Sources
from rayscan.data.order import Order
from rayscan.engine.loop import History
from rayscan.engine.tensors import pack, unpack
from rayscan.fleet.worker import Worker
from rayscan.metrics.label_free import has_fallen
from rayscan.objectives.selflabel import SelfLabel
from rayscan.sections import semantic
from rayscan.training.fit import Schedule, fit
from rayscan.training.heldout import HeldoutJudge, heldout_graph
from rayscan.training.job import TrainJob, metrics_table, train_on_fleet
from rayscan.training.models import MODEL, load_cluster_net, load_heads
from rayscan.training.pictures import images_of
from rayscan.training.sources import TrainSource
from rayscan.training.trained import Trained

NAME = "selflabel"
SCHEMA = 4
METRICS = "metrics.parquet"
FEW = 0.2
"""Share of the images below which those that teach are said to be few."""


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    images = images_of(recipe, done.get("pretext"))
    config = {"selflabel": semantic(recipe.selflabel), "seed": recipe.seed, "images": semantic(images)}
    inputs = {name: done[name].identity for name in _inputs(recipe) if name in done}
    return Step(NAME, SCHEMA, config, inputs)


def _inputs(recipe: Recipe) -> tuple[str, ...]:
    is_cached = recipe.selflabel.inputs == "embeddings"
    inputs = ("index", "pretext", "embed", "scan") if is_cached else ("index", "pretext", "scan")
    return (*inputs, "mine") if recipe.selflabel.keep_better else inputs


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Fine-tune on the fleet; with 0 epochs the model of scan is taken as it is."""
    draft, reads = context.draft(step), recipe.selflabel.inputs
    if recipe.selflabel.epochs == 0:
        files = {
            MODEL: draft.write(MODEL, done["scan"].read(MODEL)),
            METRICS: draft.write_table(METRICS, metrics_table(History())),
        }
        facts: dict[str, Any] = {"epochs": 0, "confident": [], "reads": done["scan"].facts["reads"]}
        return draft.commit(files, facts=facts)
    inputs = {name: done[name] for name in _inputs(recipe) if name in done}
    job = TrainJob(recipe, inputs, draft, context.work(step), reads)
    trained = train_on_fleet(context, job, train_worker)
    net_reads = done["scan"].facts["reads"] if reads == "embeddings" else "images"
    artifact = draft.commit(trained.files, facts={**trained.facts, "reads": net_reads})
    context.clear(step)
    confident, guard = trained.facts["confident"], trained.facts["guard"]
    context.progress.finish(f"{len(confident)} epochs, {confident[-1]:,} images confident")
    if guard and not guard["kept_new"]:
        context.progress.say(
            f"  {NAME}: the label-free score fell from {guard['before']:.4f} to {guard['after']:.4f}; the "
            "weights of scan are kept (--selflabel.no-keep-better takes the new ones)"
        )
    num_train = done["index"].facts["train"]
    if advice := about_few(recipe.selflabel, confident[-1], num_train):
        context.progress.say(f"  {NAME}: {advice}")
    return artifact


def about_few(settings: SelfLabelConfig, confident: int, images: int) -> str:
    """What to do where one threshold for all clusters leaves few images to teach; empty where it does not."""
    if settings.threshold_kind == "per_class" or confident >= FEW * images:
        return ""
    return (
        f"{confident:,} of {images:,} images are confident at {settings.threshold:g}; "
        "--selflabel.threshold-kind per_class lets clusters that are less sure teach as well"
    )


def train_worker(job: TrainJob, worker: Worker) -> Trained:
    """One worker's part of the training; worker 0 writes the result."""
    source = job.source(worker.device)
    objective, schedule = build(job, source, _net(job, worker.device))
    history = fit(job, worker, objective, source, schedule)
    guard = compare_with_scan(job, source, _net(job, worker.device), objective.average)
    if worker.rank:
        return Trained()
    scan = job.inputs["scan"].read(MODEL)
    if guard is not None and not guard["kept_new"]:
        model = scan
    elif job.reads == "embeddings":
        head = objective.average.state_dict()
        model = pack(unpack(scan) | {f"heads.{k}": v for k, v in head.items()})
    else:
        model = pack(objective.average.state_dict())
    files = {
        MODEL: job.draft.write(MODEL, model),
        METRICS: job.draft.write_table(METRICS, metrics_table(history)),
    }
    confident = objective.history
    return Trained(files, {"epochs": len(confident), "confident": confident, "guard": guard})


def build(job: TrainJob, source: TrainSource, net: nn.Module) -> tuple[SelfLabel, Schedule]:
    """The objective of this stage around a net with one head, and what it goes through."""
    settings = job.recipe.selflabel
    objective = SelfLabel(net, settings, len(source.gids))
    order = Order(source.gids, settings.batch_size, job.recipe.seed)
    return objective, Schedule(order, settings.epochs, settings.optimizer, "selflabel.batch_size")


def _net(job: TrainJob, device: str) -> nn.Module:
    """What scan found: the head alone for embeddings, the whole net for images."""
    if job.reads == "embeddings":
        return load_heads(job.inputs["scan"]).to(device)
    net = load_cluster_net(job.recipe, job.inputs["pretext"], job.inputs["scan"])
    net.backbone.requires_grad_(job.recipe.selflabel.update != "head")
    return net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def compare_with_scan(
    job: TrainJob, source: TrainSource, found: nn.Module, made: nn.Module
) -> dict[str, Any] | None:
    """The label-free scores of the net that scan found and the one made of it, and whether that is kept.

    Returns:
        score, before, after, kept_new; None if nothing is compared (`selflabel.keep_better`).
    """
    settings = job.recipe.selflabel
    if not settings.keep_better:
        return None
    judge = HeldoutJudge(heldout_graph(job.recipe, job.inputs["mine"], source.gids), source)
    before, after = judge.score(found), judge.score(made)
    fell = has_fallen(before, after, settings.tolerated_fall)
    return {"score": "nmi_nn", "before": before, "after": after, "kept_new": not fell}
