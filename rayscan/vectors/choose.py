"""Which of its mined neighbors an image is paired with: all, mutual ones, or those within a local scale.

Comes from whole lists in the order (-score, id), goes into the column `chosen` of `neighbors.parquet`. Every
rule looks at two ends of a pair through a few numbers per list, so memory grows with N, not with N K. Scores
are symmetric bit by bit (`vectors.rescore`), hence so are the rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NO_DISTANCE = 1e-6
"""1 - cosine up to which rows are at one place: what rounding leaves between equal rows."""


@dataclass(frozen=True)
class Rule:
    """What is asked of a pair; with nothing asked, every neighbor is chosen."""

    mutual: int | None = None
    """Each has a place among the first so many of the other."""
    scale: float | None = None
    """Squared distance at most this times the product of the two local scales."""
    scale_neighbor: int = 7
    """The local scale of an image is the distance to this neighbor of its."""


@dataclass(frozen=True)
class Ends:
    """What a rule must know of the list of every image."""

    last_score: NDArray[np.float32]
    """Score of the last of its first `Rule.mutual` neighbors: [N]."""
    last_id: NDArray[np.int64]
    """Id of that neighbor: [N]."""
    scale: NDArray[np.float64]
    """1 - cosine with its neighbor `Rule.scale_neighbor`, half of the squared distance: [N]."""

    @staticmethod
    def of(lists: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]], rule: Rule) -> Ends:
        """From all lists, in pieces: ids [m, K] and scores [m, K] each, K no less than the rule speaks of."""
        last = (rule.mutual or 1) - 1
        scale = 0 if rule.scale is None else rule.scale_neighbor - 1
        ends = [(s[:, last], i[:, last], _distance(s[:, scale])) for i, s in lists]
        return Ends(*(np.concatenate(column) for column in zip(*ends, strict=True)))


def choose(
    anchors: tuple[NDArray[np.int64], NDArray[np.int64]],
    near: tuple[NDArray[np.int64], NDArray[np.int64]],
    scores: NDArray[np.float32],
    ends: Ends,
    rule: Rule,
) -> NDArray[np.bool_]:
    """Which neighbors are chosen: bool [m, K].

    j has a place among the first neighbors of i if the pair (-score, id) of j is not behind that of the last
    of them; for exact lists without a limit of copies that is the same as being one of them.

    Args:
        anchors: Ids of the m images, and where they stand in `ends`: [m] each.
        near: Ids of their neighbors, and where these stand in `ends`: [m, K] each.
        scores: [m, K].
        ends: Of all lists.
        rule: What is asked.

    Returns:
        At least one per row: where none passes, the nearest is chosen alone.
    """
    (ids, at), (_, near_at) = anchors, near
    chosen = np.ones(scores.shape, bool)
    if rule.mutual is not None:
        chosen[:, rule.mutual :] = False
        last = ends.last_score[near_at]
        chosen &= (scores > last) | ((scores == last) & (ids[:, None] <= ends.last_id[near_at]))
    if rule.scale is not None:
        reach = rule.scale**2 * (ends.scale[at][:, None] * ends.scale[near_at])
        chosen &= np.square(_distance(scores)) <= reach
    chosen[~chosen.any(axis=1), 0] = True
    return chosen


def _distance(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - cosine, 0 between rows at one place; any shape."""
    distance = 1 - scores.astype(np.float64)
    distance[distance <= NO_DISTANCE] = 0.0
    return distance


def chosen_first(
    ids: NDArray[np.int64], chosen: NDArray[np.bool_], limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
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
