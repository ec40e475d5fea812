"""Which images come in which step: a pure function of (seed, epoch, step), for any number of workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from rayscan.data.keyed import permutation, uniforms
from rayscan.errors import ConfigError, DataError
from rayscan.types import Ints


@dataclass(frozen=True, eq=False)
class Order:
    """Epochs over a set of images: every image once an epoch, global batches of nearly equal size."""

    gids: Ints
    """The images, int64 [N]; their order here is part of the result."""
    batch_size: int
    """Most images per step, over all workers."""
    seed: int
    """Seed of the permutations."""
    shards: Ints | None = None
    """Shard of each image, int64 [N]; with `window`."""
    window: int | None = None
    """Mix so many shards at a time, in an order of shards drawn anew each epoch, instead of all images: for
    sets that are larger than a node's cache."""
    _known: dict[int, tuple[Ints, Ints]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Check that there is something to go over.

        Raises:
            DataError: no images.
            ConfigError: batch_size < 1.
        """
        if len(self.gids) == 0:
            raise DataError("there is no image to train on", expected="at least one", got=0)
        if self.batch_size < 1:
            raise ConfigError("a batch needs images", expected="batch_size >= 1", got=self.batch_size)

    @property
    def num_steps(self) -> int:
        """Steps per epoch: ceil(N / batch_size)."""
        return -(-len(self.gids) // self.batch_size)

    def batch(self, epoch: int, step: int) -> Ints:
        """Images of a step over all workers, int64 [B].

        The remainder is spread over the epoch (batch sizes differ by at most one), because a last batch of a
        few images would disturb every statistic taken over a batch.

        Raises:
            IndexError: step is not in 0..num_steps-1.
        """
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of an epoch of {self.num_steps}")
        rows = self._rows(epoch)[0]
        start, stop = (len(rows) * bound // self.num_steps for bound in (step, step + 1))
        return self.gids[rows[start:stop]]

    def coming(self, epoch: int, step: int) -> Ints:
        """Images of the shards that come soon, one each, if this step is the first to enter a window; int64.

        In the first step of an epoch those of this window and the next, later on those of the next.
        """
        rows, starts = self._rows(epoch)
        first, stop = (len(rows) * bound // self.num_steps for bound in (step, step + 1))
        entered = np.flatnonzero((starts >= first) & (starts < stop))
        if self.shards is None or not len(entered):
            return np.zeros(0, np.int64)
        bounds = [*starts.tolist(), len(rows)]
        begin = bounds[entered[0] if step == 0 else entered[0] + 1]
        end = bounds[min(entered[-1] + 2, len(bounds) - 1)]
        ahead = rows[begin:end]
        _, at = np.unique(self.shards[ahead], return_index=True)
        return self.gids[ahead[np.sort(at)]]

    def _rows(self, epoch: int) -> tuple[Ints, Ints]:
        """The order of an epoch, and where its windows begin."""
        if self.shards is None or self.window is None:
            return _epoch_rows(self.seed, epoch, len(self.gids)), np.zeros(1, np.int64)
        if epoch not in self._known:
            while len(self._known) > 1:  # this epoch's and, while batches are prefetched, the next one's
                self._known.pop(min(self._known))
            self._known[epoch] = windowed_rows(self.seed, epoch, self.gids, self.shards, self.window)
        return self._known[epoch]


def windowed_rows(seed: int, epoch: int, gids: Ints, shards: Ints, window: int) -> tuple[Ints, Ints]:
    """Positions 0..N-1 in an order that has only `window` shards mixed at a time; and where each mix begins.

    A pure function of its arguments: no number of workers, nodes or cached shards enters.

    Args:
        seed: Seed of the run.
        epoch: Pass over the data.
        gids: Images, int64 [N].
        shards: Their shards, int64 [N].
        window: Shards that are mixed.
    """
    present, codes = np.unique(shards, return_inverse=True)
    drawn = np.argsort(uniforms(seed, epoch, present, 0, "shard order", 1)[:, 0], kind="stable")
    place = np.empty(len(present), np.int64)
    place[drawn] = np.arange(len(present))
    windows = place[codes] // window
    rows = np.lexsort((uniforms(seed, epoch, gids, 0, "window order", 1)[:, 0], windows))
    rows.flags.writeable = False
    return rows, np.flatnonzero(np.diff(windows[rows], prepend=-1))


def rank_slice(batch: Ints, rank: int, world_size: int) -> Ints:
    """A worker's contiguous share of a global batch; shares differ by at most one image and may be empty."""
    return batch[len(batch) * rank // world_size : len(batch) * (rank + 1) // world_size]


@lru_cache(maxsize=2)  # this epoch's and, while batches are prefetched, the next one's
def _epoch_rows(seed: int, epoch: int, n: int) -> Ints:
    rows = permutation(seed, "epoch", epoch, n)
    rows.flags.writeable = False
    return rows
