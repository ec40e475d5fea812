"""Micro-batches: parts of a batch that go through the net one by one; gradients sum, memory holds one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rayscan.objectives.base import Batch

VIEWS = "views"
"""Tensors of this name hold images along their second axis, all others along their first."""


def microbatches(batch: Batch, count: int) -> list[Batch]:
    """Split a batch into `count`, as equal as can be; losses divide by the `count` of the whole global batch.

    Args:
        batch: This worker's slice.
        count: Number of micro-batches, at most the images of the slice.
    """
    if count == 1:
        return [batch]
    split: list[dict[str, Any]] = [{"count": batch["count"]} for _ in range(count)]
    for name, value in batch.items():
        if not isinstance(value, Tensor):
            continue
        for micro, piece in zip(split, torch.tensor_split(value, count, int(name == VIEWS)), strict=True):
            micro[name] = piece
    for number, micro in enumerate(split):
        if "sizes" in batch:
            micro["sizes"] = [size // count + (number < size % count) for size in batch["sizes"]]
    return list(split)
