"""Self-labelling (arXiv 2005.12320, Sec. 2.3): confident weak views teach strong views.

Batch: `weak` and `strong` [B, ...], `count`. Class balance and per-class thresholds are over all workers. The
result is a moving average of the weights, so that one bad batch late in training cannot spoil it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.config import SelfLabelConfig
from rayscan.losses.confidence import class_thresholds, class_weights, confident, weighted_cross_entropy
from rayscan.objectives.average import MovingAverage
from rayscan.objectives.base import Batch, EpochEnd, LossTerms, Objective
from rayscan.objectives.pair_losses import wide


class SelfLabel(Objective):
    """A net with one head, [B, ...] -> [1, B, C], and its moving average."""

    def __init__(self, net: nn.Module, settings: SelfLabelConfig, num_images: int) -> None:
        """Wrap the net.

        Args:
            net: Anything with a `heads` of one head; what is frozen in it stays frozen.
            settings: Threshold, balance, averaging and plateau.
            num_images: Train images, for the plateau's tolerance and the per-class thresholds.
        """
        super().__init__(net)
        self.settings = settings
        self.num_images = num_images
        self._average = MovingAverage(net, settings.ema_decay)
        self.history: list[int] = []
        device = next(net.parameters()).device
        self.confident_now = torch.zeros((), dtype=torch.float64, device=device)
        self.learnt_now: Tensor | None = None
        self.learnt: Tensor | None = None

    @property
    def average(self) -> nn.Module:
        """The averaged net: the result."""
        return self._average.net

    def loss(self, batch: Batch) -> LossTerms:
        """Cross-entropy of the strong view; a batch without a confident sample gives zero.

        The student predicts the weak view in train mode too, without gradient: its batch statistics teach,
        and the running statistics see plain images, not only augmented ones (as in the published code). The
        average, where it is the teacher, predicts in eval mode.
        """
        weak_logits = self._predict(batch["weak"])
        labels, mask = confident(weak_logits, self._threshold())
        mask_sum = mask.to(weak_logits.dtype)
        counts = weak_logits.new_zeros(weak_logits.shape[-1]).index_add_(0, labels, mask_sum)
        counts = comms.all_reduce(counts)
        self._count_learnt(weak_logits)
        weights = class_weights(counts, is_balanced=self.settings.class_balance)[labels] * mask_sum
        strong_logits = wide(self.net(batch["strong"])[0])
        total = weighted_cross_entropy(strong_logits, labels, weights) / counts.sum().clamp(min=1)
        self.confident_now += counts.sum()  # global already: every worker keeps the same number
        share = mask.sum() / batch["count"]
        return LossTerms(total, {"loss": total.detach(), "confident_fraction": share})

    @torch.no_grad()
    def _predict(self, weak: Tensor) -> Tensor:
        net = self.average if self.settings.teacher == "average" else self.module
        return wide(net(weak)[0])

    def _threshold(self) -> float | Tensor:
        """The fixed one; or one per cluster by what the last epoch learnt, the fixed one in the first."""
        if self.learnt is None:
            return self.settings.threshold
        return class_thresholds(
            self.learnt, self.num_images, self.settings.threshold, self.settings.threshold_floor
        )

    def _count_learnt(self, weak_logits: Tensor) -> None:
        """Images above the fixed threshold, by cluster: what the next epoch's thresholds are made of."""
        if self.settings.threshold_kind == "fixed":
            return
        labels, mask = confident(weak_logits, self.settings.threshold)
        counts = torch.bincount(labels[mask], minlength=weak_logits.shape[-1]).double()
        counts = comms.all_reduce(counts)
        self.learnt_now = counts if self.learnt_now is None else self.learnt_now + counts

    def after_step(self) -> None:
        """Move the average towards the weights."""
        self._average.follow(self.module)

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Log the confident count of the epoch and stop at its plateau (SCAN, Sec. 3.1)."""
        count = int(self.confident_now.item())
        self.confident_now.zero_()
        self.learnt, self.learnt_now = self.learnt_now, None
        self.history.append(count)
        patience = self.settings.plateau_epochs
        best_before = max(self.history[:-patience], default=0)
        best_since = max(self.history[-patience:])
        has_plateau = len(self.history) > patience and best_since < best_before + max(
            1, self.num_images // 1000
        )
        return EpochEnd({"confident": float(count)}, should_stop=has_plateau)

    def tensors(self) -> dict[str, Tensor]:
        """The average, and the counts of the running epoch."""
        learnt = {"learnt": self.learnt, "learnt_now": self.learnt_now}
        kept = {k: v for k, v in learnt.items() if v is not None}
        return {**self._average.tensors(), **kept, "confident_now": self.confident_now}

    def notes(self) -> dict[str, Any]:
        """Steps taken and the confident counts."""
        return {"steps": self._average.steps, "history": self.history}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back the average and the counts."""
        self._average.restore(tensors, int(notes["steps"]))
        self.confident_now.copy_(tensors["confident_now"])
        self.learnt, self.learnt_now = tensors.get("learnt"), tensors.get("learnt_now")
        self.history = list(notes["history"])
