"""Batch normalisation over the global batch, on any device (torch's SyncBatchNorm refuses CPU tensors).

The statistics of W workers with uneven slices are those of one worker with the whole batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rayscan import comms


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` [B, C, H, W] whose training statistics cover the batches of all workers.

    At world size 1 it is `nn.BatchNorm2d` itself. Parameter and buffer names are the same, so checkpoints
    are interchangeable.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; in training over all workers."""
        return _forward(self, input) if self.training and comms.is_distributed() else super().forward(input)


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """The same for [B, C]."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; in training over all workers."""
        return _forward(self, input) if self.training and comms.is_distributed() else super().forward(input)


def _forward(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    mean, var, count = _global_moments(x.detach())
    with torch.no_grad():
        norm.num_batches_tracked += 1
        unbiased = var * (count / (count - 1).clamp(min=1))
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
    out: Tensor = _Normalize.apply(x, norm.weight, norm.bias, mean, torch.rsqrt(var + norm.eps), count)
    return out


def _axes(x: Tensor) -> list[int]:
    return [axis for axis in range(x.dim()) if axis != 1]


def _per_channel(v: Tensor, x: Tensor) -> Tensor:
    return v.view(1, -1, *[1] * (x.dim() - 2)).to(x.dtype)


def _global_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and count [] over all workers; two passes, so that nothing cancels."""
    wide = x.double() if x.dtype == torch.float64 else x.float()
    local = torch.cat([wide.sum(_axes(x)), wide.new_tensor([wide.numel() / wide.shape[1]])])
    total = comms.all_reduce(local)
    count = total[-1]
    mean = total[:-1] / count
    squares = (wide - _per_channel(mean, wide)).square_().sum(_axes(x))
    return mean, comms.all_reduce(squares) / count, count


class _Normalize(torch.autograd.Function):
    """y = (x - mean) * inv_std * weight + bias, with mean and inv_std depending on every worker's x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inv_std: Tensor, count: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inv_std, count)
        scale = inv_std * weight
        return x * _per_channel(scale, x) + _per_channel(bias - mean * scale, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inv_std, count = ctx.saved_tensors
        grad = grads[0]
        normal = (x - _per_channel(mean, x)) * _per_channel(inv_std, x)
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        grad_bias = grad.sum(_axes(x), dtype=wide)
        grad_weight = (grad * normal).sum(_axes(x), dtype=wide)
        both = comms.all_reduce(torch.cat([grad_bias, grad_weight]))  # the loss is summed over workers
        mean_grad, mean_grad_normal = (both / count).chunk(2)
        inner = grad - _per_channel(mean_grad, x) - normal * _per_channel(mean_grad_normal, x)
        grad_x = inner * _per_channel(inv_std * weight, x)
        return grad_x, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None, None
