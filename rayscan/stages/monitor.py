"""What is looked at while a pretext trains, without labels: effective rank, and neighbor stability."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from rayscan.data.loader import ViewLoader
from rayscan.engine.forward import forward
from rayscan.metrics.effective_rank import effective_rank
from rayscan.metrics.stability import nearest_rows, neighbor_overlap
from rayscan.nets.heads import ProjectedNet
from rayscan.nets.modes import evaluating
from rayscan.stages.training import Gids

MONITOR_IMAGES = 2_048
MONITORS_PER_TRAINING = 10


class Monitor:
    """Looks about ten times in a training at the backbone's features of the same train images."""

    def __init__(self, epochs: int, loader: ViewLoader, gids: Gids) -> None:
        """Choose the images.

        Args:
            epochs: Of the training.
            loader: Gives plain images.
            gids: Train gids; every n-th is watched.
        """
        self._loader = loader
        self._watched = gids[:: max(1, len(gids) // MONITOR_IMAGES)][:MONITOR_IMAGES]
        self._every = max(1, math.ceil(epochs / MONITORS_PER_TRAINING))
        self._nearest: Tensor | None = None

    def look(self, net: ProjectedNet, epoch: int, *, is_last: bool) -> Mapping[str, float]:
        """Effective rank (RankMe), and the share of neighbors kept since the look before."""
        if not is_last and (epoch + 1) % self._every:
            return {}
        device = str(next(net.parameters()).device)
        with evaluating(net):
            features = forward(net.backbone, self._loader.plain, self._watched, batch_size=256, device=device)
        unit = torch.nn.functional.normalize(features, dim=1)
        values = {"effective_rank": effective_rank(unit)}
        nearest = nearest_rows(unit)
        if self._nearest is not None:
            values["neighbor_stability"] = neighbor_overlap(self._nearest, nearest)
        self._nearest = nearest
        return values

    def tensors(self) -> dict[str, Tensor]:
        """The neighbors of the last look."""
        return {} if self._nearest is None else {"nearest": self._nearest}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take them back."""
        self._nearest = tensors["nearest"].cpu() if "nearest" in tensors else None
