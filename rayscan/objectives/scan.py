"""The SCAN clustering step (arXiv 2005.12320, Eq. 2): anchors and their neighbors fall into one cluster.

Batch: `anchors` [B, ...], `neighbors` [B K, ...], those of an anchor one after the other, and `count`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rayscan.config import ScanConfig
from rayscan.data.pairs import NeighborPairs
from rayscan.objectives.average import MovingAverage
from rayscan.objectives.base import Batch, LossTerms, Source
from rayscan.objectives.pair_loss import Pair, PairLoss
from rayscan.objectives.selecting import Judge, SelectingObjective
from rayscan.types import Ints


class Scan(SelectingObjective):
    """Anchors and neighbors agree: [B, ...] -> [H, B, C]. Where the loss asks for it, an average teaches."""

    def __init__(
        self,
        net: nn.Module,
        settings: ScanConfig,
        pair_loss: PairLoss,
        pairs: NeighborPairs,
        judge: Judge,
        judge_every: int = 1,
    ) -> None:
        """Wrap the net; see `SelectingObjective`.

        Args:
            net: Anything to [H, B, C] logits: heads on features, or on a backbone.
            settings: Views, and how many neighbors an anchor meets per step.
            pair_loss: What anchors and neighbors shall do.
            pairs: Mined neighbors.
            judge: Gives the held-out losses.
            judge_every: Epochs from one judgement to the next.
        """
        super().__init__(net, judge, judge_every)
        self.settings, self.pairs = settings, pairs
        self.pair_loss = pair_loss
        decay = pair_loss.teacher_decay
        self.teacher = None if decay is None else MovingAverage(net, decay)

    def batch(self, source: Source, gids: Ints, epoch: int) -> dict[str, Tensor]:
        """Anchors in their view 0, neighbors in their view 1."""
        family = self.settings.views
        anchors = source.views(gids, family, epoch, (0,))[0]
        return {"anchors": anchors, "neighbors": source.views(self._met(gids, epoch), family, epoch, (1,))[0]}

    def _met(self, gids: Ints, epoch: int) -> Ints:
        """Gids that the anchors meet at a step: one each [B], or all of them, anchor by anchor [B K]."""
        if self.settings.neighbors_per_step == "one":
            return self.pairs.draw(gids, epoch)
        return self.pairs.all(gids, epoch).ravel()

    def loss(self, batch: Batch) -> LossTerms:
        """Anchors and neighbors in one forward."""
        inputs = torch.cat([batch["anchors"], batch["neighbors"]])
        students = split_pairs(self.net(inputs), len(batch["anchors"]))
        teachers = None
        if self.teacher is not None:
            with torch.no_grad():
                teachers = split_pairs(self.teacher.net(inputs), len(batch["anchors"]))
        terms: LossTerms = self.pair_loss(students, batch["count"], teachers)
        return terms

    def after_step(self) -> None:
        """The teacher follows."""
        if self.teacher is not None:
            self.teacher.follow(self.module)


def split_pairs(logits: Tensor, num_anchors: int) -> Pair:
    """[H, B + B K, C] -> anchors [H, B, C] and neighbors [H, B, K, C]."""
    num_heads, _, num_clusters = logits.shape
    return logits[:, :num_anchors], logits[:, num_anchors:].reshape(num_heads, num_anchors, -1, num_clusters)
