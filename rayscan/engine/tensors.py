"""Named tensors as safetensors bytes, and back. No pickle anywhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Safetensors bytes of CPU copies; shared storage is written out for each name."""
    return save({k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()})


def unpack(data: bytes, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Tensors by name, from safetensors bytes."""
    return {k: v.to(device) for k, v in load(data).items()}


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name starts with `prefix` and a dot, under the rest of their names."""
    head = prefix + "."
    return {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}
