"""What all pretext objectives share: the net that is kept, and who measures it between epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from torch import Tensor, nn

from rayscan import comms
from rayscan.config import PretextConfig, ViewKind
from rayscan.nets.heads import ProjectedNet, ProjectionHead
from rayscan.objectives.base import Batch, EpochEnd, Objective, Source
from rayscan.types import Ints


class Monitor(Protocol):
    """Measures the features now and then, without labels; a module, for its state (`training.monitor`)."""

    def measure(self, net: ProjectedNet, epoch: int, *, is_last: bool) -> Mapping[str, float]:
        """Named values after an epoch; none when it is not time."""


class PretextObjective(Objective):
    """A pretext task. Subclasses give `loss` and `build`."""

    numbers: tuple[int, ...] = (0, 1)
    """Numbers of the views a batch has."""

    def __init__(self, net: nn.Module) -> None:
        """Wrap the net that is trained."""
        super().__init__(net)
        self.family: ViewKind = "simclr"
        self.monitor: Monitor | None = None

    @classmethod
    def projection(cls, settings: Any, dim: int) -> nn.Module:
        """The head on features of width `dim` (D); the one of SimCLR unless a method has its own."""
        return ProjectionHead(dim, hidden_dim(settings, dim), settings.projection_dim)

    @classmethod
    def build(cls, settings: Any, net: ProjectedNet, *, num_images: int, total_steps: int) -> Self:
        """The objective around a net that is on its device already.

        Args:
            settings: The `pretext` section, of the class that goes with this method.
            net: Backbone and `projection`.
            num_images: Train images (N).
            total_steps: Steps of the whole training.
        """
        raise TypeError(f"{cls.__name__} cannot be built from settings")

    @property
    def encoder(self) -> ProjectedNet:
        """The net whose weights are the stage's result."""
        net = self.module
        assert isinstance(net, ProjectedNet)
        return net

    def batch(self, source: Source, gids: Ints, epoch: int) -> dict[str, Tensor]:
        """The views [V, B, 3, S, S]."""
        return {"views": source.views(gids, self.family, epoch, self.numbers)}

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Worker 0 may measure the features; the others need not."""
        if self.monitor is None or comms.rank():
            return EpochEnd()
        return EpochEnd(self.monitor.measure(self.encoder, epoch, is_last=is_last))


def hidden_dim(settings: PretextConfig, dim: int) -> int:
    """Width of a projection's hidden layer: as set, else D."""
    return settings.projection_hidden_dim or dim


def sizes_of(batch: Batch) -> Sequence[int] | None:
    """Images of every worker's slice, in rank order, where the feed says so; None: workers must ask."""
    sizes: Sequence[int] | None = batch.get("sizes")
    return sizes
