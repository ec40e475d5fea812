"""Each step is taken at its own learning rate: the weights against the recursion on paper."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rayscan.config import OptimizerConfig
from rayscan.engine.checkpoint import Checkpoints
from rayscan.engine.loop import LoopSettings, Training
from rayscan.objectives.base import Batch, LossTerms, Objective
from rayscan.storage import Place

STEPS, EPOCHS, PEAK, FINAL = 4, 3, 0.5, 0.1
WARMUP = STEPS  # steps of the first epoch


class Numbered:
    """Batches that say which step they are of."""

    num_steps = STEPS

    def start(self, epoch: int, step: int, epochs: int) -> None:
        """Nothing to make ahead."""

    def close(self) -> None:
        """Nothing to stop."""

    def gids(self, epoch: int, step: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.arange(1)

    def batch(self, epoch: int, step: int) -> Batch:
        return {"slope": torch.tensor(epoch * STEPS + step + 1.0, dtype=torch.float64), "count": 1}


class Slope(Objective):
    """One weight w; the loss of step t is (t + 1) w, so its gradient is t + 1 whatever w is."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1, bias=False).double())
        nn.init.constant_(self.weight, 2.0)
        self.seen: list[float] = []
        """w at the beginning of each step."""

    @property
    def weight(self) -> Tensor:
        return self.module.weight  # type: ignore[return-value]

    def loss(self, batch: Batch) -> LossTerms:
        self.seen.append(float(self.weight.detach()))
        total = (self.weight * batch["slope"]).sum()
        return LossTerms(total, {"loss": total.detach()})


def rates() -> list[float]:
    """A linear rise over the first epoch, then half a cosine from the peak to its tenth."""
    rise = [PEAK * (t + 1) / (WARMUP + 1) for t in range(WARMUP)]
    rest = STEPS * EPOCHS - WARMUP
    low = PEAK * FINAL
    return rise + [low + (PEAK - low) * (1 + math.cos(math.pi * t / rest)) / 2 for t in range(rest)]


def trained(place: Path, log_every_steps: int = 1) -> tuple[Slope, Training]:
    optimizer = OptimizerConfig(
        kind="sgd", learning_rate=PEAK, weight_decay=0.0, warmup_epochs=1, final_fraction=FINAL
    )
    settings = LoopSettings(EPOCHS, optimizer, log_every_steps=log_every_steps)
    objective = Slope()
    run = Training(objective, Numbered(), settings, Checkpoints(Place(str(place)), "f"), lambda _: None)
    run.run()
    return objective, run


def test_weights_follow_the_recursion_with_the_rate_of_each_step(tmp_path: Path) -> None:
    """v <- 0.9 v + g, w <- w - rate v: Sutskever et al. (2013) as torch's SGD writes it."""
    objective, _ = trained(tmp_path)
    w, v, expected = 2.0, 0.0, []
    for t, rate in enumerate(rates()):
        expected.append(w)
        v = 0.9 * v + (t + 1)
        w -= rate * v
    assert objective.seen == pytest.approx(expected, rel=1e-12)
    assert float(objective.weight.detach()) == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize("every", [1, 3])
def test_history_names_the_rate_that_a_step_was_taken_with(every: int, tmp_path: Path) -> None:
    """Rows at every few steps and at the ends of epochs; the n-th step is taken with the n-th rate."""
    _, run = trained(tmp_path, every)
    told = {step: value for _, step, name, value in run.history.rows if name == "learning_rate"}
    ends = [n for n in range(1, STEPS * EPOCHS + 1) if n % every == 0 or n % STEPS == 0]
    assert list(told) == ends
    assert list(told.values()) == pytest.approx([rates()[n - 1] for n in ends], rel=1e-12)
