"""Keeping what batches of views leave behind: memory that was touched once costs nothing to use again.

By default the C library hands large blocks back to the system when they are freed, and the next batch faults
its pages in again. On virtual machines, where the host may have to find each page, that took up to three
times as long as making the views (docs/results/input.md).
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's <malloc.h>
LARGEST_BLOCK = 1 << 30  # bytes; larger ones still come from the system and go back to it
MOST_KEPT = (1 << 31) - 1  # bytes at the end of the heap; the largest number that fits


def keep_freed_memory() -> bool:
    """Keep memory that is freed, for the whole process; its size stays near its peak from then on.

    Returns:
        Whether the C library can be told; only glibc can.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = (
        (M_MMAP_THRESHOLD, LARGEST_BLOCK),
        (M_TRIM_THRESHOLD, MOST_KEPT),
        (M_ARENA_MAX, 1),  # a thread's own arena holds no block above 64 MB
    )
    return all(mallopt(option, value) for option, value in options)
