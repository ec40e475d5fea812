"""What the training loop knows of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from rayscan import comms

Batch = Mapping[str, Any]
"""Tensors of this worker's slice, and `count`: the images of the global batch."""


@dataclass(frozen=True)
class LossTerms:
    """This worker's share of the global loss: the sum over workers is the loss of the whole batch."""

    total: Tensor
    """Scalar with gradient."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """Shares of what is logged, detached: scalars that sum over workers to the value."""


class Objective:
    """A net, a loss, and state. Subclasses override `loss`, and what else they need."""

    def __init__(self, net: nn.Module) -> None:
        """Make `net` data-parallel; train mode."""
        self.net = comms.data_parallel(net)
        self.net.train()

    @property
    def module(self) -> nn.Module:
        """The net without its data-parallel wrapper."""
        return comms.unwrap(self.net)

    def compile(self) -> None:
        """Let torch compile the net in place; names of weights stay as they are."""
        self.module.compile(dynamic=False)

    def loss(self, batch: Batch) -> LossTerms:
        """This worker's share of the loss."""
        raise TypeError(f"{type(self).__name__} has no loss")

    def after_step(self) -> None:
        """Update what follows the weights (averages, queues)."""

    def end_epoch(self, epoch: int, *, is_last: bool) -> EpochEnd:
        """Look back on an epoch; may ask to stop."""
        return EpochEnd()

    def tensors(self) -> dict[str, Tensor]:
        """State beside the net's, as tensors."""
        return {}

    def notes(self) -> dict[str, Any]:
        """State beside the net's, as JSON."""
        return {}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `notes` gave."""


@dataclass(frozen=True)
class EpochEnd:
    """What an objective says at the end of an epoch."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    should_stop: bool = False
