"""Heads on stored features as the product trains them, in this process.

`with_heads` trains one setting, `self_labelled` goes on with self-labelling; `scan`, `pmi` and `sela` are
methods of `benchmarks.clustering`.
"""

from __future__ import annotations

import copy
import math
import tempfile
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.stored_features import stored
from rayscan.artifacts import Draft, Step
from rayscan.config import OptimizerConfig, Recipe, ScanLossConfig, SelaConfig
from rayscan.consensus.neighbors import unit_rows
from rayscan.engine.tensors import under
from rayscan.nets.heads import ClusterHeads
from rayscan.sections import with_values
from rayscan.stages import scan as scan_stage
from rayscan.stages import sela as sela_stage
from rayscan.stages import selflabel as selflabel_stage
from rayscan.storage import Place
from rayscan.training.fit import alone, fit
from rayscan.training.job import TrainJob
from rayscan.training.models import heads_from
from rayscan.training.sources import FeatureSource

PMI_STEPS = 2_000
ADAM = OptimizerConfig(kind="adam", learning_rate=1e-2, weight_decay=0.0)
SCAN = ScanLossConfig(inputs="embeddings", num_heads=10, head_epochs=100, head_optimizer=ADAM)
"""The paper's lambda, ten heads and the one of the lowest loss; Adam at 0.01, as features are frozen."""
SELA = SelaConfig(inputs="embeddings", num_heads=10, num_relabelings=80, epochs=160, optimizer=ADAM)
"""The paper's T and number of transports."""


def scan(features: NDArray[np.float32], num_clusters: int, seed: int) -> dict[str, NDArray[Any]]:
    """SCAN's heads as the paper has them, on frozen features; one is kept by its held-out loss."""
    recipe = Recipe(name="scan", num_clusters=num_clusters, scan=SCAN, seed=seed)
    return {"SCAN": with_heads(recipe, unit_rows(features), "scan")}


def pmi(features: NDArray[np.float32], num_clusters: int, seed: int) -> dict[str, NDArray[Any]]:
    """The same with the weighted PMI of TEMI (arXiv 2303.17896); 2,000 steps or more, for its teacher."""
    steps = math.ceil(len(features) / SCAN.head_batch_size)
    settings = {"scan.loss": "pmi", "scan.head_epochs": max(SCAN.head_epochs, math.ceil(PMI_STEPS / steps))}
    recipe = Recipe(name="pmi", num_clusters=num_clusters, scan=SCAN, seed=seed)
    return {"PMI": with_heads(with_values(recipe, settings), unit_rows(features), "scan")}


def sela(features: NDArray[np.float32], num_clusters: int, seed: int) -> dict[str, NDArray[Any]]:
    """SeLa's heads on frozen features: labels by optimal transport, equal clusters."""
    recipe = Recipe(name="sela", num_clusters=num_clusters, method="sela", scan=SCAN, sela=SELA, seed=seed)
    return {"SeLa": with_heads(recipe, unit_rows(features), "sela")}


def with_heads(recipe: Recipe, rows: NDArray[np.float32], stage: Literal["scan", "sela"]) -> NDArray[Any]:
    """Clusters [N] of unit rows [N, D] by the head that a stage keeps; neighbors are exact."""
    with tempfile.TemporaryDirectory() as scratch:
        job = _job(recipe, rows, Place(scratch), stage)
        source = FeatureSource(job.inputs["embed"], recipe.seed)
        found: NDArray[Any] = source.clusters(_head(job, source, stage))[0]
    return found


def self_labelled(recipe: Recipe, rows: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any], bool]:
    """Clusters [N] of unit rows before and after self-labelling of SCAN's head on the features.

    Returns:
        Clusters before, clusters after, and whether the guard would keep the second. They are those of
        self-labelling in any case.
    """
    with tempfile.TemporaryDirectory() as scratch:
        job = _job(recipe, rows, Place(scratch), "scan")
        source = FeatureSource(job.inputs["embed"], recipe.seed)
        head = _head(job, source, "scan")
        job = replace(job, work=job.work.child("selflabel"))
        taught, schedule = selflabel_stage.build(job, source, copy.deepcopy(head))
        fit(job, alone(device="cpu"), taught, source, schedule)
        guard = selflabel_stage.compare_with_scan(job, source, head, taught.average)
        before, after = source.clusters(head)[0], source.clusters(taught.average)[0]
    return before, after, guard is None or bool(guard["kept_new"])


def _job(recipe: Recipe, rows: NDArray[np.float32], place: Place, stage: str) -> TrainJob:
    inputs = stored(place, rows, recipe.mine.space)
    return TrainJob(recipe, inputs, Draft(place, Step(stage, 1, {})), place.child("work"), "embeddings")


def _head(job: TrainJob, source: FeatureSource, stage: Literal["scan", "sela"]) -> ClusterHeads:
    """The head that a stage keeps."""
    build = scan_stage.build if stage == "scan" else sela_stage.build
    objective, schedule = build(job, source, "cpu")
    fit(job, alone(device="cpu"), objective, source, schedule)
    if isinstance(objective, sela_stage.Sela):
        return heads_from(under(objective.best.weights(), "heads"))
    return heads_from(scan_stage.kept_head(job, objective, source)[0])
