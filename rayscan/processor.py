"""What this processor can do."""

from __future__ import annotations

import torch


def has_bf16_units() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware: AVX512-BF16, AMX or Arm's BF16 extension.

    Elsewhere bfloat16 on a CPU is slower than float32.
    """
    known = torch.cpu.get_capabilities()
    return any(bool(known.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
