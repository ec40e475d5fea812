"""LARS (arXiv 1708.03888): a layer's step is scaled by the size of its weights over that of its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

TRUST = 1e-3


class Lars(Optimizer):
    """v <- m v + gamma lambda (g + beta w), w <- w - v, with lambda = eta |w| / (|g| + beta |w|).

    Biases and normalisation weights, and weights or gradients of size zero, have lambda = 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = TRUST,
    ) -> None:
        """Set weights and rates.

        Args:
            params: Weights or groups of them.
            lr: gamma.
            momentum: m.
            weight_decay: beta, unless a group says another.
            trust: eta.
        """
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; everything stays on the device."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients = [p.grad for p in weights if p.grad is not None]
            steps = torch._foreach_add(gradients, weights, alpha=group["weight_decay"])
            torch._foreach_mul_(steps, self._rates(weights, gradients, group))
            velocities = [self._velocity(p) for p in weights]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, steps)
            torch._foreach_sub_(weights, velocities)

    def _rates(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Step size gamma * lambda of every weight, scalars on the device."""
        sizes = torch._foreach_norm(weights)
        slopes = torch._foreach_norm(gradients)
        rates = []
        for p, size, slope in zip(weights, sizes, slopes, strict=True):
            if p.ndim <= 1:
                rates.append(torch.full_like(size, group["lr"]))
                continue
            scale = group["trust"] * size / (slope + group["weight_decay"] * size)
            is_zero = (size == 0) | (slope == 0)
            rates.append(group["lr"] * torch.where(is_zero, torch.ones_like(scale), scale))
        return rates

    def _velocity(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(p)
        velocity: Tensor = state["momentum_buffer"]
        return velocity
