"""SimCLR (arXiv 2002.05709): two views of an image agree, and differ from all others of the global batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rayscan import comms
from rayscan.losses.nt_xent import nt_xent
from rayscan.objectives.base import Batch, LossTerms, Objective


class SimCLRNet(nn.Module):
    """Backbone and projection: [B, 3, S, S] -> [B, P]."""

    def __init__(self, backbone: nn.Module, projection: nn.Module) -> None:
        """Join them."""
        super().__init__()
        self.backbone = backbone
        self.projection = projection

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, P]."""
        projected: Tensor = self.projection(self.backbone(pixels))
        return projected


class SimCLR(Objective):
    """NT-Xent over the global batch.

    Batch: `views` [2, B, 3, S, S], `count`.
    Deviation: the loss is symmetric as in the SimCLR paper; the code published with SCAN takes one view as
    anchor.
    """

    def __init__(self, net: SimCLRNet, temperature: float) -> None:
        """Wrap the net.

        Args:
            net: Pixels to projections.
            temperature: tau.
        """
        super().__init__(net)
        self.temperature = temperature

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's anchors against the views of every worker."""
        z = functional.normalize(_wide(self.net(batch["views"].flatten(0, 1))), dim=1)
        return self.loss_of_projections(z, batch["count"])

    def loss_of_projections(self, z: Tensor, count: int) -> LossTerms:
        """The loss from unit projections [2 B, P], first all first views, then all second views."""
        num_rows = len(z)
        first = sum(comms.row_counts(num_rows, z.device)[: comms.rank()])
        everything = comms.all_gather_with_grad(z)
        index = torch.arange(num_rows, device=z.device)
        positives = (index + num_rows // 2) % num_rows
        total = nt_xent(z, everything, first + index, first + positives, self.temperature) / (2 * count)
        alignment = (z.detach()[index] * z.detach()[positives]).sum() / (2 * count)
        return LossTerms(total, {"loss": total.detach(), "alignment": alignment})


def _wide(tensor: Tensor) -> Tensor:
    """fp32 at least: losses are not computed in half precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
