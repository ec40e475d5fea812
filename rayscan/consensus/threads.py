"""How many threads compute: where rows are few, several wait for each other longer than they compute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rayscan.processor import blas_threads

ROWS_A_THREAD = 8192


@contextmanager
def threads_for(num_rows: int) -> Iterator[None]:
    """Let torch compute with a thread for each 8,192 rows, no more than it has now, and BLAS with one.

    With 4,000 rows a second thread takes a sixth off the time of an idle machine; where other processes want
    its CPU, each of the many thousand steps waits for it, and all take seven times as long.

    Args:
        num_rows: N.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 1 + num_rows // ROWS_A_THREAD))
    try:
        with blas_threads(1):
            yield
    finally:
        torch.set_num_threads(before)
