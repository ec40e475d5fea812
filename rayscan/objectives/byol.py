"""BYOL (arXiv 2006.07733): predict a slow copy's projection of the other view; no negatives.

Deviation: both views go through a net in one batch, so that its normalisation covers both; the paper passes
one view after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rayscan.losses.regression import unit_distance
from rayscan.nets.average import follow, slow_copy
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, LossTerms
from rayscan.objectives.pretext import PretextObjective, wide


class PredictedNet(nn.Module):
    """Encoder and predictor: [B, 3, S, S] -> [B, P]."""

    def __init__(self, encoder: ProjectedNet, predictor: nn.Module) -> None:
        """Join them."""
        super().__init__()
        self.encoder = encoder
        self.predictor = predictor

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, P]."""
        predicted: Tensor = self.predictor(self.encoder(pixels))
        return predicted


class BYOL(PretextObjective):
    """Batch: `views` [2, B, 3, S, S], `count`. The loss is symmetric over the views."""

    def __init__(self, net: PredictedNet, momentum: float, total_steps: int) -> None:
        """Wrap the net.

        Args:
            net: Pixels to predictions.
            momentum: tau of the slow copy at the first step; it rises to 1 along a cosine.
            total_steps: Steps of the whole training (K).
        """
        super().__init__(net)
        self.momentum, self.total_steps = momentum, total_steps
        self.target = slow_copy(net.encoder)
        self.steps = 0

    @property
    def encoder(self) -> ProjectedNet:
        """The online encoder, without its predictor."""
        net = self.module
        assert isinstance(net, PredictedNet)
        return net.encoder

    def compile(self) -> None:
        """The slow copy too."""
        super().compile()
        self.target.compile(dynamic=False)

    def loss(self, batch: Batch) -> LossTerms:
        """Each view's prediction against the target of the other."""
        views = batch["views"]
        predictions = wide(self.net(views.flatten(0, 1)))
        with torch.no_grad():
            targets = wide(self.target(views.flatten(0, 1)))
        swapped = torch.cat(targets.chunk(2)[::-1])
        total = unit_distance(predictions, swapped) / batch["count"]
        value = total.detach()
        share = 2 * len(predictions) / batch["count"]  # 2 n / count of 2 - 2 cos, summed over both views
        return LossTerms(total, {"loss": value, "alignment": (share - value) / 4})

    def after_step(self) -> None:
        """Tau = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2."""
        rest = (1 - self.momentum) * (math.cos(math.pi * self.steps / self.total_steps) + 1) / 2
        follow(self.target, self.encoder, 1 - rest)
        self.steps += 1

    def own_tensors(self) -> dict[str, Tensor]:
        """The slow copy."""
        return {f"target.{k}": v for k, v in self.target.state_dict().items()}

    def notes(self) -> dict[str, Any]:
        """Steps taken."""
        return {"steps": self.steps}

    def restore_own(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take both back."""
        self.target.load_state_dict({k.removeprefix("target."): v for k, v in tensors.items()})
        self.steps = int(notes["steps"])
