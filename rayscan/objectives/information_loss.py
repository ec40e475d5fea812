"""Mutual information of neighbours' clusters (IIC, arXiv 1807.06653, Eq. 3) as a pair loss."""

from __future__ import annotations

import torch
from torch import Tensor

from rayscan import comms
from rayscan.config import InformationLossConfig
from rayscan.consensus.information_heads import information_loss, joint
from rayscan.losses.scan import entropy
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.base import LossTerms, at_least_float32
from rayscan.objectives.pair_loss import Pair, PairLoss


class InformationLoss(PairLoss):
    """Negative mutual information of an anchor's and a neighbor's cluster; nothing to weigh.

    J = 1/B sum p_i q_i' over the global batch, q_i the mean over the neighbors of anchor i, made symmetric.
    Deviation: a neighbor in place of an augmented copy of the picture.
    """

    def __init__(self, running: RunningMarginal | None = None) -> None:
        """Set up; `running` is J over many steps, None takes the batch alone."""
        super().__init__()
        self.running = running

    @classmethod
    def build(cls, settings: InformationLossConfig, like: Tensor, _prior: Tensor | None) -> InformationLoss:
        """The loss as `scan` sets it; see `PairLoss.build`."""
        if settings.joint_decay == 0:
            return cls()
        num_heads, num_clusters = like.shape
        return cls(
            RunningMarginal(settings.joint_decay, like.new_zeros(num_heads, num_clusters, num_clusters))
        )

    def forward(self, students: Pair, count: int, _teachers: Pair | None = None) -> LossTerms:
        """This worker's share of the loss."""
        anchors = at_least_float32(students[0]).softmax(-1)
        neighbors = at_least_float32(students[1]).softmax(-1).mean(2)
        here = joint(anchors.permute(2, 0, 1), neighbors.permute(2, 0, 1))
        table: Tensor = comms.all_reduce_with_grad(here) / count
        if self.running is not None:
            table = self.running.update(table)
        each = information_loss(table) / comms.world_size()
        with torch.no_grad():
            margin = (table + table.transpose(1, 2)).sum(2) / 2
            parts = {"loss": each.mean(), "entropy": entropy(margin).mean() / comms.world_size()}
        return LossTerms(each.sum(), parts)
