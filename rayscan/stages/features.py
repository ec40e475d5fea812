"""Cached features for training heads: the stored embeddings of the train split, all views, in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayscan.artifacts import Artifact
from rayscan.data.keyed import uniforms
from rayscan.stages.training import Gids

DROPPED = 0.2


class CachedFeatures:
    """Stored unit features [V, N, D] of the train split, by gid."""

    def __init__(self, embed: Artifact, seed: int) -> None:
        """Read all views into memory, at the precision they are stored in."""
        facts = embed.facts
        self.num_train = int(facts["train_rows"])
        self.gids: Gids = embed.read_array("gids.npy")[: self.num_train]
        self.seed = seed
        self.views = np.stack([_view(embed, v, self.num_train) for v in range(int(facts["num_views"]))])

    @property
    def dim(self) -> int:
        """Feature width (D)."""
        return int(self.views.shape[2])

    def plain(self, gids: Gids) -> Tensor:
        """Features of the plain images [B, D] float32."""
        return torch.from_numpy(self.views[0, self._rows(gids)].astype(np.float32))

    def drawn(self, gids: Gids, epoch: int, view: int) -> Tensor:
        """Features [B, D] of a stored view drawn by (seed, epoch, gid, view)."""
        choice = uniforms(self.seed, epoch, gids, view, "feature-view", 1)[:, 0] * len(self.views)
        return torch.from_numpy(self.views[choice.astype(np.int64), self._rows(gids)].astype(np.float32))

    def strong(self, gids: Gids, epoch: int) -> Tensor:
        """The strong view of self-labelling [B, D].

        An augmented image's features where they are stored, and a fifth of the features dropped (keyed by
        seed, epoch and gid), rescaled to keep their sum.
        """
        keep = uniforms(self.seed, epoch, gids, 2, "feature-dropout", self.dim) >= DROPPED
        kept = torch.from_numpy(keep.astype(np.float32) / (1 - DROPPED))
        return self.drawn(gids, epoch, 1) * kept

    def _rows(self, gids: Gids) -> Gids:
        return np.searchsorted(self.gids, gids)


def _view(embed: Artifact, view: int, num_train: int) -> np.ndarray[Any, Any]:
    prefix = "part-" if view == 0 else f"view{view}-part-"
    names = sorted(name for name in embed.files if name.startswith(prefix))
    return np.concatenate([embed.read_array(name) for name in names])[:num_train]
