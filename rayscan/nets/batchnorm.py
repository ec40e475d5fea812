"""Batch normalisation over the global batch, on any device (torch's SyncBatchNorm refuses CPU tensors).

The statistics of W workers with uneven slices are those of one worker with the whole batch. Each layer sends
one message forward and one backward: workers are as fast as the slowest message is rare.
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
        if self.training and comms.is_distributed():
            return global_batch_norm(self, input)
        return super().forward(input)


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """`nn.BatchNorm1d` [B, C] whose training statistics cover the batches of all workers."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; in training over all workers."""
        if self.training and comms.is_distributed():
            return global_batch_norm(self, input)
        return super().forward(input)


def global_batch_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise by the statistics of every worker's batch, and move the running ones.

    Args:
        norm: The layer, in training, with weight and running statistics.
        x: [B, C] or [B, C, H, W].
    """
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None and norm.momentum is not None
    mean, var, count = _global_moments(x.detach())
    with torch.no_grad():
        norm.num_batches_tracked += 1
        unbiased = var * (count / (count - 1).clamp(min=1))
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
    out: Tensor = _Normalize.apply(x, norm.weight, norm.bias, mean, var, count, norm.eps)
    return out


def _global_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [C], biased variance [C] and count [] over all workers.

    Every worker sends its own mean and variance; they are combined about the common mean (Chan, Golub,
    LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979, Eq. 2.1), so
    nothing cancels. All sum in rank order and get the same bits.
    """
    num_channels = x.shape[1]
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    # momentum 0 leaves the two buffers; their type makes the statistics of half-precision input wide
    buffers = x.new_zeros((2, num_channels), dtype=wide)
    mean, var = torch.batch_norm_update_stats(x, buffers[0], buffers[1], 0.0)
    parts = comms.all_gather_rows(torch.cat([mean, var, mean.new_tensor([x.numel() / num_channels])]))
    counts = parts[:, -1:]  # [W, 1]
    means, variances = parts[:, :num_channels], parts[:, num_channels:-1]
    count = counts.sum()
    mean = (means * counts).sum(0) / count
    var = ((variances + (means - mean).square()) * counts).sum(0) / count
    return mean, var, count


class _Normalize(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, with mean and var depending on every worker's x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps = eps
        return torch.batch_norm(x, weight, bias, mean, var, False, 0.0, eps, False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        grad = grads[0]
        _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, None, None, False, ctx.eps, [False, True, True]
        )  # with fixed moments: the sums over this worker's elements alone
        both = comms.all_reduce(torch.cat([grad_bias, grad_weight]))  # the loss is summed over workers
        mean_grad, mean_grad_normal = (both / count).chunk(2)
        # grad_x = scale * (grad - mean_grad - normal * mean_grad_normal), gathered by powers of x
        inv_std = torch.rsqrt(var + ctx.eps)
        scale = inv_std * weight
        slope = -scale * inv_std * mean_grad_normal
        offset = -scale * mean_grad - slope * mean
        grad_x = torch.addcmul(_per_channel(offset, x), x, _per_channel(slope, x))
        grad_x.addcmul_(grad, _per_channel(scale, x))
        return grad_x, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None, None, None, None


def _per_channel(v: Tensor, x: Tensor) -> Tensor:
    return v.view(1, -1, *[1] * (x.dim() - 2)).to(x.dtype)
