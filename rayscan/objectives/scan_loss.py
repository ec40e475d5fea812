"""SCAN's loss over anchors and neighbors (arXiv 2005.12320, Eq. 2) as a pair loss."""

from __future__ import annotations

from torch import Tensor

from rayscan import comms
from rayscan.config import ScanLossConfig
from rayscan.losses.scan import consistency, entropy, entropy_term
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.base import LossTerms, at_least_float32
from rayscan.objectives.pair_loss import Pair, PairLoss


class ScanLoss(PairLoss):
    """Eq. 2 of SCAN. Its entropy is that of the global batch's mean, or of a running mean.

    Deviation: heads are summed, not averaged, so that each learns as if it were alone (as the authors do).
    """

    def __init__(
        self,
        entropy_weight: float,
        *,
        prior: Tensor | None = None,
        running: RunningMarginal | None = None,
    ) -> None:
        """Set up.

        Args:
            entropy_weight: lambda.
            prior: Known share of each cluster [C].
            running: Mean over many steps; None takes the batch alone.
        """
        super().__init__()
        self.entropy_weight = entropy_weight
        self.prior = prior
        self.running = running

    @classmethod
    def build(cls, settings: ScanLossConfig, like: Tensor, prior: Tensor | None) -> ScanLoss:
        """The loss as `scan` sets it; see `PairLoss.build`."""
        running = RunningMarginal(settings.marginal_decay, like) if settings.marginal == "running" else None
        return cls(settings.entropy_weight, prior=prior, running=running)

    def forward(self, students: Pair, count: int, _teachers: Pair | None = None) -> LossTerms:
        """This worker's share of the loss."""
        anchors, neighbors = at_least_float32(students[0]), at_least_float32(students[1])
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
        return LossTerms(each.sum(), parts)
