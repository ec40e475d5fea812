"""Anchor and neighbor: which of its mined neighbors an image meets at a step (SCAN Eq. 2).

Eq. 2 sums over all K neighbors; one drawn uniformly per anchor and step is its unbiased estimate but for the
factor K. At K = 0 an image meets itself in another view (Sec. 2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayscan.data.keyed import Integers, choice, uniforms
from rayscan.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class NeighborPairs:
    """Draws one neighbor per anchor, the same for any batch, worker or process."""

    gids: Integers
    """Anchors with mined neighbors, ascending, int64 [N]."""
    ids: Integers
    """Their neighbors, nearest first, int64 [N, K]."""
    num_neighbors: int
    """Draw from the first so many."""
    seed: int
    """Seed of the draws."""
    includes_self: bool = False
    """The image itself counts as one more neighbor, before the first; at K = 0 it is the only one."""

    def __post_init__(self) -> None:
        """Check the table.

        Raises:
            DataError: the anchors are not ascending, or rows and neighbors do not match.
            ConfigError: fewer neighbors were mined than asked for.
        """
        if self.ids.ndim != 2 or len(self.ids) != len(self.gids):
            raise DataError(
                "neighbors do not match their anchors",
                expected=f"[{len(self.gids)}, K]",
                got=list(self.ids.shape),
            )
        if np.any(np.diff(self.gids) <= 0):
            raise DataError(
                "anchors of the neighbor table are not ascending", expected="each gid once, in order"
            )
        if not 0 <= self.num_neighbors <= self.ids.shape[1]:
            raise ConfigError(
                "fewer neighbors were mined than shall be used",
                expected=f"0..{self.ids.shape[1]}",
                got=self.num_neighbors,
                where="scan.num_neighbors",
                fix="raise mine.num_neighbors or lower scan.num_neighbors",
            )

    def draw(self, gids: Integers, epoch: int) -> Integers:
        """One neighbor of each anchor, int64 [B], uniform over its first `num_neighbors`.

        Raises:
            DataError: an anchor has no mined neighbors.
        """
        met = self.all(gids)
        columns = choice(uniforms(self.seed, epoch, gids, 0, "neighbor", 1)[:, 0], met.shape[1])
        return met[np.arange(len(gids)), columns]

    def all(self, gids: Integers) -> Integers:
        """All neighbors of each anchor, itself first where it counts: int64 [B, K'].

        Raises:
            DataError: an anchor has no mined neighbors.
        """
        rows = np.searchsorted(self.gids, gids)
        known = (
            self.gids[np.minimum(rows, len(self.gids) - 1)] == gids
            if len(self.gids)
            else np.zeros(len(gids), bool)
        )
        if not known.all():
            raise DataError(
                "an image has no mined neighbors",
                expected="every train image in neighbors.parquet",
                got=f"gid {gids[~known][0]}",
                fix="mine again on the present index",
            )
        near = self.ids[rows, : self.num_neighbors]
        is_met = self.includes_self or self.num_neighbors == 0
        return np.concatenate([gids[:, None], near], axis=1) if is_met else near
