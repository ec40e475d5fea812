"""What is measured while a pretext trains, without labels: effective rank, and neighbor stability."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rayscan.engine.forward import forward
from rayscan.metrics.effective_rank import effective_rank
from rayscan.metrics.stability import STABILITY_NEIGHBORS, nearest_rows, neighbor_overlap
from rayscan.nets.heads import ProjectedNet
from rayscan.nets.modes import evaluating
from rayscan.objectives.counter import Counter
from rayscan.training.sources import ImageSource

MONITOR_IMAGES = 2_048
MONITORS_PER_TRAINING = 10


class FeatureMonitor(nn.Module):
    """Measures about ten times in a training the backbone's features of the same train images."""

    nearest: Tensor
    """Neighbors [n, k] at the last measurement."""

    def __init__(self, epochs: int, source: ImageSource) -> None:
        """Choose the images: every n-th of the train split.

        Args:
            epochs: Of the training.
            source: Gives plain images.
        """
        super().__init__()
        gids = source.gids
        self._source = source
        self._watched = gids[:: max(1, len(gids) // MONITOR_IMAGES)][:MONITOR_IMAGES]
        self._every = max(1, math.ceil(epochs / MONITORS_PER_TRAINING))
        num = len(self._watched)
        shape = (num, min(STABILITY_NEIGHBORS, num - 1))
        self.register_buffer("nearest", torch.zeros(shape, dtype=torch.int64))
        self.num_measured = Counter()

    def measure(self, net: ProjectedNet, epoch: int, *, is_last: bool) -> Mapping[str, float]:
        """Effective rank (RankMe), and the share of neighbors kept since the measurement before."""
        if not is_last and (epoch + 1) % self._every:
            return {}
        device = str(next(net.parameters()).device)
        with evaluating(net):
            features = forward(net.backbone, self._source.plain, self._watched, batch_size=256, device=device)
        unit = nn.functional.normalize(features, dim=1)
        values = {"effective_rank": effective_rank(unit)}
        nearest = nearest_rows(unit)
        if self.num_measured.value:
            values["neighbor_stability"] = neighbor_overlap(self.nearest, nearest)
        self.nearest.copy_(nearest)
        self.num_measured.value += 1
        return values
