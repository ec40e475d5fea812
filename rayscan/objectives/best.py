"""The best head so far, by the loss on the held-out graph, with the weights it had."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rayscan.nets.heads import heads_of, one_head, one_head_state
from rayscan.objectives.counter import Counter


class BestHead(nn.Module):
    """The head and the epoch with the lowest held-out loss (SCAN Sec. 3.1), and the net as it was then."""

    lowest: Tensor
    latest: Tensor

    def __init__(self, net: nn.Module) -> None:
        """Nothing seen yet.

        Args:
            net: Cluster heads, alone or on a backbone.
        """
        super().__init__()
        self.net = one_head(net)
        num_heads = len(heads_of(net).weight)
        self.epoch, self.head = Counter(-1), Counter(-1)
        self.register_buffer("lowest", torch.zeros((), dtype=torch.float64))
        self.register_buffer("latest", torch.zeros(num_heads, dtype=torch.float64))

    @property
    def is_known(self) -> bool:
        """Whether any head has been judged."""
        return int(self.epoch) >= 0

    @property
    def loss(self) -> float:
        """Its held-out loss; infinite before the first is known."""
        return float(self.lowest) if self.is_known else float("inf")

    def consider(self, epoch: int, losses: Tensor, net: nn.Module) -> None:
        """Keep the best head of an epoch if none before was better.

        Args:
            epoch: Number of the epoch.
            losses: [H] held-out losses; lower is better.
            net: The net with all its heads.
        """
        losses = losses.detach().to("cpu", torch.float64)
        self.latest.copy_(losses)
        head = int(losses.argmin())
        if not float(losses[head]) < self.loss:
            return
        self.lowest.copy_(losses[head])
        self.head.value, self.epoch.value = head, epoch
        self.net.load_state_dict(one_head_state(net, head))

    def weights(self) -> dict[str, Tensor]:
        """Weights of the net with the best head alone; those of the head are called `heads.*`."""
        is_whole = heads_of(self.net) is not self.net
        return {k if is_whole else f"heads.{k}": v for k, v in self.net.state_dict().items()}

    def facts(self) -> dict[str, Any]:
        """Losses of all heads at the last epoch that was judged, and which head and epoch are kept."""
        return {
            "losses": self.latest.tolist() if self.is_known else [],
            "best_head": int(self.head),
            "best_epoch": int(self.epoch),
            "best_loss": self.loss,
        }
