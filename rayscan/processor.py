"""What this processor can do."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that keep libraries from using all that the processor has."""


def has_bf16_units() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware: AVX512-BF16, AMX or Arm's BF16 extension.

    Elsewhere bfloat16 on a CPU is slower than float32, by far where oneDNN may not use what is there.
    """
    import torch

    known = torch.cpu.get_capabilities()
    has_units = any(bool(known.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    return has_units and onednn_has_bf16()


def onednn_has_bf16() -> bool:
    """Whether oneDNN, which torch multiplies with, has bfloat16 here: its variables are heard."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def kind() -> str:
    """What tells processors apart for which a program is compiled, and the libraries it calls: 12 hex digits.

    oneDNN packs the weights of compiled programs for the instructions that it found. Read where it finds
    others, they corrupt memory, and a home directory may be that of many machines.
    """
    import torch

    told = [torch.__version__, sorted(torch.cpu.get_capabilities().items()), *map(os.environ.get, LIMITS)]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:12]


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Let BLAS compute with so many threads, also as a decorator; one is quicker for many small products.

    The threads of OpenBLAS wait for each other by spinning. Where others want the CPUs as well, or a
    container may use fewer than the machine has, small products were seen to take twenty times as long.
    That of faiss is meant too, and with it all of its threads, since its OpenBLAS sets those of OpenMP; torch
    keeps its own.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(count, "blas"):
        yield
