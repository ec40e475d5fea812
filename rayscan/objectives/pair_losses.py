"""Losses over anchors and neighbors with the state they keep: this worker's share, summed over heads.

Both take logits of anchors [H, B, C] and of their neighbors [H, B, K, C], and `count`, the anchors of the
global batch. K is 1 where one neighbor is drawn per step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from rayscan import comms
from rayscan.config import ScanConfig
from rayscan.losses.pmi import pmi_loss
from rayscan.losses.scan import consistency, entropy, entropy_term
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.base import LossTerms

Reduction = Literal["sum", "mean"]
Pair = tuple[Tensor, Tensor]


class ScanLoss:
    """Eq. 2 of SCAN. Its entropy is that of the global batch's mean, or of a running mean.

    Deviation: heads are summed, not averaged, so that each learns as if it were alone (as the authors do);
    `reduction` mean averages them.
    """

    def __init__(
        self,
        entropy_weight: float,
        *,
        reduction: Reduction = "sum",
        prior: Tensor | None = None,
        marginal_decay: float | None = None,
    ) -> None:
        """Set up.

        Args:
            entropy_weight: lambda.
            reduction: Of the heads.
            prior: Known share of each cluster [C].
            marginal_decay: Of the running mean; None takes the batch alone.
        """
        self.entropy_weight = entropy_weight
        self.reduction: Reduction = reduction
        self.prior = prior
        self.running = None if marginal_decay is None else RunningMarginal(marginal_decay)

    def __call__(self, students: Pair, count: int, _teachers: Pair | None = None) -> LossTerms:
        """This worker's share of the loss."""
        anchors, neighbors = wide(students[0]), wide(students[1])
        agreement = consistency(anchors.unsqueeze(2), neighbors) / (count * neighbors.shape[2])
        mean_probs = comms.all_reduce_with_grad(anchors.softmax(-1).sum(1)) / count
        if self.running is not None:
            mean_probs = self.running.update(mean_probs)
        rewarded = entropy_term(mean_probs, self.prior) / comms.world_size()
        each = agreement - self.entropy_weight * rewarded
        parts = {
            "loss": each.detach().mean(),
            "consistency": agreement.detach().mean(),
            "entropy": entropy(mean_probs.detach()).mean() / comms.world_size(),
        }
        return LossTerms(each.sum() if self.reduction == "sum" else each.mean(), parts)

    def tensors(self) -> dict[str, Tensor]:
        """The running mean."""
        return {} if self.running is None else self.running.tensors()

    def notes(self) -> dict[str, Any]:
        """Steps the running mean has seen."""
        return {} if self.running is None else self.running.notes()

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `notes` gave."""
        if self.running is not None:
            self.running.restore(tensors, notes)


class PmiLoss:
    """Weighted PMI (TEMI, arXiv 2303.17896): an averaged copy of the net teaches, false neighbors weigh less.

    Deviation: linear heads, as for SCAN, where the paper has two layers; its temperature is folded into the
    weights they start from (`scan.pmi_temperature`).
    """

    def __init__(self, beta: float, marginal_decay: float, *, reduction: Reduction = "sum") -> None:
        """Set up.

        Args:
            beta: Exponent.
            marginal_decay: Of the teacher's running mean assignment.
            reduction: Of the heads.
        """
        self.beta = beta
        self.reduction: Reduction = reduction
        self.running = RunningMarginal(marginal_decay)

    def __call__(self, students: Pair, count: int, teachers: Pair | None = None) -> LossTerms:
        """This worker's share of the loss."""
        assert teachers is not None
        anchors, neighbors = wide(students[0]).unsqueeze(2), wide(students[1])
        taught = wide(teachers[0]).unsqueeze(2), wide(teachers[1])
        with torch.no_grad():
            mean_probs = comms.all_reduce(taught[0].softmax(-1).sum((1, 2))) / count
            marginal = self.running.update(mean_probs)
        each = pmi_loss((anchors, neighbors), taught, marginal, self.beta) / (count * neighbors.shape[2])
        parts = {"loss": each.detach().mean(), "entropy": entropy(marginal).mean() / comms.world_size()}
        return LossTerms(each.sum() if self.reduction == "sum" else each.mean(), parts)

    def tensors(self) -> dict[str, Tensor]:
        """The running mean."""
        return self.running.tensors()

    def notes(self) -> dict[str, Any]:
        """Steps the running mean has seen."""
        return self.running.notes()

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `notes` gave."""
        self.running.restore(tensors, notes)


PairLoss = ScanLoss | PmiLoss


def pair_loss(settings: ScanConfig, prior: Tensor | None = None) -> PairLoss:
    """The loss that the settings name."""
    if settings.loss == "pmi":
        return PmiLoss(settings.pmi_beta, settings.marginal_decay, reduction=settings.heads_reduction)
    decay = settings.marginal_decay if settings.marginal == "running" else None
    return ScanLoss(
        settings.entropy_weight, reduction=settings.heads_reduction, prior=prior, marginal_decay=decay
    )


def wide(tensor: Tensor) -> Tensor:
    """fp32 at least: losses are not computed in half precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
