"""Self-labelling (arXiv 2005.12320, Sec. 2.3): confident weak views teach strong views.

Batch: `weak` and `strong` [B, ...], `count`. Class balance is over the global batch. The result is a moving
average of the weights, so that one bad batch late in training cannot spoil it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.config import SelfLabelConfig
from rayscan.losses.confidence import class_weights, confident, weighted_cross_entropy
from rayscan.objectives.base import Batch, EpochEnd, LossTerms, Objective


class SelfLabel(Objective):
    """A net with one head, [B, ...] -> [1, B, C], and its moving average."""

    def __init__(self, net: nn.Module, settings: SelfLabelConfig, num_images: int) -> None:
        """Wrap the net.

        Args:
            net: Anything with a `heads` of one head; what is frozen in it stays frozen.
            settings: Threshold, balance, averaging and plateau.
            num_images: Train images, for the plateau's tolerance.
        """
        super().__init__(net)
        self.settings = settings
        self.num_images = num_images
        self.average = copy.deepcopy(net).requires_grad_(requires_grad=False).eval()
        self.steps = 0
        self.history: list[int] = []
        self.confident_now = torch.zeros((), dtype=torch.float64, device=next(net.parameters()).device)

    def loss(self, batch: Batch) -> LossTerms:
        """Cross-entropy of the strong view; a batch without a confident sample gives zero.

        The weak view is predicted in train mode too, without gradient: its batch statistics teach, and the
        running statistics see plain images, not only augmented ones (as in the published code).
        """
        weak_logits = self._predict(batch["weak"])
        labels, mask = confident(weak_logits, self.settings.threshold)
        mask_sum = mask.to(weak_logits.dtype)
        counts = weak_logits.new_zeros(weak_logits.shape[-1]).index_add_(0, labels, mask_sum)
        counts = comms.all_reduce(counts)
        weights = class_weights(counts, is_balanced=self.settings.class_balance)[labels] * mask_sum
        strong_logits = self.net(batch["strong"])[0]
        wide = strong_logits if strong_logits.dtype == torch.float64 else strong_logits.float()
        total = weighted_cross_entropy(wide, labels, weights) / counts.sum().clamp(min=1)
        self.confident_now += counts.sum()  # global already: every worker keeps the same number
        share = mask.sum() / batch["count"]
        return LossTerms(total, {"loss": total.detach(), "confident_fraction": share})

    @torch.no_grad()
    def _predict(self, weak: Tensor) -> Tensor:
        logits: Tensor = self.module(weak)[0]
        return logits if logits.dtype == torch.float64 else logits.float()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the average towards the weights; buffers are copied.

        The decay grows from 0.1 as (1 + t) / (10 + t) up to its setting, so that a short run is averaged too.
        """
        self.steps += 1
        decay = min(self.settings.ema_decay, (1 + self.steps) / (10 + self.steps))
        decay = decay if self.settings.ema_decay > 0 else 0.0
        student = self.module
        averaged: list[Tensor] = [p for p in self.average.parameters() if p.is_floating_point()]
        current = [p.detach() for p in student.parameters() if p.is_floating_point()]
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in zip(self.average.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Log the confident count of the epoch and stop at its plateau (SCAN, Sec. 3.1)."""
        count = int(self.confident_now.item())
        self.confident_now.zero_()
        self.history.append(count)
        patience = self.settings.plateau_epochs
        best_before = max(self.history[:-patience], default=0)
        best_since = max(self.history[-patience:])
        has_plateau = len(self.history) > patience and best_since < best_before + max(
            1, self.num_images // 1000
        )
        return EpochEnd({"confident": float(count)}, should_stop=has_plateau)

    def tensors(self) -> dict[str, Tensor]:
        """The average, and the count of the running epoch."""
        state = {f"average.{k}": v for k, v in self.average.state_dict().items()}
        return {**state, "confident_now": self.confident_now}

    def notes(self) -> dict[str, Any]:
        """Steps taken and the confident counts."""
        return {"steps": self.steps, "history": self.history}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back the average and the counts."""
        prefix = "average."
        self.average.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        self.confident_now.copy_(tensors["confident_now"])
        self.steps, self.history = int(notes["steps"]), list(notes["history"])
