"""Which images come in which step: a pure function of (seed, epoch, step), for any number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from rayscan.data.keyed import Integers, permutation
from rayscan.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Order:
    """Epochs over a set of images: every image once an epoch, global batches of nearly equal size."""

    gids: Integers
    """The images, int64 [N]; their order here is part of the result."""
    batch_size: int
    """At most so many images per step, over all workers."""
    seed: int
    """Seed of the permutations."""

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

    def batch(self, epoch: int, step: int) -> Integers:
        """Images of a step over all workers, int64 [B].

        The remainder is spread over the epoch (batch sizes differ by at most one), because a last batch of a
        few images would disturb every statistic taken over a batch.

        Raises:
            IndexError: step is not in 0..num_steps-1.
        """
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} of an epoch of {self.num_steps}")
        rows = _epoch_rows(self.seed, epoch, len(self.gids))
        start, stop = (len(rows) * bound // self.num_steps for bound in (step, step + 1))
        return self.gids[rows[start:stop]]


def rank_slice(batch: Integers, rank: int, world_size: int) -> Integers:
    """A worker's contiguous share of a global batch; shares differ by at most one image and may be empty."""
    return batch[len(batch) * rank // world_size : len(batch) * (rank + 1) // world_size]


@lru_cache(maxsize=2)  # this epoch's and, while batches are prefetched, the next one's
def _epoch_rows(seed: int, epoch: int, n: int) -> Integers:
    rows = permutation(seed, epoch, n)
    rows.flags.writeable = False
    return rows
