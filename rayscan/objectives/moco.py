"""MoCo v2 (arXiv 1911.05722, 2003.04297): a query finds the key of its image among a queue of earlier keys.

One queue for all workers: every worker holds the same rows in the order of the global batch. Queue and
momentum encoder are part of the checkpoint.
Deviation: the paper shuffles images among GPUs before the key encoder, so that a query and its key are not
normalised by the statistics of one small group, which would give the answer away. Here both are normalised
over the global batch (synchronised BN): the group is the whole batch, no worker count changes the result,
and nothing is shuffled. On one worker that is weaker than eight shuffled groups of 32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rayscan import comms
from rayscan.losses.info_nce import info_nce
from rayscan.nets.average import follow, slow_copy
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, LossTerms
from rayscan.objectives.pretext import PretextObjective, sizes_of, wide


class MoCo(PretextObjective):
    """Batch: `views` [2, B, 3, S, S], `count`. View 0 is the query, view 1 the key."""

    def __init__(
        self, net: ProjectedNet, temperature: float, queue_size: int, momentum: float, dim: int
    ) -> None:
        """Wrap the net; the queue begins with random unit rows, from torch's generator.

        Args:
            net: Pixels to projections.
            temperature: tau.
            queue_size: Q.
            momentum: m of the key encoder.
            dim: Width of a projection (P).
        """
        super().__init__(net)
        self.temperature, self.momentum = temperature, momentum
        self.key_encoder = slow_copy(net)
        weight = next(net.parameters())
        rows = torch.randn(queue_size, dim)  # on the CPU: the same numbers whatever the device
        self.queue = functional.normalize(rows.to(weight), dim=1)
        self.start = 0
        self._keys: list[Tensor] = []
        self._sizes: list[Sequence[int] | None] = []

    def compile(self) -> None:
        """The key encoder too."""
        super().compile()
        self.key_encoder.compile(dynamic=False)

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's queries against their keys and the queue."""
        queries = functional.normalize(wide(self.net(batch["views"][0])), dim=1)
        with torch.no_grad():
            keys = functional.normalize(wide(self.key_encoder(batch["views"][1])), dim=1)
        self._keys.append(keys)
        self._sizes.append(sizes_of(batch))
        total = info_nce(queries, keys, self.queue, self.temperature) / batch["count"]
        alignment = (queries.detach() * keys).sum() / batch["count"]
        return LossTerms(total, {"loss": total.detach(), "alignment": alignment})

    @torch.no_grad()
    def after_step(self) -> None:
        """The key encoder follows; the keys of all workers replace the oldest of the queue."""
        follow(self.key_encoder, self.module, self.momentum)
        sizes = [list(s) for s in self._sizes if s is not None]
        known = [sum(parts) for parts in zip(*sizes, strict=True)] if len(sizes) == len(self._sizes) else None
        keys = comms.all_gather_with_grad(torch.cat(self._keys), known)[-len(self.queue) :]
        self._keys, self._sizes = [], []
        places = (self.start + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, places, keys.to(self.queue.dtype))
        self.start = (self.start + len(keys)) % len(self.queue)

    def own_tensors(self) -> dict[str, Tensor]:
        """Queue and key encoder."""
        return {"queue": self.queue, **{f"key.{k}": v for k, v in self.key_encoder.state_dict().items()}}

    def notes(self) -> dict[str, Any]:
        """Where the oldest key is."""
        return {"start": self.start}

    def restore_own(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back both."""
        self.queue.copy_(tensors["queue"])
        found = {k.removeprefix("key."): v for k, v in tensors.items() if k.startswith("key.")}
        self.key_encoder.load_state_dict(found)
        self.start = int(notes["start"])
