"""A notice: one checkpoint at the step it is heard, nothing lost, and none after the last step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rayscan.engine import notice
from rayscan.engine.checkpoint import Checkpoints
from rayscan.storage import Place
from tests.unit.engine.test_resume import EPOCHS, STEPS, scan_heads, train


@pytest.fixture(autouse=True)
def quiet_again() -> Iterator[None]:
    yield
    notice.listen_to(notice._never)


def heard_at(step: int) -> None:
    """The notice comes while a step is computed; the loop asks once after each."""
    asked = [0]

    def ask() -> bool:
        asked[0] += 1
        return asked[0] >= step

    notice.listen_to(ask)


@pytest.mark.parametrize("step", [1, 5, EPOCHS * STEPS - 1])
def test_no_step_is_lost(step: int, tmp_path: Path) -> None:
    whole = train(scan_heads(), tmp_path / "whole", "sgd", every=1e9)
    heard_at(step)
    with pytest.raises(notice.MovedError, match=f"step {step}"):
        train(scan_heads(), tmp_path / "moved", "sgd", every=1e9)
    found = Checkpoints(Place(str(tmp_path / "moved")), "f").newest()
    assert found is not None
    assert found.step == step
    notice.listen_to(notice._never)
    moved = train(scan_heads(), tmp_path / "moved", "sgd", every=1e9)
    assert moved.history.rows == whole.history.rows
    for key, value in whole.objective.state_dict().items():
        assert torch.equal(value, moved.objective.state_dict()[key]), key


def test_a_training_that_is_over_does_not_move(tmp_path: Path) -> None:
    heard_at(EPOCHS * STEPS)
    assert train(scan_heads(), tmp_path, "sgd", every=1e9).step == EPOCHS * STEPS
