"""A preemption: one checkpoint at the step it is announced, nothing lost, and none after the last step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rayscan.engine import preemption
from rayscan.engine.checkpoint import Checkpoints
from rayscan.storage import Place
from tests.unit.engine.test_resume import EPOCHS, STEPS, scan_heads, train


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    yield
    preemption.set_check(preemption._never)


def announced_at(step: int) -> None:
    """It is announced while a step is computed; the loop asks once after each."""
    asked = [0]

    def ask() -> bool:
        asked[0] += 1
        return asked[0] >= step

    preemption.set_check(ask)


@pytest.mark.parametrize("step", [1, 5, EPOCHS * STEPS - 1])
def test_no_step_is_lost(step: int, tmp_path: Path) -> None:
    whole = train(scan_heads(), tmp_path / "whole", "sgd", every=1e9)
    announced_at(step)
    with pytest.raises(preemption.PreemptedError, match=f"step {step}"):
        train(scan_heads(), tmp_path / "moved", "sgd", every=1e9)
    found = Checkpoints(Place(str(tmp_path / "moved")), "f").newest()
    assert found is not None
    assert found.step == step
    preemption.set_check(preemption._never)
    moved = train(scan_heads(), tmp_path / "moved", "sgd", every=1e9)
    assert moved.history.rows == whole.history.rows
    for key, value in whole.objective.state_dict().items():
        assert torch.equal(value, moved.objective.state_dict()[key]), key


def test_a_training_that_is_over_does_not_move(tmp_path: Path) -> None:
    announced_at(EPOCHS * STEPS)
    assert train(scan_heads(), tmp_path, "sgd", every=1e9).step == EPOCHS * STEPS
