"""What all pretext objectives share: the net that is kept, and who looks at it between epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.nets.heads import ProjectedNet
from rayscan.objectives.base import Batch, EpochEnd, Objective


class Watch(Protocol):
    """Looks at the features now and then, without labels (`stages.monitor`)."""

    def look(self, net: ProjectedNet, epoch: int, *, is_last: bool) -> Mapping[str, float]:
        """Named values after an epoch; none when it is not time."""

    def tensors(self) -> dict[str, Tensor]:
        """What it must remember until its next look."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave."""


class PretextObjective(Objective):
    """A pretext task. Subclasses give `loss`, and override `own_tensors` and `restore_own` for state."""

    views: tuple[int, ...] = (0, 1)
    """Numbers of the views a batch has."""

    def __init__(self, net: nn.Module) -> None:
        """Wrap the net that is trained."""
        super().__init__(net)
        self.watch: Watch | None = None

    @property
    def encoder(self) -> ProjectedNet:
        """The net whose weights are the stage's result."""
        net = self.module
        assert isinstance(net, ProjectedNet)
        return net

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Worker 0 may look at the features; the others need not."""
        if self.watch is None or comms.rank():
            return EpochEnd()
        return EpochEnd(self.watch.look(self.encoder, epoch, is_last=is_last))

    def own_tensors(self) -> dict[str, Tensor]:
        """State of the method beside the net."""
        return {}

    def restore_own(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back what `own_tensors` and `notes` gave."""

    def tensors(self) -> dict[str, Tensor]:
        """State of the method and of the watch."""
        watched = {} if self.watch is None else self.watch.tensors()
        return {**self.own_tensors(), **{f"watch.{k}": v for k, v in watched.items()}}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back both."""
        prefix = "watch."
        self.restore_own({k: v for k, v in tensors.items() if not k.startswith(prefix)}, notes)
        if self.watch is not None:
            found = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            self.watch.restore(found)


def wide(tensor: Tensor) -> Tensor:
    """fp32 at least: losses are not computed in half precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def sizes_of(batch: Batch) -> Sequence[int] | None:
    """Images of every worker's slice, in rank order, where the feed says so; None: workers must ask."""
    sizes: Sequence[int] | None = batch.get("sizes")
    return sizes
