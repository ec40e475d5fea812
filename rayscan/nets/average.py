"""A slow copy of a net: its weights follow those of the student (arXiv 1911.05722, Eq. 2)."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

N = TypeVar("N", bound=nn.Module)


def slow_copy(net: N) -> N:
    """A copy that takes no gradient. It stays in train mode and keeps normalisation statistics of its own."""
    return copy.deepcopy(net).requires_grad_(requires_grad=False)


@torch.no_grad()
def follow(average: nn.Module, student: nn.Module, momentum: float) -> None:
    """theta_k <- m theta_k + (1 - m) theta_q; buffers are left alone."""
    slow: list[Tensor] = list(average.parameters())
    torch._foreach_lerp_(slow, [p.detach() for p in student.parameters()], 1 - momentum)
