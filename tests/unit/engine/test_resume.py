"""A training that is cut at any step and taken up again ends with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rayscan.config import OptimizerConfig, SelfLabelConfig
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.loop import LoopSettings, Training
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.base import Batch, Objective
from rayscan.objectives.scan_loss import ScanLoss
from rayscan.objectives.selflabel import SelfLabel
from rayscan.storage import Place
from testing.objectives import scan_of

EPOCHS, STEPS, D, C = 3, 4, 6, 3


class CutError(Exception):
    """The power went out."""


class Features:
    """Random features, a pure function of (epoch, step); cuts the power before a given step."""

    num_steps = STEPS

    def __init__(self, cut_at: int | None = None) -> None:
        self.cut_at = cut_at

    def start(self, epoch: int, step: int, epochs: int) -> None:
        """Nothing to make ahead."""

    def close(self) -> None:
        """Nothing to stop."""

    def gids(self, epoch: int, step: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.arange(10)

    def batch(self, epoch: int, step: int) -> Batch:
        if epoch * STEPS + step == self.cut_at:
            raise CutError
        rng = np.random.default_rng([epoch, step])
        x = torch.from_numpy(rng.normal(size=(4, 10, D)).astype(np.float32))
        return {"anchors": x[0], "neighbors": x[1], "weak": 3 * x[2], "strong": 3 * x[3], "count": 10}


def scan_heads() -> Objective:
    torch.manual_seed(0)
    watched = torch.randn(5, D)
    heads = ClusterHeads(2, D, C)
    return scan_of(heads, ScanLoss(2.0), lambda net: net(watched).logsumexp(-1).mean(-1))


def selflabel() -> Objective:
    torch.manual_seed(0)
    return SelfLabel(ClusterHeads(1, D, C), SelfLabelConfig(threshold=0.6, ema_decay=0.9), num_images=40)


def train(
    objective: Objective, place: Path, kind: str, cut_at: int | None = None, every: float = 0.0
) -> Training:
    optimizer = OptimizerConfig(kind=kind, learning_rate=0.1, warmup_epochs=1)  # type: ignore[arg-type]
    settings = LoopSettings(EPOCHS, optimizer, checkpoint_every_seconds=every, log_every_steps=1)
    training = Training(
        objective, Features(cut_at), settings, Checkpoints(Place(str(place)), "f"), lambda _: None
    )
    try:
        training.run()
    except CutError:
        training.checkpoints.wait()  # what was being written reaches the disk, as it would in its thread
    return training


@pytest.mark.parametrize("build", [scan_heads, selflabel])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("cut_at", [1, 4, 6, 11])
def test_cut_and_resumed_equals_uninterrupted(build: Any, kind: str, cut_at: int, tmp_path: Path) -> None:
    whole = train(build(), tmp_path / "whole", kind)
    train(build(), tmp_path / "cut", kind, cut_at)
    resumed = train(build(), tmp_path / "cut", kind)
    assert whole.step == resumed.step == EPOCHS * STEPS
    for key, value in whole.objective.state_dict().items():
        assert torch.equal(value, resumed.objective.state_dict()[key]), key
    assert whole.history.rows == resumed.history.rows
    if build is selflabel:
        assert sum(whole.objective.history) > 0


def test_torn_altered_and_foreign_checkpoints_are_passed_over(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    checkpoints = Checkpoints(place, "mine")
    for step in (1, 2):
        checkpoints.save(step, {"w": torch.full((3,), float(step))}, {"n": step})
    checkpoints.wait()
    newest = sorted(tmp_path.iterdir())[-1]
    state_file = newest / "state.safetensors"
    good = state_file.read_bytes()
    for bad in (good[:-1], good[:-1] + bytes([good[-1] ^ 1]), b""):
        state_file.write_bytes(bad)
        found = checkpoints.newest()
        assert found is not None
        assert found.step == 1
    state_file.write_bytes(good)
    assert checkpoints.newest().step == 2  # type: ignore[union-attr]
    meta = (newest / "meta.json").read_bytes()
    for cut in range(0, len(meta), 7):
        (newest / "meta.json").write_bytes(meta[:cut])
        assert checkpoints.newest().step == 1  # type: ignore[union-attr]
    assert Checkpoints(place, "other").newest() is None


def test_old_checkpoints_are_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Place(str(tmp_path)), "f")
    for step in range(5):
        checkpoints.save(step, {"w": torch.zeros(1)}, {})
    checkpoints.close()
    assert [p.name.split("-")[1] for p in sorted(tmp_path.iterdir())] == ["000000003", "000000004"]
