"""Stage sela: what it hands to its objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rayscan.artifacts import Draft, Step
from rayscan.config import Recipe, SelaConfig
from rayscan.engine import pulse
from rayscan.nets.heads import ClusterHeads
from rayscan.stages import sela
from rayscan.storage import Place
from rayscan.training.job import TrainJob


def test_every_pass_of_a_transport_is_a_beat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transport of many images outlasts what a worker may stand still."""
    beats: list[int] = []
    monkeypatch.setattr(pulse, "beat", lambda: beats.append(1))
    settings = SelaConfig(num_heads=2, sinkhorn_tolerance=1e-6)
    recipe = replace(Recipe(name="test", num_clusters=3, method="sela"), sela=settings)
    place = Place(str(tmp_path))
    job = TrainJob(recipe, {}, Draft(place, Step("sela", 1, {})), place)
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    gids = np.arange(60, dtype=np.int64)
    objective = sela._objective(job, ClusterHeads(2, 8, 3), lambda _: x, lambda _: torch.zeros(2), 1, gids)
    assert not beats
    objective.relabel()
    passes = 2 * objective.facts["sinkhorn_iterations"]
    assert passes > 2
    assert len(beats) >= passes
