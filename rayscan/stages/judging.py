"""The held-out graph seen by a net: what head selection and the guard of self-labelling look at."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from rayscan import comms
from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.data.keyed import permutation
from rayscan.data.loader import ViewLoader
from rayscan.data.order import rank_slice
from rayscan.engine.forward import forward
from rayscan.metrics.label_free import nmi_nn
from rayscan.nets.modes import evaluating
from rayscan.objectives.selection import HeldoutGraph, split_heldout
from rayscan.stages.training import Gids
from rayscan.vectors.neighbor_table import neighbor_ids

HELD_OUT = -1
"""Epoch of the draw that holds images out: no epoch of any training."""


def held_out(recipe: Recipe, gids: Gids) -> tuple[Gids, Gids]:
    """Train gids that enter the loss of scan, and those that judge it."""
    order = permutation(recipe.seed, HELD_OUT, len(gids))
    return split_heldout(gids, recipe.scan.heldout_fraction, order)


def heldout_graph(recipe: Recipe, mine: Artifact, gids: Gids) -> HeldoutGraph:
    """The fixed graph over the held-out images."""
    return HeldoutGraph.build(held_out(recipe, gids)[1], *neighbor_ids(mine, 5))


def graph_logits(module: nn.Module, graph: HeldoutGraph, loader: ViewLoader, device: str) -> Tensor:
    """Logits of the graph's images, [H, U, C], on every worker; each predicts its share of them."""
    mine = rank_slice(graph.gids, comms.rank(), comms.world_size())
    with evaluating(module):
        rows = forward(
            lambda pixels: module(pixels).transpose(0, 1), loader.plain, mine, batch_size=256, device=device
        )
    gathered: Tensor = comms.all_gather_with_grad(rows.to(device))
    return gathered.transpose(0, 1)


def graph_score(graph: HeldoutGraph, logits: Tensor) -> float:
    """`metrics.label_free.nmi_nn` of hard clusters on the graph, higher is better: [1, U, C] logits.

    0 when all images fall into one cluster, 1 when neighbors always agree and clusters are equally large.
    """
    clusters = logits[0].argmax(-1).cpu().numpy()
    per_anchor = len(graph.anchors) // len(np.unique(graph.anchors))
    anchors = graph.anchors.reshape(-1, per_anchor)[:, 0]
    neighbors = graph.neighbors.reshape(-1, per_anchor)
    return nmi_nn(clusters, anchors, neighbors, logits.shape[-1])
