"""RotNet (arXiv 1803.07728): say by how many quarter turns a picture was rotated."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rayscan.config import RotNetConfig
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, LossTerms, at_least_float32
from rayscan.objectives.pretext import PretextObjective

TURNS = 4


class RotNet(PretextObjective):
    """All four rotations of every image in one batch, as in the paper.

    Batch: `views` [1, B, 3, S, S], `count`. The net gives four logits a picture.
    """

    numbers = (0,)

    @classmethod
    def projection(cls, settings: RotNetConfig, dim: int) -> nn.Module:
        """Four logits, one per number of turns."""
        del settings
        return nn.Linear(dim, TURNS)

    @classmethod
    def build(cls, settings: RotNetConfig, net: ProjectedNet, *, num_images: int, total_steps: int) -> RotNet:
        """RotNet; it has no settings of its own."""
        del settings, num_images, total_steps
        return cls(net)

    def loss(self, batch: Batch) -> LossTerms:
        """Cross-entropy of the number of turns, averaged over images and turns."""
        pixels = batch["views"][0]
        logits = at_least_float32(self.net(rotations(pixels)))
        turns = torch.arange(TURNS, device=logits.device).repeat_interleave(len(pixels))
        pictures = TURNS * batch["count"]
        total = functional.cross_entropy(logits, turns, reduction="sum") / pictures
        right = (logits.detach().argmax(1) == turns).double().sum() / pictures
        return LossTerms(total, {"loss": total.detach(), "rotation_accuracy": right})


def rotations(pixels: Tensor) -> Tensor:
    """[B, 3, S, S] -> [4 B, 3, S, S]: all of them turned 0, then 1, 2, 3 quarters."""
    return torch.cat([torch.rot90(pixels, turn, (2, 3)) for turn in range(TURNS)])
