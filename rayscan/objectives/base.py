"""Objective: a net, its loss, and the state that belongs to them, as one `nn.Module`.

Whatever a training must remember is a parameter, a buffer or a submodule, so `state_dict` is the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.config import ViewKind
from rayscan.types import Ints

Batch = Mapping[str, Any]
"""Tensors of this worker's slice, and `count`: the images of the global batch."""


class Source(Protocol):
    """Where a training gets its inputs [B, ...]: pictures, or stored features (`training.sources`)."""

    gids: Ints
    """Images of the train split, ascending [N]."""
    seed: int
    """Seed of the run."""

    def plain(self, gids: Ints) -> Tensor:
        """Inputs without augmentation [B, ...]."""

    def views(self, gids: Ints, family: ViewKind, epoch: int, numbers: tuple[int, ...]) -> Tensor:
        """Augmented inputs [V, B, ...], keyed by (seed, epoch, gid, number)."""

    def strong(self, gids: Ints, family: ViewKind, epoch: int) -> Tensor:
        """Inputs of the strong view of self-labelling [B, ...]."""


@dataclass(frozen=True)
class LossTerms:
    """This worker's share of the global loss: the sum over workers is the loss of the whole batch."""

    total: Tensor
    """Scalar with gradient."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Shares of what is logged, detached: scalars that sum over workers to the value."""


@dataclass(frozen=True)
class EpochEnd:
    """What an objective says at the end of an epoch."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    should_stop: bool = False


class Objective(nn.Module):
    """A net, a loss, and state. Subclasses give `batch` and `loss`, and override what else they need."""

    def __init__(self, net: nn.Module) -> None:
        """Make `net` data-parallel, in train mode.

        Parts of it that take no gradient are frozen whole: in eval mode, their statistics stay as they are.
        """
        super().__init__()
        self.module = net
        self.module.train()
        for part in net.modules():
            weights = list(part.parameters())
            if weights and not any(p.requires_grad for p in weights):
                part.eval()
        # In a tuple, so that the wrapper's weights do not enter the state a second time.
        self._data_parallel = (comms.data_parallel(net),)

    @property
    def net(self) -> nn.Module:
        """The net in its data-parallel wrapper; `module` is without."""
        return self._data_parallel[0]

    def compile_nets(self) -> None:
        """Let torch compile the nets in place; names of weights stay as they are."""
        self.module.compile(dynamic=False)

    def batch(self, source: Source, gids: Ints, epoch: int) -> dict[str, Tensor]:
        """Tensors that `loss` needs for this worker's images of a step.

        Args:
            source: Where inputs come from.
            gids: This worker's images [B].
            epoch: Pass over the data.
        """
        raise TypeError(f"{type(self).__name__} has no batch")

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's share of the loss."""
        raise TypeError(f"{type(self).__name__} has no loss")

    def after_step(self) -> None:
        """Update what follows the weights (averages, queues)."""

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Metrics of an epoch, and whether the training shall stop."""
        return EpochEnd()


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in float64 if it is: losses are not computed in half precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
