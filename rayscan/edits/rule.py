"""Rows of assignments after edits.

Only the cluster an image was in says where it is now: joining two clusters takes no image out of a third,
even where the two are more probable together. Its confidence is the sum of the probabilities, among its five
best, of the clusters that were joined into its own; an image that was moved by hand has confidence 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.assignments import WASTE, runner_up
from rayscan.edits.clusters import EditedClusters
from rayscan.tables import as_lists, as_rows
from rayscan.types import Ints

COLUMNS = ("gid", "cluster", "top5", "top5_probs")
"""Those that say where an image is after edits."""
SECOND = "second"
"""The runner-up; runs of earlier versions have none."""
NONE = -2
"""Stands for no cluster while rows are worked on: less than any number, waste included."""


@dataclass(frozen=True)
class Rows:
    """What edits change of some rows."""

    clusters: Ints
    """Cluster, -1 for waste [n]."""
    confidence: NDArray[np.float32]
    """[n]."""
    margin: NDArray[np.float32]
    """Confidence less the probability of the best other cluster, not below 0 [n]."""
    top: Ints
    """Own cluster, then the most probable others; where there are fewer, -1 with probability 0 [n, T]."""
    probs: NDArray[np.float32]
    """Their probabilities [n, T]."""


class Rule:
    """What the operations do to rows."""

    def __init__(self, edited: EditedClusters, *, is_for_new: bool = False) -> None:
        """Make the tables.

        Args:
            edited: Clusters after all operations.
            is_for_new: Rows are of other images: those moved by hand say nothing of them.
        """
        numbers = range(edited.next_number)
        self._now = np.array([edited.now(number) for number in numbers], np.int64)
        moved = {} if is_for_new else edited.moved
        self._gids = np.array(sorted(moved), np.int64)
        self._targets = np.array([edited.now(moved[gid]) for gid in sorted(moved)], np.int64)

    def rows(self, table: pa.Table) -> Rows:
        """Edit some rows.

        Args:
            table: Columns COLUMNS of assignments as they were found.
        """
        former, probs = as_rows(table["top5"]).astype(np.int64), as_rows(table["top5_probs"])
        top, sums = self._joined(former, probs.astype(np.float64))
        found = table["cluster"].to_numpy().astype(np.int64)
        own = np.where(found >= 0, self._now[found], WASTE)
        top, sums = _own_first(own, top, sums)
        moved_to = self._moved(table["gid"].to_numpy())
        by_hand = moved_to != NONE
        top[by_hand] = NONE
        sums[by_hand] = 0.0
        top[by_hand, 0], sums[by_hand, 0] = moved_to[by_hand], 1.0
        final = np.minimum(sums, 1.0).astype(np.float32)
        _, second = runner_up(top, final)
        return Rows(
            top[:, 0].copy(),
            final[:, 0].copy(),
            np.maximum(final[:, 0] - second, np.float32(0)),
            np.where(top == NONE, WASTE, top),
            final,
        )

    def edit(self, table: pa.Table, is_prototype: NDArray[np.bool_]) -> pa.Table:
        """Edit a whole row group; columns that edits do not concern stay as they are."""
        rows = self.rows(table)
        changed = {
            "cluster": pa.array(rows.clusters, pa.int32()),
            "confidence": pa.array(rows.confidence),
            "margin": pa.array(rows.margin),
            "top5": as_lists(rows.top.astype(np.int32)),
            "top5_probs": as_lists(rows.probs),
            "is_prototype": pa.array(is_prototype),
        }
        if SECOND in table.column_names:
            second, probs = runner_up(rows.top, rows.probs)
            changed |= {SECOND: pa.array(second), f"{SECOND}_confidence": pa.array(probs)}
        for name, column in changed.items():
            table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
        return table

    def _joined(self, former: Ints, probs: NDArray[np.float64]) -> tuple[Ints, NDArray[np.float64]]:
        """Best clusters of now, each once with the sum of what it was joined from, in the order of old."""
        top = np.where(former >= 0, self._now[former], np.where(probs > 0, WASTE, NONE))
        sums = np.where(top == NONE, 0.0, probs)
        for at in range(1, top.shape[1]):
            for before in range(at):
                same = (top[:, at] == top[:, before]) & (top[:, at] != NONE)
                sums[same, before] += sums[same, at]
                sums[same, at] = 0.0
                top[same, at] = NONE
        return top, sums

    def _moved(self, gids: Ints) -> Ints:
        """The cluster each image was put into by hand, else NONE [n]."""
        if not len(self._gids):
            return np.full(len(gids), NONE, np.int64)
        at = np.minimum(np.searchsorted(self._gids, gids), len(self._gids) - 1)
        return np.where(self._gids[at] == gids, self._targets[at], NONE)


def _own_first(own: Ints, top: Ints, sums: NDArray[np.float64]) -> tuple[Ints, NDArray[np.float64]]:
    """Own cluster first, then by probability, the lower number at a tie, and what is no cluster last."""
    order = np.lexsort((top, -sums, top == NONE, top != own[:, None]), axis=1)
    return np.take_along_axis(top, order, axis=1), np.take_along_axis(sums, order, axis=1)
