"""SeLa (arXiv 1911.05371): cross-entropy on labels that optimal transport renews now and then.

Batch: `images` [B, ...], `rows` int64 [B], their rows among the train images, `count`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rayscan import comms
from rayscan.config import SelaConfig
from rayscan.data.keyed import permutation
from rayscan.nets.heads import ClusterHeads
from rayscan.objectives.base import Batch, EpochEnd, LossTerms, Source, at_least_float32
from rayscan.objectives.counter import Counter
from rayscan.objectives.selecting import Judge, SelectingObjective
from rayscan.types import Ints
from rayscan.vectors.sinkhorn import Scores, labels_of, sinkhorn

FACTS = ("relabeled", "sinkhorn_iterations", "sinkhorn_error")
"""What is told of a transport: share of the labels that changed, mean iterations, largest error."""
Features = Callable[[nn.Module], Tensor]
"""A net -> features [n, D] of this worker's part of the train images, in order; workers follow each other."""


def relabel_epochs(num_relabelings: int, epochs: int) -> list[int]:
    """Epochs before which labels are renewed, ascending: t_i = (i / (M - 1))^2 of the training, i = 0..M-1.

    As in the paper at most once per epoch, so the dense beginning loses some; the last, at the very end,
    would teach nothing and is left out. One alone is at the beginning.
    """
    if num_relabelings == 0:
        return []
    shares = [(i / max(1, num_relabelings - 1)) ** 2 for i in range(num_relabelings)]
    return sorted({math.ceil(share * epochs) for share in shares if share < 1})


def random_labels(num_heads: int, num_images: int, num_clusters: int, seed: int) -> Tensor:
    """Balanced random labels of every head: int32 [H, N]."""
    orders = (permutation(seed, "random labels", head, num_images) for head in range(num_heads))
    drawn = [order % num_clusters for order in orders]
    return torch.stack([torch.from_numpy(labels).to(torch.int32) for labels in drawn])


class Sela(SelectingObjective):
    """A net with T heads, [B, ...] -> [T, B, K], each with labels of its own."""

    labels: Tensor
    """int32 [T, N], on the CPU."""
    potentials: Tensor
    """Of the last transport, which the next starts from, float64 [T, K]."""
    last_transport: Tensor
    """`FACTS`, float64."""

    def __init__(
        self,
        net: nn.Module,
        settings: SelaConfig,
        labels: Tensor,
        features: Features,
        judge: Judge,
        judge_every: int,
        marginals: Tensor | None = None,
        on_pass: Callable[[], None] = lambda: None,
    ) -> None:
        """Wrap the net.

        Args:
            net: Cluster heads, alone or on a backbone.
            settings: Transport and schedule.
            labels: First labels [T, N], the same on every worker.
            features: Gives what the heads see of this worker's part of the images.
            judge: Gives the held-out losses.
            judge_every: Epochs between looks.
            marginals: Share of each cluster [K]; None makes all equal.
            on_pass: Told as each pass of a transport ends.
        """
        super().__init__(net, judge, judge_every)
        self.settings = settings
        self.register_buffer("labels", labels.to(torch.int32))
        num_clusters = self.heads.bias.shape[1]
        self.marginals = torch.full((num_clusters,), 1 / num_clusters) if marginals is None else marginals
        self.register_buffer("potentials", torch.zeros_like(self.heads.bias, dtype=torch.float64).detach())
        self.num_relabeled = Counter()
        self.register_buffer("last_transport", torch.zeros(len(FACTS), dtype=torch.float64))
        self.due = relabel_epochs(settings.num_relabelings, settings.epochs)
        self._features, self._on_pass = features, on_pass

    @property
    def facts(self) -> dict[str, float]:
        """What is told of the last transport; nothing before the first."""
        return dict(zip(FACTS, self.last_transport.tolist(), strict=True)) if self.num_relabeled.value else {}

    def batch(self, source: Source, gids: Ints, epoch: int) -> dict[str, Tensor]:
        """View 0 of the images, and their rows among the train images."""
        rows = torch.from_numpy(np.searchsorted(source.gids, gids))
        return {"images": source.views(gids, self.settings.views, epoch, (0,))[0], "rows": rows}

    def loss(self, batch: Batch) -> LossTerms:
        """Mean over the heads of the cross-entropy with each head's labels (Eq. 1)."""
        if self.num_relabeled.value == 0 and self.due[:1] == [0]:
            self.relabel()
        logits = at_least_float32(self.net(batch["images"]))
        labels = self.labels[:, batch["rows"].cpu()].to(logits.device, torch.int64)
        each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        total = each / (len(logits) * batch["count"])
        right = (logits.argmax(-1) == labels).double().mean(0).sum() / batch["count"]
        return LossTerms(total, {"loss": total.detach(), "label_accuracy": right})

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Renew the labels if it is time, and judge the heads."""
        judged = dict(super().end_epoch(epoch, is_last=is_last).metrics)
        if epoch + 1 in self.due and not is_last:
            self.relabel()
            judged |= self.facts
        return EpochEnd(judged)

    @torch.no_grad()
    def relabel(self) -> None:
        """Optimal transport for every head, from one pass over the images (step 2 of the paper).

        Deviation: plain images through the net in eval mode, where the published code predicts augmented
        ones in train mode; so labels depend neither on batches nor on workers.
        """
        features = at_least_float32(self._features(self.module))
        heads = self.heads
        found, labels = [], []
        for head in range(len(heads.weight)):
            start = self.potentials[head] if self.num_relabeled.value else None
            scores = linear_scores(heads, head, features, self.settings.sinkhorn_weight)
            scaling = sinkhorn(
                scores,
                len(features),
                self.marginals.to(features.device),
                tolerance=self.settings.sinkhorn_tolerance,
                max_iterations=self.settings.sinkhorn_iterations,
                start=start,
                dtype=features.dtype,
                memory_bytes=self.settings.memory_bytes,
                on_pass=self._on_pass,
            )
            found.append(scaling)
            mine = labels_of(scores, len(features), scaling.potentials).to(torch.int32)
            labels.append(comms.all_gather_with_grad(mine).cpu())
        renewed = torch.stack(labels)
        relabeled = float((renewed != self.labels).double().mean())
        iterations, error = sum(s.iterations for s in found) / len(found), max(s.error for s in found)
        self.last_transport.copy_(torch.tensor([relabeled, iterations, error], dtype=torch.float64))
        self.labels.copy_(renewed)
        self.potentials.copy_(torch.stack([s.potentials for s in found]))
        self.num_relabeled.value += 1


def linear_scores(heads: ClusterHeads, head: int, features: Tensor, weight: float) -> Scores:
    """Rows of lambda times one head's logits, computed block by block from the features [n, D]."""
    matrix, bias = (weight * heads.weight[head].T).to(features), (weight * heads.bias[head]).to(features)

    def scores(first: int, stop: int) -> Tensor:
        return torch.addmm(bias, features[first:stop], matrix)

    return scores
