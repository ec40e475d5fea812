"""The SCAN clustering step (arXiv 2005.12320, Eq. 2), on images or on cached features.

Batch: `anchors` and `neighbors` [B, ...], `count`. The entropy is that of the global batch's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.losses.scan import consistency, entropy
from rayscan.nets.heads import ClusterHeads, ClusterNet
from rayscan.objectives.base import Batch, EpochEnd, LossTerms, Objective
from rayscan.objectives.best import BestHead


def loss_of_logits(anchors: Tensor, neighbors: Tensor, count: int, entropy_weight: float) -> LossTerms:
    """This worker's share of Eq. 2, summed over heads: [H, B, C] twice.

    Deviation: heads are summed, not averaged, so that each learns as if it were alone (as the authors do).
    """
    anchors, neighbors = _wide(anchors), _wide(neighbors)
    agreement = consistency(anchors, neighbors) / count
    mean_probs = comms.all_reduce_with_grad(anchors.softmax(-1).sum(1)) / count
    spread = entropy(mean_probs) / comms.world_size()
    total = (agreement - entropy_weight * spread).sum()
    num_heads = len(anchors)
    parts = {
        "loss": total.detach() / num_heads,
        "consistency": agreement.detach().mean(),
        "entropy": spread.detach().mean(),
    }
    return LossTerms(total, parts)


Judge = Callable[[nn.Module], Tensor]
"""A net -> held-out loss of each of its heads [H], the same on every worker."""


class SelectingObjective(Objective):
    """SCAN that looks at the held-out graph now and then, and keeps the best head it saw."""

    def __init__(self, net: nn.Module, entropy_weight: float, judge: Judge, judge_every: int) -> None:
        """Wrap the net.

        Args:
            net: Anything to [H, B, C] logits.
            entropy_weight: lambda.
            judge: Gives the held-out losses.
            judge_every: Epochs between looks.
        """
        super().__init__(net)
        self.entropy_weight = entropy_weight
        self.best = BestHead()
        self._judge = judge
        self._every = judge_every

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Judge the heads if it is time."""
        if not is_last and (epoch + 1) % self._every:
            return EpochEnd()
        losses = self._judge(self.module).detach()
        heads = self.module if isinstance(self.module, ClusterHeads) else self.module.heads
        assert isinstance(heads, ClusterHeads)
        self.best.consider(epoch, losses, self.module, heads)
        return EpochEnd({"heldout_loss": float(losses.min())})

    def tensors(self) -> dict[str, Tensor]:
        """The best weights so far."""
        return self.best.tensors()

    def notes(self) -> dict[str, Any]:
        """Which head they are, and its loss."""
        return self.best.notes()

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take the best head back."""
        self.best.restore(tensors, notes)


class Scan(SelectingObjective):
    """SCAN on images: backbone and heads, or the heads alone on a frozen backbone."""

    def __init__(
        self, net: ClusterNet, entropy_weight: float, judge: Judge, judge_every: int, *, is_head_only: bool
    ) -> None:
        """Wrap the net; see `SelectingObjective`.

        Args:
            net: Pixels to [H, B, C] logits.
            entropy_weight: lambda.
            judge: Gives the held-out losses.
            judge_every: Epochs between looks.
            is_head_only: Freeze the backbone, its normalisation statistics too.
        """
        net.backbone.requires_grad_(not is_head_only)
        super().__init__(net, entropy_weight, judge, judge_every)
        if is_head_only:
            net.backbone.eval()

    def loss(self, batch: Batch) -> LossTerms:
        """Anchors and neighbors in one forward."""
        logits = self.net(torch.cat([batch["anchors"], batch["neighbors"]]))
        anchors, neighbors = logits.chunk(2, dim=1)
        return loss_of_logits(anchors, neighbors, batch["count"], self.entropy_weight)


class ScanHeads(SelectingObjective):
    """SCAN heads on cached features: [B, D] -> [H, B, C]."""

    def loss(self, batch: Batch) -> LossTerms:
        """Anchors and neighbors in one forward."""
        anchors, neighbors = self.net(torch.cat([batch["anchors"], batch["neighbors"]])).chunk(2, dim=1)
        return loss_of_logits(anchors, neighbors, batch["count"], self.entropy_weight)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
