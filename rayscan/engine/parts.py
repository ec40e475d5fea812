"""A batch cut into parts that go through the net one after the other: the gradient sums, memory does not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rayscan.objectives.base import Batch

VIEWS = "views"
"""Tensors of this name hold images along their second axis, all others along their first."""


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """`count` parts, as equal as can be; losses divide by the `count` of the whole global batch.

    Args:
        batch: This worker's slice.
        count: Number of parts, at most the images of the slice.
    """
    if count == 1:
        return [batch]
    parts: list[dict[str, Any]] = [{"count": batch["count"]} for _ in range(count)]
    for name, value in batch.items():
        if not isinstance(value, Tensor):
            continue
        for part, piece in zip(parts, torch.tensor_split(value, count, int(name == VIEWS)), strict=True):
            part[name] = piece
    for number, part in enumerate(parts):
        if "sizes" in batch:
            part["sizes"] = [size // count + (number < size % count) for size in batch["sizes"]]
    return list(parts)
