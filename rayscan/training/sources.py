"""Inputs of a training (`objectives.base.Source`): pictures through the loader, or stored features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.artifacts import Artifact
from rayscan.config import ViewKind
from rayscan.data.keyed import uniforms
from rayscan.data.loader import ViewLoader
from rayscan.data.order import rank_slice
from rayscan.engine.forward import forward
from rayscan.nets.modes import evaluating
from rayscan.objectives.base import Source
from rayscan.types import Ints

DROPPED = 0.2
"""Share of the features that the strong view of self-labelling lacks."""
BATCH = 256
"""Pictures per forward without gradient."""
ROWS_AT_ONCE = 65_536
"""Stored rows per forward without gradient."""


class TrainSource(Source, Protocol):
    """A source that nets can be judged on."""

    is_slow: bool
    """Whether making a batch takes so long that it is made ahead, in the background."""

    def expect(self, gids: Ints) -> None:
        """Told of images that come soon."""

    def logits(self, net: nn.Module, gids: Ints) -> Tensor:
        """Logits of images without augmentation, net in eval mode: [H, n, C], the same on every worker."""

    def features(self, net: nn.Module) -> Tensor:
        """What the heads of a net read of this worker's part of the train images, in order: [n, D]."""


class ImageSource:
    """Pictures of the train split; views are made anew in every epoch."""

    is_slow = True

    def __init__(self, loader: ViewLoader, gids: Ints, seed: int, device: str) -> None:
        """Nothing is read yet.

        Args:
            loader: Gives views by gid.
            gids: Usable images of the train split, ascending.
            seed: Seed of the run.
            device: Where nets are.
        """
        self.loader, self.gids, self.seed, self.device = loader, gids, seed, device
        self.side_at: Callable[[int], int] | None = None
        """Side of the views by epoch, px, where it grows."""

    def expect(self, gids: Ints) -> None:
        """Fetch remote shards in the background."""
        self.loader.expect(gids)

    def plain(self, gids: Ints) -> Tensor:
        """Pictures without augmentation [B, 3, S, S]."""
        return self.loader.plain(gids)

    def views(self, gids: Ints, family: ViewKind, epoch: int, numbers: tuple[int, ...]) -> Tensor:
        """Augmented pictures [V, B, 3, S, S]."""
        side = None if self.side_at is None else self.side_at(epoch)
        return self.loader.views(gids, family, epoch, views=numbers, size_px=side)

    def strong(self, gids: Ints, family: ViewKind, epoch: int) -> Tensor:
        """View 0 of the family [B, 3, S, S]."""
        return self.views(gids, family, epoch, (0,))[0]

    def logits(self, net: nn.Module, gids: Ints) -> Tensor:
        """Logits [H, n, C]: each worker predicts its share of the pictures."""
        mine = rank_slice(gids, comms.rank(), comms.world_size())
        rows = self._forward(net, lambda pixels: net(pixels).transpose(0, 1), mine)
        gathered: Tensor = comms.all_gather_with_grad(rows.to(self.device))
        return gathered.transpose(0, 1)

    def features(self, net: nn.Module) -> Tensor:
        """Features [n, D] of a `ClusterNet`."""
        mine = rank_slice(self.gids, comms.rank(), comms.world_size())
        return self._forward(net, net.features, mine)

    def _forward(self, net: nn.Module, fn: Any, gids: Ints) -> Tensor:
        with evaluating(net):
            return forward(fn, self.loader.plain, gids, batch_size=BATCH, device=self.device)


class FeatureSource:
    """Stored unit features [V, N, D] of the train split, in memory: one plain view, and augmented ones."""

    is_slow = False

    def __init__(self, embed: Artifact, seed: int, device: str = "cpu") -> None:
        """Read all views, at the precision they are stored in.

        Args:
            embed: Result of the stage embed.
            seed: Seed of the run.
            device: Where nets are.
        """
        num_train = int(embed.facts["train_rows"])
        self.gids: Ints = embed.read_array("gids.npy")[:num_train]
        self.seed, self.device = seed, device
        num_views = int(embed.facts["num_views"])
        self._stored = np.stack([_stored_view(embed, view, num_train) for view in range(num_views)])
        self._held: list[tuple[Ints, Tensor]] = []

    @property
    def dim(self) -> int:
        """Feature width (D)."""
        return int(self._stored.shape[2])

    def expect(self, gids: Ints) -> None:
        """Nothing has to be fetched."""

    def plain(self, gids: Ints) -> Tensor:
        """Features of the plain images [B, D] float32."""
        return torch.from_numpy(self._stored[0, self._rows(gids)].astype(np.float32))

    def views(self, gids: Ints, family: ViewKind, epoch: int, numbers: tuple[int, ...]) -> Tensor:
        """For each number a stored view, drawn by (seed, epoch, gid, number): [V, B, D] float32."""
        del family  # of the stored views, chosen when they were embedded
        drawn = [self._drawn(gids, epoch, number) for number in numbers]
        return torch.stack(drawn) if len(drawn) > 1 else drawn[0].unsqueeze(0)  # no copy

    def strong(self, gids: Ints, family: ViewKind, epoch: int) -> Tensor:
        """A stored view with a fifth of the features dropped, rescaled to keep their sum [B, D].

        Which are dropped is keyed by (seed, epoch, gid).
        """
        del family
        keep = uniforms(self.seed, epoch, gids, 2, "feature-dropout", self.dim) >= DROPPED
        kept = torch.from_numpy(keep.astype(np.float32) / (1 - DROPPED))
        return self._drawn(gids, epoch, 1) * kept

    def logits(self, net: nn.Module, gids: Ints) -> Tensor:
        """Logits [H, n, C]; heads are so small that every worker predicts all rows."""
        with evaluating(net), torch.no_grad():
            rows: Tensor = net(self._on_device(gids))
        return rows

    def clusters(self, net: nn.Module) -> Ints:
        """Most probable cluster of every train image by every head: int64 [H, N]."""
        blocks = np.split(self.gids, range(ROWS_AT_ONCE, len(self.gids), ROWS_AT_ONCE))
        with evaluating(net), torch.no_grad():
            parts = [net(self.plain(gids).to(self.device)).argmax(-1).cpu() for gids in blocks]
        return torch.cat(parts, dim=1).numpy()

    def features(self, net: nn.Module) -> Tensor:
        """This worker's part of the stored rows."""
        del net
        return self._on_device(rank_slice(self.gids, comms.rank(), comms.world_size()))

    def _drawn(self, gids: Ints, epoch: int, number: int) -> Tensor:
        choice = uniforms(self.seed, epoch, gids, number, "feature-view", 1)[:, 0] * len(self._stored)
        return torch.from_numpy(self._stored[choice.astype(np.int64), self._rows(gids)].astype(np.float32))

    def _on_device(self, gids: Ints) -> Tensor:
        """Plain rows on the device; kept, since the same images are asked for epoch after epoch."""
        for known, rows in self._held:
            if np.array_equal(known, gids):
                return rows
        self._held = [*self._held[-1:], (gids, self.plain(gids).to(self.device))]
        return self._held[-1][1]

    def _rows(self, gids: Ints) -> Ints:
        return np.searchsorted(self.gids, gids)


def _stored_view(embed: Artifact, view: int, num_train: int) -> np.ndarray[Any, Any]:
    prefix = "part-" if view == 0 else f"view{view}-part-"
    names = sorted(name for name in embed.files if name.startswith(prefix))
    return np.concatenate([embed.read_array(name) for name in names])[:num_train]
