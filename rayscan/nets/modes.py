"""Eval mode for a while, every module's own mode restored afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(net: nn.Module) -> Iterator[nn.Module]:
    """`net` in eval mode inside the block; parts that were frozen in eval mode stay so after it."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for module, was_training in modes:
            module.training = was_training
