"""SelectingObjective: trains cluster heads and keeps the best by their loss on the held-out graph."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from rayscan.nets.heads import ClusterHeads, heads_of
from rayscan.objectives.base import EpochEnd, Objective
from rayscan.objectives.best import BestHead

Judge = Callable[[nn.Module], Tensor]
"""A net -> held-out loss of each of its heads [H], the same on every worker."""


class SelectingObjective(Objective):
    """Anything with cluster heads: judges them on the held-out graph now and then, and keeps the best."""

    def __init__(self, net: nn.Module, judge: Judge, judge_every: int = 1) -> None:
        """Wrap the net.

        Args:
            net: Anything to [H, B, C] logits.
            judge: Gives the held-out losses.
            judge_every: Epochs from one judgement to the next.
        """
        super().__init__(net)
        self.best = BestHead(net)
        self._judge = judge
        self._every = judge_every

    @property
    def heads(self) -> ClusterHeads:
        """The heads of the net."""
        return heads_of(self.module)

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Judge the heads if it is time."""
        if not is_last and (epoch + 1) % self._every:
            return EpochEnd()
        losses = self._judge(self.module).detach()
        self.best.consider(epoch, losses, self.module)
        return EpochEnd({"heldout_loss": float(losses.min())})
