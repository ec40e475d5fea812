"""Batch normalisation of timm models over the global batch: torch's, and that joined with an activation."""

from __future__ import annotations

from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from rayscan import comms
from rayscan.nets.batchnorm import GlobalBatchNorm2d, global_batch_norm


class GlobalBatchNormAct2d(BatchNormAct2d):  # type: ignore[misc]
    """timm's `BatchNormAct2d` [B, C, H, W] whose training statistics cover the batches of all workers.

    At world size 1 it is timm's own. Parameter and buffer names are the same, so checkpoints are
    interchangeable.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, in training over all workers; then drop and activate."""
        if not (self.training and comms.is_distributed()):
            out: Tensor = super().forward(x)
            return out
        activated: Tensor = self.act(self.drop(global_batch_norm(self, x)))
        return activated


SYNCHRONISED: dict[type, type[nn.Module]] = {
    nn.BatchNorm2d: GlobalBatchNorm2d,
    BatchNormAct2d: GlobalBatchNormAct2d,
}
"""Batch normalisation -> the kind that spans the workers; both have the same fields."""
