"""Counter: a whole number that is part of a module's state."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Counter(nn.Module):
    """A Python int in `state_dict`. A buffer would be a tensor, and reading one may make the host wait."""

    def __init__(self, value: int = 0) -> None:
        """Begin at `value`."""
        super().__init__()
        self.value = value

    def __int__(self) -> int:
        """The number."""
        return self.value

    def get_extra_state(self) -> Tensor:
        """The number as int64, for a checkpoint of tensors."""
        return torch.tensor(self.value)

    def set_extra_state(self, state: Tensor) -> None:
        """The number from a checkpoint."""
        self.value = int(state)
