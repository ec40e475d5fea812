"""The table of pair losses: `scan.loss` -> the class."""

from __future__ import annotations

from torch import Tensor

from rayscan.config import ScanConfig
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.information_loss import InformationLoss
from rayscan.objectives.pair_loss import PairLoss
from rayscan.objectives.pmi_loss import PmiLoss
from rayscan.objectives.scan_loss import ScanLoss

PAIR_LOSSES: dict[str, type[PairLoss]] = {"scan": ScanLoss, "pmi": PmiLoss, "mi": InformationLoss}


def pair_loss(settings: ScanConfig, heads: ClusterHeads, prior: Tensor | None = None) -> PairLoss:
    """The loss that `scan.loss` names, for these heads."""
    return PAIR_LOSSES[settings.loss].build(settings, heads.bias.detach(), prior)
