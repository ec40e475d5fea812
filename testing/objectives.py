"""Objectives around small nets, for tests and benchmarks that make their own batches."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rayscan.config import ScanLossConfig
from rayscan.data.pairs import NeighborPairs
from rayscan.nets.heads import ClusterHeads, heads_of
from rayscan.objectives.average import RunningMarginal
from rayscan.objectives.pair_loss import PairLoss
from rayscan.objectives.pmi_loss import PmiLoss
from rayscan.objectives.scan import Scan
from rayscan.objectives.selecting import Judge


def scan_of(net: nn.Module, loss: PairLoss, judge: Judge | None = None, judge_every: int = 1) -> Scan:
    """Scan around a net; two images are each other's neighbor, and no head is better than another."""
    pairs = NeighborPairs(np.arange(2), np.array([[1], [0]]), 1, seed=0)
    num_heads = len(heads_of(net).weight)
    judge = judge or (lambda _: torch.zeros(num_heads))
    return Scan(net, ScanLossConfig(), loss, pairs, judge, judge_every)


def pmi_of(net: nn.Module, beta: float = 0.6, decay: float = 0.9, teacher_decay: float = 0.9) -> PmiLoss:
    """The pmi loss for the heads of a net."""
    running = RunningMarginal(decay, heads_of(net).bias)
    return PmiLoss(beta, running, teacher_decay=teacher_decay)


def identity_heads(num_clusters: int) -> ClusterHeads:
    """One head whose logits are what it is given, to the bit: [B, C] -> [1, B, C] in float64."""
    heads = ClusterHeads(1, num_clusters, num_clusters).double()
    with torch.no_grad():
        heads.weight.copy_(torch.eye(num_clusters))
        heads.bias.zero_()
    return heads
