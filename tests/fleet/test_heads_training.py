"""Heads on stored embeddings get what images have: several workers, exact resume, a live curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayscan import comms
from rayscan.artifacts import Draft, Step
from rayscan.config import FleetConfig, SelaConfig
from rayscan.engine.checkpoint import Checkpoints
from rayscan.fleet.worker import Worker
from rayscan.stages import scan, sela
from rayscan.storage import Place
from rayscan.training.fit import fit
from rayscan.training.job import TrainJob
from tests.fleet.test_search_trials import RECIPE, make_setup
from tests.gloo.world import run_in_world

STAGES = {"scan": scan, "sela": sela}


class CutError(Exception):
    """The power went out."""


def job_in(place: Path, method: str) -> TrainJob:
    """Heads of a method on 200 rows in four groups; every step is logged and kept."""
    fleet = FleetConfig(log_every_steps=1, checkpoint_every_seconds=0.0)
    settings = SelaConfig(
        inputs="embeddings",
        num_heads=2,
        epochs=6,
        num_relabelings=4,
        batch_size=32,
        optimizer=RECIPE.scan.head_optimizer,
    )
    recipe = replace(RECIPE, method=method, sela=settings, fleet=fleet)
    out = Place(str(place))
    return TrainJob(
        recipe, make_setup(place).inputs, Draft(out, Step(method, 1, {})), out.child("work"), "embeddings"
    )


def trained(job: TrainJob, method: str, cut_at: int | None = None) -> dict[str, Any]:
    """Weights of the best head, and the curve; `cut_at` ends the training after that step was told."""
    told: list[int] = []

    def report(facts: Mapping[str, Any]) -> None:
        told.append(int(facts["step"]))
        if facts["step"] == cut_at:
            raise CutError

    source = job.source("cpu")
    objective, schedule = STAGES[method].build(job, source, "cpu")
    worker = Worker(comms.rank(), comms.world_size(), "cpu", report)
    history = fit(job, worker, objective, source, schedule)
    weights = {k: v.numpy() for k, v in objective.best.weights().items()}
    return {"weights": weights, "rows": history.rows, "told": told}


def in_world(rank: int, job: TrainJob, method: str) -> dict[str, Any]:
    """What one of several workers does."""
    return trained(job, method)


@pytest.mark.parametrize("method", STAGES)
def test_two_workers_do_what_one_does(method: str, tmp_path: Path) -> None:
    """Every worker has half of each batch; the sums of float32 differ in their order alone."""
    one = trained(job_in(tmp_path / "one", method), method)
    two = run_in_world(2, in_world, job_in(tmp_path / "two", method), method)
    for worker in two:
        for key, value in one["weights"].items():
            np.testing.assert_allclose(worker["weights"][key], value, rtol=1e-3, atol=1e-4, err_msg=key)
    losses = [[row[3] for row in run["rows"] if row[2] == "loss"] for run in (one, two[0])]
    assert len(losses[0]) == len(one["told"]) > 10
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("method", STAGES)
def test_a_cut_training_of_heads_goes_on_as_if_nothing_had_been(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoints, "is_busy", False)  # every step waits for the checkpoint before
    whole = trained(job_in(tmp_path / "whole", method), method)
    cut = job_in(tmp_path / "cut", method)
    with pytest.raises(CutError):
        trained(cut, method, cut_at=17)
    resumed = trained(cut, method)
    assert 15 < resumed["told"][0] <= 18, "it went on from a checkpoint"
    assert resumed["rows"] == whole["rows"]
    for key, value in whole["weights"].items():
        assert np.array_equal(resumed["weights"][key], value), key
