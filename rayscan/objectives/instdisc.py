"""Instance discrimination (arXiv 1805.01978): every image is a class of its own, told apart by NCE.

The memory bank holds one unit row per train image, by its number among the train images: every worker holds
all of it, and it is the same for any number of workers, so a training may go on with another number.
Deviation: no proximal term (Sec. 3.3 of the paper); noise rows are drawn by (seed, epoch, gid).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rayscan import comms
from rayscan.config import InstDiscConfig
from rayscan.data.keyed import choice, uniforms
from rayscan.losses.nce import instance_nce
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, LossTerms, Source, at_least_float32
from rayscan.objectives.counter import Counter
from rayscan.objectives.pretext import PretextObjective, sizes_of
from rayscan.types import Ints

Seen = tuple[Tensor, Tensor, Sequence[int] | None]
"""Rows of the bank, their new features, and the sizes of all workers' slices."""


class InstDisc(PretextObjective):
    """Batch: `views` [1, B, 3, S, S], `rows` [B] of the bank, `noise` [B, m] rows of the bank, `count`."""

    numbers = (0,)
    bank: Tensor
    log_z: Tensor

    def __init__(
        self,
        net: ProjectedNet,
        temperature: float,
        num_images: int,
        dim: int,
        momentum: float,
        noise_samples: int = 4_096,
    ) -> None:
        """Wrap the net; the bank begins with random unit rows, from torch's generator.

        Args:
            net: Pixels to projections.
            temperature: tau.
            num_images: Train images (N).
            dim: Width of a projection (P).
            momentum: Share of the old row that is kept when its image is seen.
            noise_samples: Noise rows per image (m).
        """
        super().__init__(net)
        self.temperature, self.momentum, self.noise_samples = temperature, momentum, noise_samples
        weight = next(net.parameters())
        rows = torch.randn(num_images, dim)  # on the CPU: the same numbers whatever the device
        self.register_buffer("bank", functional.normalize(rows.to(weight), dim=1))
        self.register_buffer("log_z", weight.new_zeros(()).detach())
        self.num_estimates = Counter()
        """Of Z: 0 or 1."""
        self._seen: list[Seen] = []

    @classmethod
    def projection(cls, settings: InstDiscConfig, dim: int) -> nn.Module:
        """One linear layer."""
        return nn.Linear(dim, settings.projection_dim)

    @classmethod
    def build(
        cls, settings: InstDiscConfig, net: ProjectedNet, *, num_images: int, total_steps: int
    ) -> InstDisc:
        """Instance discrimination as `pretext` sets it."""
        del total_steps
        dim, momentum, samples = settings.projection_dim, settings.bank_momentum, settings.noise_samples
        return cls(net, settings.temperature, num_images, dim, momentum, samples)

    def batch(self, source: Source, gids: Ints, epoch: int) -> dict[str, Tensor]:
        """The view, and the rows of the bank: those of the images [B], and noise [B, m]."""
        drawn = uniforms(source.seed, epoch, gids, 0, "noise", self.noise_samples)
        rows, noise = np.searchsorted(source.gids, gids), choice(drawn, len(source.gids))
        return {
            **super().batch(source, gids, epoch),
            "rows": torch.from_numpy(rows),
            "noise": torch.from_numpy(noise),
        }

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's images against their own rows and the noise."""
        features = functional.normalize(at_least_float32(self.net(batch["views"][0])), dim=1)
        rows, noise = batch["rows"], batch["noise"]
        positives = (features * self.bank[rows]).sum(1) / self.temperature
        others = self._scores(features, noise) / self.temperature
        if not self.num_estimates.value:
            self._estimate_z(others.detach())
        total = instance_nce(positives, others, self.log_z, len(self.bank)) / batch["count"]
        self._seen.append((rows, features.detach(), sizes_of(batch)))
        alignment = positives.detach().sum() * self.temperature / batch["count"]
        return LossTerms(total, {"loss": total.detach(), "alignment": alignment})

    def _scores(self, features: Tensor, noise: Tensor) -> Tensor:
        """Dot products with the noise rows [n, m], by the way that needs less memory."""
        if len(self.bank) <= noise.shape[1] * self.bank.shape[1]:
            return (features @ self.bank.T).gather(1, noise)
        return torch.bmm(self.bank[noise], features.unsqueeze(2)).squeeze(2)

    def _estimate_z(self, noise: Tensor) -> None:
        """Z as the mean over the first global batch, constant from then on (Eq. 6 and 7)."""
        sums = torch.stack([noise.exp().sum(), noise.new_tensor(float(noise.numel()))])
        total, number = comms.all_reduce(sums).unbind()
        self.log_z = (total / number).log() + math.log(len(self.bank))
        self.num_estimates.value += 1

    @torch.no_grad()
    def after_step(self) -> None:
        """The rows of the global batch move towards the features just seen, on every worker."""
        for rows, features, sizes in self._seen:
            everyone = comms.all_gather_with_grad(features, sizes)
            places = comms.all_gather_with_grad(rows, sizes)
            mixed = self.bank[places].lerp(everyone.to(self.bank.dtype), 1 - self.momentum)
            self.bank.index_copy_(0, places, functional.normalize(mixed, dim=1))
        self._seen = []
