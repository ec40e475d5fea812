"""Mutual neighbors: a mined neighbor counts where each of the two is among the first m of the other.

Comes from whole lists in the order (-score, id), goes into the column `chosen` of `neighbors.parquet`. Of the
other list two numbers are looked at, so memory grows with N, not with N K. Scores are symmetric bit by bit
(`vectors.rescore`), hence so is the choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints


@dataclass(frozen=True)
class MthNeighbors:
    """The m-th neighbor of every image."""

    scores: NDArray[np.float32]
    """Its score: [N]."""
    ids: Ints
    """Its id: [N]."""


def mth_neighbors(lists: Iterable[tuple[Ints, NDArray[np.float32]]], m: int) -> MthNeighbors:
    """The m-th neighbor in all lists, which come in pieces: ids [n, K] and scores [n, K] each, K >= m."""
    scores, ids = zip(*((scores[:, m - 1], ids[:, m - 1]) for ids, scores in lists), strict=True)
    return MthNeighbors(np.concatenate(scores), np.concatenate(ids))


def mutual_neighbors(
    anchors: Ints, neighbor_rows: Ints, scores: NDArray[np.float32], mth: MthNeighbors, m: int
) -> NDArray[np.bool_]:
    """Which neighbors count: bool [n, K].

    i is among the first m neighbors of j if the pair (-score, id) of i is not behind that of j's m-th; for
    exact lists without a limit of copies that is the same as being one of them.

    Args:
        anchors: Ids of the n images: [n].
        neighbor_rows: Where their neighbors stand in `mth`: [n, K].
        scores: [n, K].
        mth: The m-th neighbor of every image.
        m: At most K.

    Returns:
        At least one per row: where none is mutual, the nearest counts alone.
    """
    last = mth.scores[neighbor_rows]
    counts: NDArray[np.bool_] = (scores > last) | (
        (scores == last) & (anchors[:, None] <= mth.ids[neighbor_rows])
    )
    counts[:, m:] = False
    counts[~counts.any(axis=1), 0] = True
    return counts


def chosen_first(ids: Ints, chosen: NDArray[np.bool_], limit: int) -> tuple[Ints, Ints]:
    """Bring the chosen neighbors to the front, nearest first.

    Args:
        ids: [N, K].
        chosen: [N, K].
        limit: At most so many are wanted.

    Returns:
        Ids [N, limit], of which the first counts [N] are chosen; the others mean nothing.
    """
    out = np.empty((len(ids), limit), np.int64)
    for first in range(0, len(ids), 65_536):  # the order takes as much memory as the ids
        some: Any = slice(first, first + 65_536)
        order = np.argsort(~chosen[some], axis=1, kind="stable")[:, :limit]
        out[some] = np.take_along_axis(ids[some], order, axis=1)
    return out, np.minimum(chosen.sum(axis=1), limit)
