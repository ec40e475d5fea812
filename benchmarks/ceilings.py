"""What the processor is, and what it multiplies in float32 and bfloat16: two ceilings beside every ratio."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

SIDE = 2048
ROUNDS = 5
KINDS = (
    ("amx_bf16", "AMX"),
    ("avx512_bf16", "AVX-512 with bfloat16"),
    ("avx512_f", "AVX-512"),
    ("avx2", "AVX2"),
    ("bf16", "NEON with bfloat16"),
)
"""Flag of `torch.cpu.get_capabilities` -> what is said of it; the first that is there."""


def ceilings() -> dict[str, Any]:
    """The processor's kind, and TFLOP/s of a large product by torch with the threads of this process.

    Returns:
        `kind`, `tflops_fp32` and `tflops_bf16`: medians of interleaved products of two matrices of SIDE.
    """
    flags = torch.cpu.get_capabilities()
    kind = next((said for flag, said in KINDS if flags.get(flag)), "another")
    pairs = {name: _matrices(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    seconds: dict[str, list[float]] = {name: [] for name in pairs}
    for number in range(ROUNDS + 1):
        for name, (a, b, out) in pairs.items():
            began = time.perf_counter()
            torch.mm(a, b, out=out)
            if number:  # the first packs weights and fills caches
                seconds[name].append(time.perf_counter() - began)
    found = {
        f"tflops_{name}": 2 * SIDE**3 / statistics.median(taken) / 1e12 for name, taken in seconds.items()
    }
    return {"kind": kind, **found, "threads": torch.get_num_threads()}


def said(found: dict[str, Any]) -> str:
    """One line of it."""
    return (
        f"processor: {found['kind']}; product {found['tflops_fp32']:.3f} TFLOP/s in float32, "
        f"{found['tflops_bf16']:.3f} in bfloat16, {found['threads']} threads"
    )


def _matrices(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    a, b = (torch.randn(SIDE, SIDE, generator=random).to(dtype) for _ in range(2))
    return a, b, torch.empty(SIDE, SIDE, dtype=dtype)
