"""Heads on stored features as the product trains them, in this process.

`with_heads` trains one setting; `scan`, `pmi` and `sela` are methods of `benchmarks.clustering`.
"""

from __future__ import annotations

import math
import tempfile
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.artifacts import Draft, Step
from rayscan.config import OptimizerConfig, Recipe, ScanLossConfig, SelaConfig
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.engine.tensors import under
from rayscan.sections import with_values
from rayscan.stages import scan as scan_stage
from rayscan.stages import sela as sela_stage
from rayscan.storage import Place
from rayscan.training.fit import alone, fit
from rayscan.training.job import TrainJob
from rayscan.training.models import heads_from
from rayscan.training.sources import FeatureSource
from rayscan.training.whitened import sampled_space
from testing.matrices import embedded

NEIGHBORS = 50
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
        place = Place(scratch)
        embed = embedded(place, rows, rows_per_part=len(rows))
        is_whitened = recipe.mine.space == "whitened"
        ids = sampled_space(embed).space.ids if is_whitened else nearest_rows(rows, NEIGHBORS)
        scores = np.einsum("nd,nkd->nk", rows, rows[ids])
        table = pa.table({"gid": np.arange(len(ids)), "ids": list(ids), "scores": list(scores)})
        draft = Draft(place, Step("mine", 1, {"space": recipe.mine.space}))
        files = {"neighbors.parquet": draft.write_table("neighbors.parquet", table)}
        mine = draft.commit(files, facts={"space": recipe.mine.space})
        job = TrainJob(
            recipe,
            {"embed": embed, "mine": mine},
            Draft(place, Step(stage, 1, {})),
            place.child("work"),
            "embeddings",
        )
        source = FeatureSource(embed, recipe.seed)
        build = scan_stage.build if stage == "scan" else sela_stage.build
        objective, schedule = build(job, source, "cpu")
        fit(job, alone(device="cpu"), objective, source, schedule)
        if isinstance(objective, sela_stage.Sela):
            head = under(objective.best.weights(), "heads")
        else:
            head, _ = scan_stage.kept_head(job, objective, source)
        found: NDArray[Any] = source.clusters(heads_from(head))[0]
    return found
