"""A loss or a gradient that is not finite: found on the device, agreed on by all workers, recorded.

A step costs no message and no waiting host for this. A worker whose share of the loss is not finite starts
its backward pass from NaN, so the sum of gradients carries it to every worker, whose weights are NaN from
that step on; no checkpoint takes such a state (`Checkpoints`). At the next row of metrics all know of it.

One that came from a flipped bit heals by going back to the newest whole checkpoint: the same batches come
again. One that comes from the numbers would come again with them, and ends the training.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rayscan import comms
from rayscan.data.order import rank_slice
from rayscan.errors import ArtifactError, DataError
from rayscan.storage import Place
from rayscan.types import Ints

NEVER = -1
LOG = "not-finite.json"


@dataclass(frozen=True)
class Incident:
    """A loss or gradient that was not finite, and where in the training."""

    step: int
    epoch: int
    batch: int
    """Number of the step in its epoch."""
    workers: tuple[int, ...]
    """Ranks whose own share of the loss was not finite; none if only a gradient was."""
    world: int
    gids: tuple[int, ...]
    """Images of these workers at that step; of all workers if none is named."""
    back_to: int
    """Step of the checkpoint that was taken up; -1 if there was none."""


def max_entry(gradients: Sequence[Tensor]) -> Tensor:
    """The largest entry, finite if all are: a few kernels for all tensors on a GPU."""
    return nn.utils.get_total_norm(gradients, math.inf)


def sum_entries(gradients: Sequence[Tensor]) -> Tensor:
    """The sum of all entries, finite if all are (and below 1e38 together): on a CPU 30 times as fast."""
    return torch.stack([gradient.sum() for gradient in gradients]).sum()


class FiniteCheck:
    """A check of every step that remembers, on the device, the first one that was not finite."""

    def __init__(self, net: nn.Module, device: str) -> None:
        """Check the gradients of a net's trainable weights."""
        self._weights = [p for p in net.parameters() if p.requires_grad]
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Forget what was found."""
        # of this worker's share of the loss, and of the summed gradients
        self._first = torch.full((2,), NEVER, dtype=torch.int64, device=self._device)

    def initial_gradient(self, loss: Tensor) -> Tensor:
        """The gradient a backward pass starts from: the number of workers, or NaN if this loss is not finite.

        Data-parallel backward averages over workers; shares of a sum want the sum.
        """
        return loss.detach() * 0 + comms.world_size()

    def check(self, step: int, loss: Tensor) -> None:
        """Check the loss and the gradients after the backward pass of a step."""
        gradients = [p.grad for p in self._weights if p.grad is not None]
        witness = (max_entry if gradients[0].is_cuda else sum_entries)(gradients)
        is_bad = ~torch.isfinite(torch.stack([loss.detach().to(witness), witness]))
        self._first = torch.where(is_bad & (self._first == NEVER), step, self._first)

    @property
    def has_failed(self) -> Tensor:
        """1 if something was not finite, else 0: a scalar on the device, for a sum over workers."""
        return (self._first != NEVER).any().double()

    def first_failure(self) -> tuple[int, tuple[int, ...]]:
        """The first step that was not finite, and the workers whose own loss it was. A collective."""
        rows = comms.all_gather_rows(self._first).tolist()
        step = min(int(first) for row in rows for first in row if first != NEVER)
        return step, tuple(rank for rank, (own, _) in enumerate(rows) if own == step)


def images_of(gids: Ints, workers: tuple[int, ...], world: int) -> tuple[int, ...]:
    """Images of a global batch that these workers saw; all of them if no worker is named."""
    slices = [rank_slice(gids, rank, world) for rank in workers] or [gids]
    return tuple(int(gid) for part in slices for gid in part)


class IncidentLog:
    """Incidents of a training, kept beside its checkpoints so that the next process knows them too."""

    def __init__(self, place: Place) -> None:
        """Remember where the log lies; nothing is read before there is an incident."""
        self.place = place
        self.incidents: list[dict[str, Any]] = []

    def record(self, incident: Incident) -> str | None:
        """Write an incident down; None if the training may go back, else why it must end. Worker 0 alone."""
        with contextlib.suppress(FileNotFoundError, ValueError, ArtifactError):
            self.incidents = json.loads(self.place.read(LOG)) or self.incidents
        reason = _reason(self.incidents, incident)
        self.incidents = [*self.incidents, asdict(incident)]
        with contextlib.suppress(ArtifactError):  # known in memory still
            self.place.write(LOG, json.dumps(self.incidents).encode())
        return reason

    def error(self, incident: Incident, reason: str, batches: int) -> DataError:
        """The error of a training that must end."""
        gids, world = incident.gids, incident.world
        names = ", ".join(f"worker {rank} of {world}" for rank in incident.workers)
        what = f"the loss of {names}" if names else "a gradient, though the loss is finite"
        kept = f"the checkpoint of step {incident.back_to} is sound and kept" if incident.back_to >= 0 else ""
        return DataError(
            f"the loss is not finite: {reason}",
            expected="finite numbers",
            got=f"nan or infinity in {what}",
            where=f"step {incident.step} (epoch {incident.epoch}, batch {incident.batch} of {batches}): "
            f"{len(gids)} images, gids {min(gids)} to {max(gids)}, all named in {self.place.uri_of(LOG)}",
            fix="lower the learning rate, use precision fp32, or look at these images"
            + (f"; {kept}" if kept else ""),
        )


def _reason(known: list[dict[str, Any]], incident: Incident) -> str | None:
    if incident.back_to < 0:
        return "there is no checkpoint to go back to"
    if any(one["step"] == incident.step for one in known):
        return "the second time at this step, so it would come again"
    if known and known[-1]["back_to"] == incident.back_to:
        return f"the second time since the checkpoint of step {incident.back_to}"
    return None
