"""Adam with the learning rate falling to zero along a cosine.

The update of Kingma and Ba (arXiv 1412.6980, Algorithm 1), the schedule of Loshchilov and Hutter (arXiv
1608.03983, Eq. 5). torch.optim has both, but its first optimiser imports the compiler of torch, which takes
longer than all heads together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

DECAY, SQUARE_DECAY = 0.9, 0.999
EPSILON = 1e-8


class CosineAdam:
    """Steps for some tensors by their gradients."""

    def __init__(self, parameters: Sequence[torch.Tensor], rate: float, steps: int) -> None:
        """Start from zero moments.

        Args:
            parameters: Tensors that require gradients.
            rate: Learning rate of the first step.
            steps: After so many it is zero.
        """
        self._parameters, self._rate, self._steps = list(parameters), rate, steps
        self._means = [torch.zeros_like(one) for one in self._parameters]
        self._squares = [torch.zeros_like(one) for one in self._parameters]
        self._done = 0

    @torch.no_grad()
    def step(self) -> None:
        """Move every tensor against its gradient, and forget the gradients."""
        rate = self._rate * (1 + math.cos(math.pi * self._done / self._steps)) / 2
        self._done += 1
        first, second = 1 - DECAY**self._done, 1 - SQUARE_DECAY**self._done
        for one, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
            if one.grad is None:
                continue
            mean.mul_(DECAY).add_(one.grad, alpha=1 - DECAY)
            square.mul_(SQUARE_DECAY).addcmul_(one.grad, one.grad, value=1 - SQUARE_DECAY)
            one.addcdiv_(mean, (square / second).sqrt_().add_(EPSILON), value=-rate / first)
            one.grad = None
