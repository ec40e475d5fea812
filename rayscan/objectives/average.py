"""Moving averages over steps: of a net's weights, and of the mean assignment."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class MovingAverage:
    """A copy of a net that follows it: averaged weights, copied buffers; in eval mode, without gradient."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        """Begin as a copy.

        Args:
            net: The net to follow.
            decay: Per step; 0 is always the net itself.
        """
        self.net = copy.deepcopy(net).requires_grad_(requires_grad=False).eval()
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Move towards the student's weights.

        The decay grows from 0.1 as (1 + t) / (10 + t) up to its setting, so that a short run is averaged too.
        """
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.decay > 0 else 0.0
        averaged: list[Tensor] = [p for p in self.net.parameters() if p.is_floating_point()]
        current = [p.detach() for p in student.parameters() if p.is_floating_point()]
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in zip(self.net.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return {f"average.{k}": v for k, v in self.net.state_dict().items()}

    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take back what `tensors` gave, after so many steps."""
        prefix = "average."
        self.net.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        self.steps = steps


class RunningMarginal:
    """The mean assignment over many steps: [H, C], equal on every worker.

    The decay grows as t / (1 + t) up to its setting: the first steps are averaged evenly.
    """

    def __init__(self, decay: float) -> None:
        """Nothing seen yet."""
        self.decay = decay
        self.steps = 0
        self.value: Tensor | None = None

    def update(self, batch_mean: Tensor) -> Tensor:
        """Take in the mean over a global batch.

        Args:
            batch_mean: [H, C], with or without gradient.

        Returns:
            [H, C]: the value is the running mean, the gradient that of the batch alone. With the plain
            average the gradient would shrink by 1 - decay, and lambda would mean less.
        """
        seen = batch_mean.detach()
        decay = min(self.decay, self.steps / (1 + self.steps))
        self.value = seen.clone() if self.value is None else torch.lerp(seen, self.value, decay)
        self.steps += 1
        return self.value + (batch_mean - seen)

    def tensors(self) -> dict[str, Tensor]:
        """The running mean, if there is one."""
        return {} if self.value is None else {"marginal": self.value}

    def notes(self) -> dict[str, Any]:
        """Steps it has seen."""
        return {"marginal_steps": self.steps}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `notes` gave."""
        self.value = tensors.get("marginal")
        self.steps = int(notes.get("marginal_steps", 0))
