"""Moving averages over steps: of a net's weights, and of the mean assignment."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rayscan.objectives.counter import Counter


class MovingAverage(nn.Module):
    """A copy of a net that follows it: averaged weights, copied buffers; in eval mode, without gradient."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        """Begin as a copy.

        Args:
            net: The net to follow.
            decay: Per step; 0 is always the net itself.
        """
        super().__init__()
        self.net = copy.deepcopy(net).requires_grad_(requires_grad=False).eval()
        self.decay = decay
        self.steps = Counter()

    @torch.no_grad()
    def follow(self, student: nn.Module) -> None:
        """Move towards the student's weights.

        The decay grows from 0.1 as (1 + t) / (10 + t) up to its setting, so that a short run is averaged too.
        """
        self.steps.value += 1
        steps = self.steps.value
        decay = min(self.decay, (1 + steps) / (10 + steps)) if self.decay > 0 else 0.0
        averaged: list[Tensor] = [p for p in self.net.parameters() if p.is_floating_point()]
        current = [p.detach() for p in student.parameters() if p.is_floating_point()]
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in zip(self.net.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)


class RunningMarginal(nn.Module):
    """The mean assignment over many steps: [H, C], equal on every worker.

    The decay grows as t / (1 + t) up to its setting: the first steps are averaged evenly.
    """

    value: Tensor

    def __init__(self, decay: float, like: Tensor) -> None:
        """Nothing seen yet.

        Args:
            decay: Per step.
            like: [H, C]: shape, dtype and device of the mean.
        """
        super().__init__()
        self.decay = decay
        self.register_buffer("value", torch.zeros_like(like, requires_grad=False))
        self.steps = Counter()

    def update(self, batch_mean: Tensor) -> Tensor:
        """Take in the mean over a global batch.

        Args:
            batch_mean: [H, C], with or without gradient.

        Returns:
            [H, C]: the value is the running mean, the gradient that of the batch alone. With the plain
            average the gradient would shrink by 1 - decay, and lambda would mean less.
        """
        seen, steps = batch_mean.detach(), self.steps.value
        decay = min(self.decay, steps / (1 + steps))
        self.value = seen.clone() if steps == 0 else torch.lerp(seen, self.value, decay)
        self.steps.value += 1
        return self.value + (batch_mean - seen)
