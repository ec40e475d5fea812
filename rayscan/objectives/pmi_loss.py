"""Weighted pointwise mutual information (TEMI, arXiv 2303.17896) as a pair loss."""

from __future__ import annotations

import torch
from torch import Tensor

from rayscan import comms
from rayscan.config import PmiLossConfig
from rayscan.losses.pmi import pmi_loss
from rayscan.losses.scan import entropy
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.base import LossTerms, at_least_float32
from rayscan.objectives.pair_loss import Pair, PairLoss


class PmiLoss(PairLoss):
    """Weighted PMI: an averaged copy of the net teaches, false neighbors weigh less.

    Deviation: linear heads, as for SCAN, where the paper has two layers; its temperature is folded into the
    weights they start from (`scan.pmi_temperature`).
    """

    def __init__(self, beta: float, running: RunningMarginal, *, teacher_decay: float) -> None:
        """Set up.

        Args:
            beta: Exponent.
            running: The teacher's mean assignment over many steps.
            teacher_decay: Per step, of the averaged copy that teaches.
        """
        super().__init__(teacher_decay)
        self.beta = beta
        self.running = running

    @classmethod
    def build(cls, settings: PmiLossConfig, like: Tensor, _prior: Tensor | None) -> PmiLoss:
        """The loss as `scan` sets it; see `PairLoss.build`."""
        running = RunningMarginal(settings.marginal_decay, like)
        return cls(settings.pmi_beta, running, teacher_decay=settings.teacher_decay)

    def forward(self, students: Pair, count: int, teachers: Pair | None = None) -> LossTerms:
        """This worker's share of the loss."""
        assert teachers is not None
        anchors, neighbors = at_least_float32(students[0]).unsqueeze(2), at_least_float32(students[1])
        taught = at_least_float32(teachers[0]).unsqueeze(2), at_least_float32(teachers[1])
        with torch.no_grad():
            mean_probs = comms.all_reduce(taught[0].softmax(-1).sum((1, 2))) / count
            marginal = self.running.update(mean_probs)
        each = pmi_loss((anchors, neighbors), taught, marginal, self.beta) / (count * neighbors.shape[2])
        parts = {"loss": each.detach().mean(), "entropy": entropy(marginal).mean() / comms.world_size()}
        return LossTerms(each.sum(), parts)
