"""MoCo v2 (arXiv 1911.05722, 2003.04297): a query finds the key of its image among a queue of earlier keys.

One queue for all workers: every worker holds the same rows in the order of the global batch. Queue and
momentum encoder are part of the checkpoint.
Deviation: the paper shuffles images among GPUs before the key encoder, so that a query and its key are not
normalised by the statistics of one small group, which would give the answer away. Here both are normalised
over the global batch (synchronised BN): the group is the whole batch, no worker count changes the result,
and nothing is shuffled. On one worker that is weaker than eight shuffled groups of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rayscan import comms
from rayscan.config import MoCoConfig
from rayscan.losses.info_nce import info_nce
from rayscan.nets.average import follow, slow_copy
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, LossTerms, at_least_float32
from rayscan.objectives.counter import Counter
from rayscan.objectives.pretext import PretextObjective, sizes_of


class MoCo(PretextObjective):
    """Batch: `views` [2, B, 3, S, S], `count`. View 0 is the query, view 1 the key."""

    queue: Tensor

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
        self.register_buffer("queue", functional.normalize(rows.to(weight), dim=1))
        self.start = Counter()
        """Place of the oldest key in the queue."""
        self._keys: list[Tensor] = []
        self._sizes: list[Sequence[int] | None] = []

    @classmethod
    def build(cls, settings: MoCoConfig, net: ProjectedNet, *, num_images: int, total_steps: int) -> MoCo:
        """MoCo v2 as `pretext` sets it."""
        del num_images, total_steps
        momentum, dim = settings.encoder_momentum, settings.projection_dim
        return cls(net, settings.temperature, settings.queue_size, momentum, dim)

    def compile_nets(self) -> None:
        """Compile the key encoder too."""
        super().compile_nets()
        self.key_encoder.compile(dynamic=False)

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's queries against their keys and the queue."""
        queries = functional.normalize(at_least_float32(self.net(batch["views"][0])), dim=1)
        with torch.no_grad():
            keys = functional.normalize(at_least_float32(self.key_encoder(batch["views"][1])), dim=1)
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
        start = self.start.value
        places = (start + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, places, keys.to(self.queue.dtype))
        self.start.value = (start + len(keys)) % len(self.queue)
