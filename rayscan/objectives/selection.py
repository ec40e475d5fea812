"""Choosing a head without labels: the SCAN loss with entropy weight 1 over a fixed neighbor graph.

The graph is the held-out train images and their 5 nearest neighbors. It does not depend on K or lambda, so
the value compares heads, epochs and settings. Linear in the number of edges, never N x N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rayscan.losses.scan import scan_loss
from rayscan.types import Ints

GRAPH_NEIGHBORS = 5
MAX_ANCHORS = 5_000
BLOCK_BYTES = 32_000_000
"""Memory of one block of edges or nodes in float64."""


@dataclass(frozen=True)
class HeldoutGraph:
    """Held-out anchors and the images at both ends of their edges."""

    gids: Ints
    """Images to predict, sorted: anchors and their neighbors [U]."""
    anchors: Ints
    """Row in `gids` of each edge's anchor [E]."""
    neighbors: Ints
    """Row in `gids` of each edge's neighbor [E]."""

    @classmethod
    def build(cls, heldout: Ints, gids: Ints, ids: Ints) -> HeldoutGraph:
        """The graph of the held-out images.

        Args:
            heldout: Ints of the held-out anchors, sorted; at most `MAX_ANCHORS` of them are used.
            gids: [N] gids with mined neighbors, sorted.
            ids: [N, K] their neighbors' gids, nearest first.
        """
        chosen = heldout[:: max(1, len(heldout) // MAX_ANCHORS)][:MAX_ANCHORS]
        near = ids[np.searchsorted(gids, chosen)][:, :GRAPH_NEIGHBORS]
        everyone = np.unique(np.concatenate([chosen, near.ravel()]))
        anchors = np.repeat(np.searchsorted(everyone, chosen), near.shape[1])
        return cls(everyone, anchors, np.searchsorted(everyone, near.ravel()))

    def losses(self, logits: Tensor, prior: Tensor | None = None) -> Tensor:
        """Loss per head, lower is better: [H, U, C] logits of `gids` -> [H] float64.

        log <p, q> = logsumexp(x + y) - logsumexp(x) - logsumexp(y), so each node is normalised once. Nodes
        and edges go by in blocks: memory beside the logits does not grow with them.

        Args:
            logits: [H, U, C].
            prior: Known share of each cluster [C], see `losses.scan.entropy_term`.
        """
        num_heads, num_nodes, num_clusters = logits.shape
        size = max(1, BLOCK_BYTES // (8 * num_heads * num_clusters))
        anchors = torch.as_tensor(self.anchors, device=logits.device)
        neighbors = torch.as_tensor(self.neighbors, device=logits.device)
        share = torch.bincount(anchors, minlength=num_nodes).double() / len(anchors)
        normalizers = logits.new_empty((num_heads, num_nodes), dtype=torch.float64)
        mean_probs = logits.new_zeros((num_heads, num_clusters), dtype=torch.float64)
        for part in _blocks(num_nodes, size):
            wide = logits[:, part].double()
            normalizers[:, part] = wide.logsumexp(-1)
            probs = (wide - normalizers[:, part].unsqueeze(-1)).exp_()  # not in place: wide may be logits
            mean_probs += torch.einsum("huc,u->hc", probs, share[part])
        log_dots = logits.new_zeros(num_heads, dtype=torch.float64)
        for part in _blocks(len(anchors), size):
            a, n = anchors[part], neighbors[part]
            both = logits[:, a].double().add_(logits[:, n]).logsumexp(-1)
            log_dots += (both - normalizers[:, a] - normalizers[:, n]).sum(-1)
        return scan_loss(-log_dots / len(anchors), mean_probs, 1.0, prior)


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def split_heldout(gids: Ints, fraction: float, permutation: Ints) -> tuple[Ints, Ints]:
    """Train gids that enter the loss and those that choose the head, both sorted.

    Args:
        gids: [N] sorted.
        fraction: Share held out; at least one image is.
        permutation: [N] seeded order of rows.
    """
    num_heldout = max(1, round(fraction * len(gids)))
    return np.sort(gids[permutation[num_heldout:]]), np.sort(gids[permutation[:num_heldout]])
