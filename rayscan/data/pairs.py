"""Anchor and neighbor: which of its mined neighbors an image meets at a step (SCAN Eq. 2).

Eq. 2 sums over all K neighbors; one drawn uniformly per anchor and step is its unbiased estimate but for the
factor K. At K = 0 an image meets itself in another view (Sec. 2.2).

Where neighbors were chosen by a rule, images have fewer than K, and not equally many. One is then drawn
uniformly from those there are. Where all K are met at a step, an image meets each of its own once and fills
the other places with draws from them: each counts K / (its number) on average, so the mean over the places
is, on average, the mean over its neighbors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayscan.data.keyed import choice, uniforms
from rayscan.errors import ConfigError, DataError
from rayscan.types import Ints


@dataclass(frozen=True, eq=False)
class NeighborPairs:
    """Draws one neighbor per anchor, the same for any batch, worker or process."""

    gids: Ints
    """Anchors with mined neighbors, ascending, int64 [N]."""
    ids: Ints
    """Their neighbors, nearest first, int64 [N, K]."""
    num_neighbors: int
    """Draw from the first so many."""
    seed: int
    """Seed of the draws."""
    includes_self: bool = False
    """The image itself counts as one more neighbor, before the first; at K = 0 it is the only one."""
    counts: Ints | None = None
    """How many of its first `num_neighbors` each anchor has, at least 1 [N]; all of them if none."""

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

    def draw(self, gids: Ints, epoch: int) -> Ints:
        """One neighbor of each anchor, int64 [B], uniform over its first `num_neighbors` or what it has.

        Raises:
            DataError: an anchor has no mined neighbors.
        """
        met, counts = self._met(gids)
        columns = choice(uniforms(self.seed, epoch, gids, 0, "neighbor", 1)[:, 0], counts)
        return met[np.arange(len(gids)), columns]

    def all(self, gids: Ints, epoch: int = 0) -> Ints:
        """All neighbors of each anchor, itself first where it counts: int64 [B, K'].

        Args:
            gids: Anchors [B].
            epoch: Of the draws that fill the places of anchors with fewer neighbors.

        Raises:
            DataError: an anchor has no mined neighbors.
        """
        met, counts = self._met(gids)
        if self.counts is None:
            return met
        columns = np.tile(np.arange(met.shape[1]), (len(gids), 1))
        drawn = choice(uniforms(self.seed, epoch, gids, 0, "fill", met.shape[1]), counts[:, None])
        return np.take_along_axis(met, np.where(columns < counts[:, None], columns, drawn), axis=1)

    def _met(self, gids: Ints) -> tuple[Ints, Ints]:
        """Whom the anchors may meet [B, K'], and how many of these count [B]; the anchor first if it does."""
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
        counts = np.full(len(gids), near.shape[1]) if self.counts is None else self.counts[rows]
        return (np.concatenate([gids[:, None], near], axis=1) if is_met else near), counts + is_met
