"""The held-out graph seen by a net: what head selection and the guard of self-labelling judge by."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.data.keyed import permutation
from rayscan.metrics.label_free import nmi_nn
from rayscan.objectives.selection import GRAPH_NEIGHBORS, HeldoutGraph, split_heldout
from rayscan.training.sources import TrainSource
from rayscan.types import Ints
from rayscan.vectors.neighbor_table import neighbor_ids


def split_train(recipe: Recipe, gids: Ints) -> tuple[Ints, Ints]:
    """Train gids that enter the loss of scan, and those that judge it."""
    order = permutation(recipe.seed, "held-out images", 0, len(gids))
    return split_heldout(gids, recipe.scan.heldout_fraction, order)


def heldout_graph(recipe: Recipe, mine: Artifact, gids: Ints) -> HeldoutGraph:
    """The fixed graph over the held-out images."""
    return HeldoutGraph.build(split_train(recipe, gids)[1], *neighbor_ids(mine, GRAPH_NEIGHBORS))


class HeldoutJudge:
    """A net -> the held-out loss of each of its heads [H], the same on every worker."""

    def __init__(self, graph: HeldoutGraph, source: TrainSource, prior: Tensor | None = None) -> None:
        """Judge on this graph, with the inputs of this source; `prior` as in `HeldoutGraph.losses`."""
        self.graph, self.source, self.prior = graph, source, prior

    def __call__(self, net: nn.Module) -> Tensor:
        """Losses [H] float64, lower is better."""
        return self.graph.losses(self.source.logits(net, self.graph.gids), self.prior)

    def score(self, net: nn.Module) -> float:
        """`metrics.label_free.nmi_nn` of the hard clusters of a net's first head, higher is better.

        0 when all images fall into one cluster, 1 when neighbors always agree and clusters are equally large.
        """
        logits = self.source.logits(net, self.graph.gids)
        clusters = logits[0].argmax(-1).cpu().numpy()
        per_anchor = len(self.graph.anchors) // len(np.unique(self.graph.anchors))
        anchors = self.graph.anchors.reshape(-1, per_anchor)[:, 0]
        neighbors = self.graph.neighbors.reshape(-1, per_anchor)
        return nmi_nn(clusters, anchors, neighbors, logits.shape[-1])
