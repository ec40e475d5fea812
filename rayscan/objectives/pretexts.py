"""From `pretext.method` to a net, an objective, and what a batch of it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rayscan.config import BYOLConfig, InstDiscConfig, MoCoConfig, PretextConfig, SimCLRConfig
from rayscan.data.keyed import choice, uniforms
from rayscan.nets.heads import NormalizedHead, ProjectedNet, ProjectionHead
from rayscan.nets.resnet import build_backbone
from rayscan.objectives.byol import BYOL, PredictedNet
from rayscan.objectives.instdisc import InstDisc
from rayscan.objectives.moco import MoCo
from rayscan.objectives.pretext import PretextObjective
from rayscan.objectives.rotnet import TURNS, RotNet
from rayscan.objectives.simclr import SimCLR

Gids = np.ndarray[Any, np.dtype[np.int64]]


def build_projected_net(settings: PretextConfig) -> ProjectedNet:
    """Backbone and the method's projection, freshly initialised."""
    backbone = build_backbone(settings.backbone, settings.stem, is_sync=settings.sync_batchnorm)
    dim, out = backbone.dim, settings.projection_dim
    hidden = settings.projection_hidden_dim or dim
    projection: nn.Module
    if settings.method == "rotnet":
        projection = nn.Linear(dim, TURNS)
    elif settings.method == "instdisc":
        projection = nn.Linear(dim, out)
    elif settings.method == "byol":
        projection = NormalizedHead(dim, hidden, out, is_sync=settings.sync_batchnorm)
    else:
        projection = ProjectionHead(dim, hidden, out)
    return ProjectedNet(backbone, projection)


def build_objective(
    settings: PretextConfig, net: ProjectedNet, *, num_images: int, total_steps: int
) -> PretextObjective:
    """The objective around a net that is on its device already.

    Args:
        settings: Method and its numbers.
        net: From `build_projected_net`.
        num_images: Train images (N).
        total_steps: Steps of the whole training.
    """
    dim = settings.projection_dim
    if isinstance(settings, MoCoConfig):
        return MoCo(net, settings.temperature, settings.queue_size, settings.encoder_momentum, dim)
    if isinstance(settings, InstDiscConfig):
        return InstDisc(net, settings.temperature, num_images, dim, settings.bank_momentum)
    if settings.method == "rotnet":
        return RotNet(net)
    if isinstance(settings, BYOLConfig):
        hidden = settings.projection_hidden_dim or net.backbone.dim
        assert isinstance(hidden, int)
        predictor = NormalizedHead(dim, hidden, dim, is_sync=settings.sync_batchnorm)
        predicted = PredictedNet(net, predictor.to(next(net.parameters()).device))
        return BYOL(predicted, settings.encoder_momentum, total_steps)
    assert isinstance(settings, SimCLRConfig)
    return SimCLR(net, settings.temperature)


def extra_tensors(
    settings: PretextConfig, gids: Gids, mine: Gids, seed: int, epoch: int
) -> dict[str, Tensor]:
    """What a batch holds beside its views.

    Args:
        settings: Method and its numbers.
        gids: All train gids, sorted [N].
        mine: Gids of this worker's slice [B].
        seed: Seed of the run.
        epoch: Pass over the data.

    Returns:
        For instdisc `rows` [B] and `noise` [B, m], int64; nothing for the others.
    """
    if not isinstance(settings, InstDiscConfig):
        return {}
    drawn = uniforms(seed, epoch, mine, 0, "noise", settings.noise_samples)
    rows = np.searchsorted(gids, mine)
    return {"rows": torch.from_numpy(rows), "noise": torch.from_numpy(choice(drawn, len(gids)))}
