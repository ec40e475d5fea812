"""Batches for the loop: this worker's slice of the deterministic order, made ahead in the background."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from rayscan import comms
from rayscan.data.loader import Prefetcher
from rayscan.data.order import Order, rank_slice
from rayscan.objectives.base import Batch

Gids = np.ndarray[Any, np.dtype[np.int64]]
Make = Callable[[int, Gids], dict[str, Tensor]]


class OrderedFeed:
    """Slices of the global batches of an `Order`, turned into tensors by `make`."""

    def __init__(
        self,
        order: Order,
        make: Make,
        *,
        device: str = "cpu",
        ahead: bool = True,
        expect: Callable[[Gids], None] | None = None,
    ) -> None:
        """Set the order and what makes tensors of it.

        Args:
            order: The global batches.
            make: (epoch, gids of this worker's slice) -> tensors.
            device: Where the tensors go.
            ahead: Make batches in a background thread while the loop computes.
            expect: Told of images whose shards come soon, if the order goes through windows of shards.
        """
        self.order = order
        self.make = make
        self.device = device
        self.ahead = ahead
        self.expect = expect
        self._stream: Prefetcher[tuple[tuple[int, int], Batch]] | None = None

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return self.order.num_steps

    def gids(self, epoch: int, step: int) -> Gids:
        """Images of a global batch, int64 [B]."""
        return self.order.batch(epoch, step)

    def start(self, epoch: int, step: int, epochs: int) -> None:
        """Begin making batches from (epoch, step) to the end of the training."""
        if not self.ahead:
            return
        first, last = epoch * self.num_steps + step, epochs * self.num_steps
        self._stream = Prefetcher(self._numbered, range(first, last))

    def batch(self, epoch: int, step: int) -> Batch:
        """This worker's slice of a global batch, its `count`, and the `sizes` of all workers' slices."""
        if self._stream is None:
            return self._make(epoch, step)
        where, batch = next(self._stream)
        assert where == (epoch, step), f"feed is at {where}, loop at {(epoch, step)}"
        return batch

    def close(self) -> None:
        """Stop the background thread."""
        if self._stream is not None:
            self._stream.close()

    def _numbered(self, number: int) -> tuple[tuple[int, int], Batch]:
        epoch, step = divmod(number, self.num_steps)
        return (epoch, step), self._make(epoch, step)

    def _make(self, epoch: int, step: int) -> Batch:
        gids = self.order.batch(epoch, step)
        if self.expect is not None and len(coming := self.order.coming(epoch, step)):
            self.expect(coming)
        world = comms.world_size()
        tensors = self.make(epoch, rank_slice(gids, comms.rank(), world))
        sizes = [len(rank_slice(gids, rank, world)) for rank in range(world)]
        moved = {k: v.to(self.device, non_blocking=True) for k, v in tensors.items()}
        return {**moved, "count": len(gids), "sizes": sizes}
