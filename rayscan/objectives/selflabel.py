"""Self-labelling (arXiv 2005.12320, Sec. 2.3): confident weak views teach strong views.

Batch: `weak` and `strong` [B, ...], `count`. Class balance and per-class thresholds are over all workers. The
result is a moving average of the weights, so that one bad batch late in training cannot spoil it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.config import SelfLabelConfig
from rayscan.losses.confidence import class_thresholds, class_weights, confident, weighted_cross_entropy
from rayscan.nets.heads import heads_of
from rayscan.objectives.average import MovingAverage
from rayscan.objectives.base import (
    Batch,
    EpochEnd,
    LossTerms,
    Objective,
    Source,
    at_least_float32,
)
from rayscan.objectives.counter import Counter
from rayscan.types import Ints


class SelfLabel(Objective):
    """A net with one head, [B, ...] -> [1, B, C], and its moving average."""

    confident_now: Tensor
    """Confident images of the running epoch."""
    learnt: Tensor
    """Images above the fixed threshold by cluster [C], in the last epoch."""
    learnt_now: Tensor
    """The same in the running epoch."""
    counts: Tensor
    """Confident images of each epoch; those of epochs to come are 0."""

    def __init__(self, net: nn.Module, settings: SelfLabelConfig, num_images: int) -> None:
        """Wrap the net.

        Args:
            net: One head, alone or on a backbone; what is frozen in it stays frozen.
            settings: Threshold, balance, averaging and plateau.
            num_images: Train images, for the plateau's tolerance and the per-class thresholds.
        """
        super().__init__(net)
        self.settings = settings
        self.num_images = num_images
        self.moving_average = MovingAverage(net, settings.ema_decay)
        zeros = torch.zeros_like(heads_of(net).bias[0], dtype=torch.float64).detach()
        self.register_buffer("confident_now", zeros.sum())
        self.register_buffer("learnt", zeros)
        self.register_buffer("learnt_now", zeros.clone())
        self.register_buffer("counts", torch.zeros(settings.epochs, dtype=torch.int64))
        self.num_epochs = Counter()

    @property
    def average(self) -> nn.Module:
        """The averaged net: the result."""
        return self.moving_average.net

    @property
    def history(self) -> list[int]:
        """Confident images of each epoch so far."""
        counts: list[int] = self.counts[: self.num_epochs.value].tolist()
        return counts

    def batch(self, source: Source, gids: Ints, epoch: int) -> dict[str, Tensor]:
        """The plain image and its strong view."""
        return {"weak": source.plain(gids), "strong": source.strong(gids, self.settings.views, epoch)}

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
        strong_logits = at_least_float32(self.net(batch["strong"])[0])
        total = weighted_cross_entropy(strong_logits, labels, weights) / counts.sum().clamp(min=1)
        self.confident_now += counts.sum()  # global already: every worker keeps the same number
        share = mask.sum() / batch["count"]
        return LossTerms(total, {"loss": total.detach(), "confident_fraction": share})

    @torch.no_grad()
    def _predict(self, weak: Tensor) -> Tensor:
        net = self.average if self.settings.teacher == "average" else self.module
        return at_least_float32(net(weak)[0])

    def _threshold(self) -> float | Tensor:
        """The fixed one; or one per cluster by what the last epoch learnt, the fixed one in the first."""
        if self.settings.threshold_kind == "fixed" or self.num_epochs.value == 0:
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
        self.learnt_now += comms.all_reduce(counts)

    def after_step(self) -> None:
        """Move the average towards the weights."""
        self.moving_average.follow(self.module)

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Log the confident count of the epoch and stop at its plateau (SCAN, Sec. 3.1)."""
        count = int(self.confident_now.item())
        self.confident_now.zero_()
        self.learnt.copy_(self.learnt_now)
        self.learnt_now.zero_()
        self.counts[self.num_epochs.value] = count
        self.num_epochs.value += 1
        history, patience = self.history, self.settings.plateau_epochs
        best_before, best_since = max(history[:-patience], default=0), max(history[-patience:])
        least_growth = max(1, self.num_images // 1000)
        has_plateau = len(history) > patience and best_since < best_before + least_growth
        return EpochEnd({"confident": float(count)}, should_stop=has_plateau)
