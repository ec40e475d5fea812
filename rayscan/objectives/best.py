"""The best head so far, by the loss on the held-out graph, with the weights it had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rayscan.nets.heads import ClusterHeads


class BestHead:
    """Remembers the head and the epoch with the lowest held-out loss (SCAN Sec. 3.1)."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.loss = float("inf")
        self.head = -1
        self.epoch = -1
        self.latest: list[float] = []
        self.weights: dict[str, Tensor] = {}

    def consider(self, epoch: int, losses: Tensor, module: nn.Module, heads: ClusterHeads) -> None:
        """Look at all heads after an epoch.

        Args:
            epoch: Number of the epoch.
            losses: [H] held-out losses; lower is better.
            module: Net whose weights are kept if one of its heads is the best so far.
            heads: The heads in it.
        """
        self.latest = losses.tolist()
        head = int(losses.argmin())
        if not self.latest[head] < self.loss:
            return
        self.loss, self.head, self.epoch = self.latest[head], head, epoch
        whole = {k: v for k, v in module.state_dict().items() if not _is_head(k)}
        one = {f"heads.{k}": v for k, v in heads.only(head).state_dict().items()}
        self.weights = {k: v.detach().clone() for k, v in (whole | one).items()}

    def notes(self) -> dict[str, Any]:
        """What was seen, as JSON."""
        return {"loss": self.loss, "head": self.head, "epoch": self.epoch, "losses": self.latest}

    def tensors(self) -> dict[str, Tensor]:
        """The best weights."""
        return {f"best.{k}": v for k, v in self.weights.items()}

    def restore(self, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
        """Take back what `tensors` and `notes` gave."""
        self.weights = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
        self.loss, self.head = float(notes["loss"]), int(notes["head"])
        self.epoch, self.latest = int(notes["epoch"]), list(notes["losses"])


def _is_head(key: str) -> bool:
    return key in ("weight", "bias") or key.startswith("heads.")
