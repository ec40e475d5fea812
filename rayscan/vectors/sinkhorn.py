"""Sinkhorn-Knopp: labels that split images into clusters of given sizes (SeLa, arXiv 1911.05371, Eq. 7-9).

Q = diag(c) exp(S) diag(r) with S = lambda log P: every row of Q sums to 1 / N, every column to its marginal.
A constant added to a row of S changes nothing, so logits will do for log-probabilities, and each row is
shifted by its largest entry: nothing overflows in float32. What lies 1e-25 below the best is raised to that:
processors compute many times slower with denormal numbers, and it weighs nothing.

Rows lie in blocks over the workers; of an iteration only the K column sums are shared. Both halves of an
iteration read a block once, while it is in the processor's cache. Scaling factors that grow large are
absorbed into the potentials (stabilised scaling), and the blocks are made again. Once the factors settle,
what the dtype cannot tell from 0 in its row is dropped, and where little is left the passes go over that
alone (truncation of the kernel: Schmitzer, arXiv 1610.06519).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from rayscan import comms
from rayscan.errors import DataError

BLOCK_BYTES = 500_000
"""A block of rows: fits in a processor's second-level cache."""
ABSORB = 40.0
"""Logarithms of scaling factors this far apart are absorbed: they lift an entry of 1e-25 to 2e-8 of its row,
still below what float32 can tell."""
SETTLED = 0.7
"""Largest change of the logarithm of a factor in a pass at which small entries are dropped."""
THIN_REACH = 12.0
"""How far apart logarithms of factors may go with the dropped entries; beyond it, they are chosen again."""
THIN_SHARE = 0.15
"""Share of the entries left above which dropping does not pay."""
CLAMP = 40.0
"""Largest logarithm of a factor in one step: a column without mass is raised step by step."""

Scores = Callable[[int, int], Tensor]
"""Rows [first, stop) of S, lambda times logits or log-probabilities: [n, K]."""


@dataclass(frozen=True)
class Scaling:
    """What the iteration found."""

    potentials: Tensor
    """Logarithms of r, float64 [K]; the next call may start from them."""
    iterations: int
    """Passes over the matrix."""
    error: float
    """Sum over the columns of |mass - marginal|, when all rows are right."""


class Matrix:
    """exp(S + potentials), rows shifted; kept where it fits, made anew in every pass where not."""

    def __init__(
        self, scores: Scores, num_rows: int, num_columns: int, dtype: torch.dtype, kept: bool
    ) -> None:
        """Nothing is computed yet."""
        self.scores, self.dtype = scores, dtype
        width = num_columns * torch.empty((), dtype=dtype).element_size()
        size = max(1, BLOCK_BYTES // width)
        self.ranges = [(first, min(first + size, num_rows)) for first in range(0, num_rows, size)]
        self.blocks: list[Tensor] | None = [] if kept else None
        self.potentials: Tensor | None = None
        self.least = 2 / 3 * math.log(torch.finfo(dtype).tiny)
        self.thinned: csr_array | None = None

    def absorb(self, potentials: Tensor) -> None:
        """Set new potentials; blocks that were kept are made again in their own memory."""
        self.potentials, self.thinned = potentials.to(self.dtype), None
        if self.blocks is None:
            return
        if not self.blocks:
            self.blocks = [self._block(*part) for part in self.ranges]
            return
        for block, part in zip(self.blocks, self.ranges, strict=True):
            block.copy_(self._block(*part))

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.ranges)

    def block(self, number: int) -> Tensor:
        """One block [n, K]."""
        return self._block(*self.ranges[number]) if self.blocks is None else self.blocks[number]

    def thin(self, potentials: Tensor, limit_bytes: int) -> bool:
        """Set new potentials and keep what counts in its row while factors stay within `THIN_REACH`.

        What is dropped is less than the rounding of the dtype, summed over the row. Blocks that were kept are
        given up.

        Returns:
            Whether so few are left that it pays; if not, nothing has changed.
        """
        num_columns, num_rows = len(potentials), self.ranges[-1][1] if self.ranges else 0
        least = math.log(torch.finfo(self.dtype).eps / num_columns) - THIN_REACH
        room = min(THIN_SHARE * num_rows * num_columns, limit_bytes / 12)
        shift = potentials.to(self.dtype)
        data, columns, counts, held = [], [], [], 0
        for first, stop in self.ranges:
            logs = self.scores(first, stop).to(self.dtype) + shift
            largest = logs.amax(dim=1, keepdim=True)
            is_large = (logs > largest + least).numpy()
            places = np.flatnonzero(is_large)
            held += len(places)
            if held > room:
                return False
            counts.append(np.count_nonzero(is_large, axis=1))
            rows = np.repeat(np.arange(stop - first), counts[-1])
            data.append(np.exp(logs.numpy().ravel()[places] - largest.numpy().ravel()[rows]))
            columns.append((places - num_columns * rows).astype(np.int32))
        if not data:
            return False
        ends = np.cumsum(np.concatenate([[0], *counts]))
        kept = csr_array((np.concatenate(data), np.concatenate(columns), ends), shape=(num_rows, num_columns))
        self.thinned, self.potentials = kept, shift
        self.blocks = None if self.blocks is None else []
        return True

    def _block(self, first: int, stop: int) -> Tensor:
        assert self.potentials is not None
        logs = self.scores(first, stop).to(self.dtype) + self.potentials
        return logs.sub_(logs.amax(dim=1, keepdim=True)).clamp_(min=self.least).exp_()


def sinkhorn(
    scores: Scores,
    num_rows: int,
    marginals: Tensor,
    *,
    tolerance: float = 0.01,
    max_iterations: int = 500,
    start: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    memory_bytes: int = 4_000_000_000,
    on_pass: Callable[[], None] = lambda: None,
) -> Scaling:
    """Scale the matrix to its marginals.

    Args:
        scores: This worker's rows of S.
        num_rows: How many rows this worker has.
        marginals: Share of each cluster [K], sums to 1, on the device of the scores.
        tolerance: Stop at this error.
        max_iterations: Stop then in any case.
        start: Potentials of an earlier call.
        dtype: float32, or float64 to check it.
        memory_bytes: Keep the matrix where it fits in so much, else make it anew in every pass.
        on_pass: Told as each pass over the matrix ends; one may take minutes.

    Raises:
        DataError: a score is not finite.
    """
    wanted = marginals.double()
    matrix = _whole(scores, num_rows, len(wanted), dtype, memory_bytes)
    total = float(comms.all_reduce(wanted.new_tensor(float(num_rows))))
    potentials = torch.zeros_like(wanted) if start is None else start.to(wanted)
    matrix.absorb(potentials)
    factors, error, is_thin = torch.zeros_like(wanted), float("inf"), False
    for iteration in range(1, max_iterations + 1):
        mass = factors.exp() * comms.all_reduce(_column_sums(matrix, factors.exp().to(dtype))) / total
        error = float((mass - wanted).abs().sum())
        on_pass()
        _require_finite(error)
        if error <= tolerance:
            return Scaling(potentials + factors, iteration, error)
        before, factors = factors, _updated(factors, wanted, mass)
        change, spread = float((factors - before).abs().max()), float(factors.max() - factors.min())
        is_settling = not (is_thin or wanted.is_cuda) and change < SETTLED
        if is_settling or spread > (THIN_REACH if is_thin else ABSORB):
            is_thin = is_thin or is_settling
            potentials, factors = potentials + factors, torch.zeros_like(wanted)
            if not (is_thin and matrix.thin(potentials, memory_bytes)):
                matrix.absorb(potentials)
    return Scaling(potentials + factors, max_iterations, error)


def _require_finite(error: float) -> None:
    if not error < float("inf"):
        raise DataError("a score is not finite", expected="finite logits", got=error, where="sinkhorn")


def _updated(factors: Tensor, wanted: Tensor, mass: Tensor) -> Tensor:
    """Factors that give the clusters of these masses their share; only their differences count."""
    moved = factors + (wanted / mass.clamp(min=1e-300)).log().clamp(-CLAMP, CLAMP)
    return moved - moved.mean()


def _whole(scores: Scores, num_rows: int, num_columns: int, dtype: torch.dtype, memory_bytes: int) -> Matrix:
    """This worker's rows, kept where they fit."""
    width = num_columns * torch.empty((), dtype=dtype).element_size()
    return Matrix(scores, num_rows, num_columns, dtype, kept=num_rows * width <= memory_bytes)


def _column_sums(matrix: Matrix, factors: Tensor) -> Tensor:
    """Sum of each column once every row is scaled to sum to 1, without the column's factor: float64 [K]."""
    if factors.is_cuda:
        sums = torch.zeros_like(factors, dtype=torch.float64)
        for number in range(len(matrix)):
            block = matrix.block(number)
            sums += torch.mv(block.T, torch.mv(block, factors).reciprocal_())
        return sums
    total, column = np.zeros(len(factors)), factors.numpy()
    if matrix.thinned is not None:
        return torch.from_numpy((matrix.thinned.T @ (1 / (matrix.thinned @ column))).astype(np.float64))
    for number in range(len(matrix)):
        rows = matrix.block(number).numpy()  # measured up to five times faster than torch.mv on CPUs
        total += (1 / (rows @ column)) @ rows
    return torch.from_numpy(total)


def labels_of(scores: Scores, num_rows: int, potentials: Tensor) -> Tensor:
    """The most likely cluster of each row of Q: int64 [num_rows]; sizes match the marginals nearly."""
    size = max(1, BLOCK_BYTES // (8 * len(potentials)))
    parts = [
        (scores(first, min(first + size, num_rows)).double() + potentials).argmax(1)
        for first in range(0, num_rows, size)
    ]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
