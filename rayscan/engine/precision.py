"""The precision of a net's forward pass. Losses, weights and statistics stay in fp32 in any case."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import nn

CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


@cache
def has_bf16_units() -> bool:
    """Whether this processor multiplies bf16 itself; elsewhere bf16 on a CPU is slower than fp32."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return False
    lines = (line.partition(":") for line in text.splitlines())
    flags = next((value for key, _, value in lines if key.strip() in ("flags", "Features")), "")
    return not CPU_FLAGS.isdisjoint(flags.split())


def is_half(precision: str, device: str, net: nn.Module) -> bool:
    """Whether the forward runs under bf16 autocast.

    auto: on GPUs; on CPUs where there are units for it and convolutions that gain (measured 2x).
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.device(device).type != "cpu":
        return True
    return has_bf16_units() and any(isinstance(m, nn.Conv2d) for m in net.modules())
