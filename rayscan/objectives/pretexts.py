"""The table of pretext tasks: `pretext.method` -> the class; and the nets they train."""

from __future__ import annotations

from rayscan.config import PretextConfig
from rayscan.nets.catalog import build_backbone
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.byol import BYOL
from rayscan.objectives.instdisc import InstDisc
from rayscan.objectives.moco import MoCo
from rayscan.objectives.pretext import PretextObjective
from rayscan.objectives.rotnet import RotNet
from rayscan.objectives.simclr import SimCLR

PRETEXTS: dict[str, type[PretextObjective]] = {
    "simclr": SimCLR,
    "moco": MoCo,
    "instdisc": InstDisc,
    "rotnet": RotNet,
    "byol": BYOL,
}


def build_projected_net(settings: PretextConfig, size_px: int | None = None) -> ProjectedNet:
    """Backbone and the method's projection, freshly initialised.

    Args:
        settings: Of the pretext.
        size_px: Side of the pictures (S), which some models of timm are built for; none is timm's.
    """
    sync = settings.sync_batchnorm
    backbone = build_backbone(settings.backbone, settings.stem, is_sync=sync, size_px=size_px)
    return ProjectedNet(backbone, PRETEXTS[settings.method].projection(settings, backbone.dim))


def build_objective(
    settings: PretextConfig, net: ProjectedNet, *, num_images: int, total_steps: int
) -> PretextObjective:
    """The objective that `pretext.method` names; see `PretextObjective.build`."""
    made = PRETEXTS[settings.method].build(settings, net, num_images=num_images, total_steps=total_steps)
    made.family = settings.views
    return made
