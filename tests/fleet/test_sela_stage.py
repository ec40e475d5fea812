"""Stage sela: what it hands to its objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rayscan.artifacts import Draft, Step
from rayscan.config import SelaConfig
from rayscan.engine import watchdog
from rayscan.stages import sela
from rayscan.storage import Place
from rayscan.training.job import TrainJob
from tests.fleet.test_search_trials import RECIPE, make_setup


def test_every_pass_of_a_transport_is_a_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transport of many images outlasts what a worker may stand still."""
    beats: list[int] = []
    monkeypatch.setattr(watchdog, "heartbeat", lambda: beats.append(1))
    settings = SelaConfig(inputs="embeddings", num_heads=2, sinkhorn_tolerance=1e-6)
    recipe = replace(RECIPE, method="sela", sela=settings)
    place = Place(str(tmp_path))
    inputs = make_setup(tmp_path).inputs
    job = TrainJob(recipe, inputs, Draft(place, Step("sela", 1, {})), place, "embeddings")
    objective, _ = sela.build(job, job.source("cpu"), "cpu")
    assert not beats
    objective.relabel()
    passes = 2 * objective.facts["sinkhorn_iterations"]
    assert passes > 2
    assert len(beats) >= passes
