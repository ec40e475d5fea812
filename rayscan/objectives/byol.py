"""BYOL (arXiv 2006.07733): predict a slow copy's projection of the other view; no negatives.

Deviation: both views go through a net in one batch, so that its normalisation covers both; the paper passes
one view after the other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rayscan.config import BYOLConfig
from rayscan.losses.regression import unit_distance
from rayscan.nets.average import follow, slow_copy
from rayscan.nets.heads import NormalizedHead, ProjectedNet
from rayscan.objectives.base import Batch, LossTerms, at_least_float32
from rayscan.objectives.counter import Counter
from rayscan.objectives.pretext import PretextObjective, hidden_dim


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
        self.steps = Counter()

    @classmethod
    def projection(cls, settings: BYOLConfig, dim: int) -> nn.Module:
        """Two layers with batch normalisation between."""
        hidden, out = hidden_dim(settings, dim), settings.projection_dim
        return NormalizedHead(dim, hidden, out, is_sync=settings.sync_batchnorm)

    @classmethod
    def build(cls, settings: BYOLConfig, net: ProjectedNet, *, num_images: int, total_steps: int) -> BYOL:
        """BYOL as `pretext` sets it, with a fresh predictor."""
        del num_images
        weight, dim = next(net.parameters()), settings.projection_dim
        hidden = hidden_dim(settings, net.backbone.dim)  # type: ignore[arg-type]
        predictor = NormalizedHead(dim, hidden, dim, is_sync=settings.sync_batchnorm).to(weight.device)
        return cls(PredictedNet(net, predictor), settings.encoder_momentum, total_steps)

    @property
    def encoder(self) -> ProjectedNet:
        """The online encoder, without its predictor."""
        net = self.module
        assert isinstance(net, PredictedNet)
        return net.encoder

    def compile_nets(self) -> None:
        """Compile the slow copy too."""
        super().compile_nets()
        self.target.compile(dynamic=False)

    def loss(self, batch: Batch) -> LossTerms:
        """Each view's prediction against the target of the other."""
        views = batch["views"]
        predictions = at_least_float32(self.net(views.flatten(0, 1)))
        with torch.no_grad():
            targets = at_least_float32(self.target(views.flatten(0, 1)))
        swapped = torch.cat(targets.chunk(2)[::-1])
        total = unit_distance(predictions, swapped) / batch["count"]
        value = total.detach()
        share = 2 * len(predictions) / batch["count"]  # 2 n / count of 2 - 2 cos, summed over both views
        return LossTerms(total, {"loss": value, "alignment": (share - value) / 4})

    def after_step(self) -> None:
        """Tau = 1 - (1 - tau_0) (cos(pi k / K) + 1) / 2."""
        rest = (1 - self.momentum) * (math.cos(math.pi * self.steps.value / self.total_steps) + 1) / 2
        follow(self.target, self.encoder, 1 - rest)
        self.steps.value += 1
