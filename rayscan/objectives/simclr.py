"""SimCLR (arXiv 2002.05709): two views of an image agree, and differ from all others of the global batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rayscan import comms
from rayscan.config import SimCLRConfig
from rayscan.losses.nt_xent import nt_xent
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, LossTerms, at_least_float32
from rayscan.objectives.pretext import PretextObjective, sizes_of


class SimCLR(PretextObjective):
    """NT-Xent over the global batch.

    Batch: `views` [2, B, 3, S, S], `count`.
    Deviation: the loss is symmetric as in the SimCLR paper; the code published with SCAN takes one view as
    anchor.
    """

    def __init__(self, net: ProjectedNet, temperature: float) -> None:
        """Wrap the net.

        Args:
            net: Pixels to projections.
            temperature: tau.
        """
        super().__init__(net)
        self.temperature = temperature

    @classmethod
    def build(cls, settings: SimCLRConfig, net: ProjectedNet, *, num_images: int, total_steps: int) -> SimCLR:
        """SimCLR as `pretext` sets it."""
        del num_images, total_steps
        return cls(net, settings.temperature)

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's anchors against the views of every worker; both views go through in one batch."""
        z = functional.normalize(at_least_float32(self.net(batch["views"].flatten(0, 1))), dim=1)
        sizes = sizes_of(batch)
        return self.loss_of_projections(z, batch["count"], None if sizes is None else [2 * n for n in sizes])

    def loss_of_projections(self, z: Tensor, count: int, rows: Sequence[int] | None = None) -> LossTerms:
        """The loss from unit projections [2 B, P], first all first views, then all second views.

        Args:
            z: This worker's rows.
            count: Images of the global batch.
            rows: Rows of every worker, if known.
        """
        num_rows = len(z)
        rows = comms.row_counts(num_rows, z.device) if rows is None else rows
        first = sum(rows[: comms.rank()])
        everything = comms.all_gather_with_grad(z, rows)
        index = torch.arange(num_rows, device=z.device)
        positives = (index + num_rows // 2) % num_rows
        total = nt_xent(z, everything, first + index, first + positives, self.temperature) / (2 * count)
        alignment = (z.detach()[index] * z.detach()[positives]).sum() / (2 * count)
        return LossTerms(total, {"loss": total.detach(), "alignment": alignment})
