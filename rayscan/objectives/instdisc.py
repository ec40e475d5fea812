"""Instance discrimination (arXiv 1805.01978): every image is a class of its own, told apart by NCE.

The memory bank holds one unit row per train image, by its number among the train images: every worker holds
all of it, and it is the same for any number of workers, so a training may go on with another number.
Deviation: no proximal term (Sec. 3.3 of the paper); noise rows are drawn by (seed, epoch, gid).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from rayscan import comms
from rayscan.losses.nce import instance_nce
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, LossTerms
from rayscan.objectives.pretext import PretextObjective, sizes_of, wide

Seen = tuple[Tensor, Tensor, Sequence[int] | None]


class InstDisc(PretextObjective):
    """Batch: `views` [1, B, 3, S, S], `rows` [B] of the bank, `noise` [B, m] rows of the bank, `count`."""

    views = (0,)

    def __init__(
        self, net: ProjectedNet, temperature: float, num_images: int, dim: int, momentum: float
    ) -> None:
        """Wrap the net; the bank begins with random unit rows, from torch's generator.

        Args:
            net: Pixels to projections.
            temperature: tau.
            num_images: Train images (N).
            dim: Width of a projection (P).
            momentum: Share of the old row that is kept when its image is seen.
        """
        super().__init__(net)
        self.temperature, self.momentum = temperature, momentum
        weight = next(net.parameters())
        rows = torch.randn(num_images, dim)  # on the CPU: the same numbers whatever the device
        self.bank = functional.normalize(rows.to(weight), dim=1)
        self.log_z = weight.new_zeros(())
        self.has_z = False
        self._seen: list[Seen] = []

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's images against their own rows and the noise."""
        features = functional.normalize(wide(self.net(batch["views"][0])), dim=1)
        rows, noise = batch["rows"], batch["noise"]
        positives = (features * self.bank[rows]).sum(1) / self.temperature
        others = self._scores(features, noise) / self.temperature
        if not self.has_z:
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
        self.has_z = True

    @torch.no_grad()
    def after_step(self) -> None:
        """The rows of the global batch move towards the features just seen, on every worker."""
        for rows, features, sizes in self._seen:
            everyone = comms.all_gather_with_grad(features, sizes)
            places = comms.all_gather_with_grad(rows, sizes)
            mixed = self.bank[places].lerp(everyone.to(self.bank.dtype), 1 - self.momentum)
            self.bank.index_copy_(0, places, functional.normalize(mixed, dim=1))
        self._seen = []

    def own_tensors(self) -> dict[str, Tensor]:
        """The bank and the constant."""
        return {"bank": self.bank, "log_z": self.log_z}

    def notes(self) -> dict[str, Any]:
        """Whether the constant has been estimated."""
        return {"has_z": self.has_z}

    def restore_own(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take them back."""
        self.bank.copy_(tensors["bank"])
        self.log_z = tensors["log_z"].to(self.bank)
        self.has_z = bool(notes["has_z"])
