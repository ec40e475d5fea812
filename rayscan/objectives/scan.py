"""The SCAN clustering step (arXiv 2005.12320, Eq. 2), on images or on cached features.

Batch: `anchors` [B, ...], `neighbors` [B K, ...], those of an anchor one after the other, and `count`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rayscan.nets.heads import ClusterHeads, ClusterNet
from rayscan.objectives.average import MovingAverage
from rayscan.objectives.base import Batch, EpochEnd, LossTerms, Objective
from rayscan.objectives.best import BestHead
from rayscan.objectives.pair_losses import PairLoss, PmiLoss

Judge = Callable[[nn.Module], Tensor]
"""A net -> held-out loss of each of its heads [H], the same on every worker."""


class SelectingObjective(Objective):
    """Anything with cluster heads: looks at the held-out graph now and then, and keeps the best it saw."""

    def __init__(self, net: nn.Module, judge: Judge, judge_every: int) -> None:
        """Wrap the net.

        Args:
            net: Anything to [H, B, C] logits.
            judge: Gives the held-out losses.
            judge_every: Epochs between looks.
        """
        super().__init__(net)
        self.best = BestHead()
        self._judge = judge
        self._every = judge_every

    @property
    def heads(self) -> ClusterHeads:
        """The heads of the net."""
        heads = self.module if isinstance(self.module, ClusterHeads) else self.module.heads
        assert isinstance(heads, ClusterHeads)
        return heads

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Judge the heads if it is time."""
        if not is_last and (epoch + 1) % self._every:
            return EpochEnd()
        losses = self._judge(self.module).detach()
        self.best.consider(epoch, losses, self.module, self.heads)
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


class PairObjective(SelectingObjective):
    """Anchors and neighbors agree: [B, ...] -> [H, B, C]. Under the pmi loss an averaged copy teaches."""

    def __init__(
        self,
        net: nn.Module,
        pair_loss: PairLoss,
        judge: Judge,
        judge_every: int,
        teacher_decay: float = 0.996,
    ) -> None:
        """Wrap the net; see `SelectingObjective`.

        Args:
            net: Anything to [H, B, C] logits.
            pair_loss: What anchors and neighbors shall do.
            judge: Gives the held-out losses.
            judge_every: Epochs between looks.
            teacher_decay: Per step, of the averaged copy.
        """
        super().__init__(net, judge, judge_every)
        self.pair_loss = pair_loss
        self.teacher = MovingAverage(self.module, teacher_decay) if isinstance(pair_loss, PmiLoss) else None

    def loss(self, batch: Batch) -> LossTerms:
        """Anchors and neighbors in one forward."""
        inputs = torch.cat([batch["anchors"], batch["neighbors"]])
        students = split_pairs(self.net(inputs), len(batch["anchors"]))
        teachers = None
        if self.teacher is not None:
            with torch.no_grad():
                teachers = split_pairs(self.teacher.net(inputs), len(batch["anchors"]))
        return self.pair_loss(students, batch["count"], teachers)

    def after_step(self) -> None:
        """The teacher follows."""
        if self.teacher is not None:
            self.teacher.follow(self.module)

    def tensors(self) -> dict[str, Tensor]:
        """The best weights, the teacher's, and the loss's state."""
        taught = {} if self.teacher is None else self.teacher.tensors()
        return {**super().tensors(), **taught, **self.pair_loss.tensors()}

    def notes(self) -> dict[str, Any]:
        """What belongs to them."""
        steps = {} if self.teacher is None else {"teacher_steps": self.teacher.steps}
        return {**super().notes(), **steps, **self.pair_loss.notes()}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take it all back."""
        super().restore(tensors, notes)
        self.pair_loss.restore(tensors, notes)
        if self.teacher is not None:
            self.teacher.restore(tensors, int(notes["teacher_steps"]))


def split_pairs(logits: Tensor, num_anchors: int) -> tuple[Tensor, Tensor]:
    """[H, B + B K, C] -> anchors [H, B, C] and neighbors [H, B, K, C]."""
    num_heads, _, num_clusters = logits.shape
    return logits[:, :num_anchors], logits[:, num_anchors:].reshape(num_heads, num_anchors, -1, num_clusters)


class ScanHeads(PairObjective):
    """Heads on cached features: [B, D] -> [H, B, C]."""


class Scan(PairObjective):
    """On images: backbone and heads, or the heads alone on a frozen backbone."""

    def __init__(
        self,
        net: ClusterNet,
        pair_loss: PairLoss,
        judge: Judge,
        judge_every: int,
        teacher_decay: float = 0.996,
        *,
        is_head_only: bool,
    ) -> None:
        """Wrap the net; see `PairObjective`.

        Args:
            net: Pixels to [H, B, C] logits.
            pair_loss: What anchors and neighbors shall do.
            judge: Gives the held-out losses.
            judge_every: Epochs between looks.
            teacher_decay: Per step, of the averaged copy.
            is_head_only: Freeze the backbone, its normalisation statistics too.
        """
        net.backbone.requires_grad_(not is_head_only)
        super().__init__(net, pair_loss, judge, judge_every, teacher_decay)
        if is_head_only:
            net.backbone.eval()
