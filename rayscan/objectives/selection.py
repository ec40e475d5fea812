"""Choosing a head without labels: the SCAN loss with entropy weight 1 over a fixed neighbor graph.

The graph is the held-out train images and their 5 nearest neighbors. It does not depend on K or lambda, so
the value compares heads, epochs and settings. Linear in the number of edges, never N x N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayscan.losses.scan import consistency, scan_loss

Gids = np.ndarray[Any, np.dtype[np.int64]]

GRAPH_NEIGHBORS = 5
MAX_ANCHORS = 5_000


@dataclass(frozen=True)
class HeldoutGraph:
    """Held-out anchors and the images at both ends of their edges."""

    gids: Gids
    """Images to predict, sorted: anchors and their neighbors [U]."""
    anchors: Gids
    """Row in `gids` of each edge's anchor [E]."""
    neighbors: Gids
    """Row in `gids` of each edge's neighbor [E]."""

    @classmethod
    def build(cls, heldout: Gids, gids: Gids, ids: Gids) -> HeldoutGraph:
        """The graph of the held-out images.

        Args:
            heldout: Gids of the held-out anchors, sorted; at most `MAX_ANCHORS` of them are used.
            gids: [N] gids with mined neighbors, sorted.
            ids: [N, K] their neighbors' gids, nearest first.
        """
        chosen = heldout[:: max(1, len(heldout) // MAX_ANCHORS)][:MAX_ANCHORS]
        near = ids[np.searchsorted(gids, chosen)][:, :GRAPH_NEIGHBORS]
        everyone = np.unique(np.concatenate([chosen, near.ravel()]))
        anchors = np.repeat(np.searchsorted(everyone, chosen), near.shape[1])
        return cls(everyone, anchors, np.searchsorted(everyone, near.ravel()))

    def losses(self, logits: Tensor) -> Tensor:
        """Loss per head, lower is better: [H, U, C] logits of `gids` -> [H] float64."""
        wide = logits.double()
        device = logits.device
        anchors = wide[:, torch.as_tensor(self.anchors, device=device)]
        neighbors = wide[:, torch.as_tensor(self.neighbors, device=device)]
        agreement = consistency(anchors, neighbors) / len(self.anchors)
        return scan_loss(agreement, anchors.softmax(-1).mean(1), entropy_weight=1.0)


def split_heldout(gids: Gids, fraction: float, permutation: Gids) -> tuple[Gids, Gids]:
    """Train gids that enter the loss and those that choose the head, both sorted.

    Args:
        gids: [N] sorted.
        fraction: Share held out; at least one image is.
        permutation: [N] seeded order of rows.
    """
    num_heldout = max(1, round(fraction * len(gids)))
    return np.sort(gids[permutation[num_heldout:]]), np.sort(gids[permutation[:num_heldout]])
