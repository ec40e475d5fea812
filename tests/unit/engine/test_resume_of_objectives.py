"""Objectives with state of their own, cut at any step: running means, teachers, counts of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rayscan.config import SelfLabelConfig
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.base import Objective
from rayscan.objectives.scan_loss import ScanLoss
from rayscan.objectives.selflabel import SelfLabel
from testing.objectives import pmi_of, scan_of
from tests.unit.engine.test_resume import EPOCHS, STEPS, C, D, train


def judge() -> Callable[[Any], torch.Tensor]:
    watched = torch.randn(5, D, generator=torch.Generator().manual_seed(1))
    return lambda net: net(watched).logsumexp(-1).mean(-1)


def running() -> Objective:
    torch.manual_seed(0)
    heads = ClusterHeads(2, D, C)
    return scan_of(heads, ScanLoss(2.0, running=RunningMarginal(0.7, heads.bias)), judge())


def pmi() -> Objective:
    torch.manual_seed(0)
    heads = ClusterHeads(2, D, C)
    return scan_of(heads, pmi_of(heads, beta=0.6, decay=0.7, teacher_decay=0.9), judge(), judge_every=2)


def selflabel(**settings: Any) -> Objective:
    torch.manual_seed(0)
    asked = SelfLabelConfig(threshold=0.6, ema_decay=0.9, **settings)
    return SelfLabel(ClusterHeads(1, D, C), asked, num_images=40)


def per_class() -> Objective:
    return selflabel(threshold_kind="per_class", threshold_floor=0.1)


def taught() -> Objective:
    return selflabel(teacher="average")


@pytest.mark.parametrize("build", [running, pmi, per_class, taught])
@pytest.mark.parametrize("cut_at", [1, 3, 5, 8, 11])
def test_cut_and_resumed_equals_uninterrupted(
    build: Callable[[], Objective], cut_at: int, tmp_path: Path
) -> None:
    whole = train(build(), tmp_path / "whole", "sgd")
    train(build(), tmp_path / "cut", "sgd", cut_at)
    resumed = train(build(), tmp_path / "cut", "sgd")
    assert whole.step == resumed.step == EPOCHS * STEPS
    assert whole.history.rows == resumed.history.rows
    for key, value in whole.objective.state_dict().items():
        assert torch.equal(value, resumed.objective.state_dict()[key]), key
