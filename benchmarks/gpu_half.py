"""Neighbors by proposals in bfloat16 on any device of torch, each within a proven bound or by float32.

The bound is that of docs/design/020-half-precision-proposals.md; tensor cores add in float32, if torch is
kept from adding partial sums in bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayscan.types import Ints
from rayscan.vectors.half_search import rounded

QUERY_TILE, ROW_TILE = 8192, 16 * 8192


@dataclass(frozen=True)
class Found:
    """The best rows of each query, best first."""

    rows: Ints
    """[q, k]."""
    by_float: int
    """Queries that the bound left to float32."""


def half_neighbors(x: NDArray[np.float32], k: int, device: str, *, width: int | None = None) -> Found:
    """The `k` best rows of every row by inner product.

    Args:
        x: [n, D], finite.
        k: Wanted, at most n.
        device: Of torch.
        width: Proposals per query; twice `k` and 16 more if left out.
    """
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    width = min(len(x), 2 * k + 16 if width is None else width)
    half, left_over, length = rounded(x)
    error = torch.from_numpy(_error(left_over, length, x.shape[1])).to(device)
    rows, half = torch.from_numpy(x).to(device), half.to(device)
    found, by_float = [], 0
    for at in range(0, len(x), QUERY_TILE):
        some = slice(at, at + QUERY_TILE)
        least, proposed = _best(half[some], half, width)
        scores = torch.einsum("qd,qwd->qw", rows[some], rows[proposed])
        best, order = scores.topk(k, dim=1)
        ids = proposed.gather(1, order)
        # nothing that was not proposed can score more, float32 included
        most = least + _half_place(least) + error[some]
        is_open = (best[:, -1].double() - error[some] <= most) & (width < len(x))
        if bool(is_open.any()):
            by_float += int(is_open.sum())
            ids[is_open] = _best(rows[some][is_open], rows, k)[1]
        found.append(ids)
    return Found(torch.cat(found).cpu().numpy(), by_float)


def _error(left_over: NDArray[np.float64], length: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """Bound on what a product of bfloat16, before it is rounded, or one of float32 is off by: [n]."""
    rounding = left_over * length.max() + (length + left_over) * left_over.max()
    additions = dim * 2.0**-23 * (length + left_over) * (length.max() + left_over.max())
    error: NDArray[np.float64] = rounding + additions + dim * 2.0**-120
    return error


def _best(queries: Tensor, rows: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Lowest of the `width` highest products of each query, and their rows: float64 [q], [q, width]."""
    scores = torch.empty(len(queries), 0, dtype=queries.dtype, device=queries.device)
    ids = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for low in range(0, len(rows), ROW_TILE):
        product = queries @ rows[low : low + ROW_TILE].T
        more, at = product.topk(min(width, product.shape[1]), dim=1)
        scores, ids = torch.cat([scores, more], 1), torch.cat([ids, at + low], 1)
        scores, chosen = scores.topk(min(width, scores.shape[1]), dim=1)
        ids = ids.gather(1, chosen)
    return scores[:, -1].double(), ids


def _half_place(score: Tensor) -> Tensor:
    """Half a unit in the last of the 8 bits of numbers in bfloat16."""
    _, exponent = torch.frexp(score)
    return torch.ldexp(torch.ones_like(score), exponent - 9)
