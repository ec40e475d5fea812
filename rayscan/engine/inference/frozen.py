"""What all engines share: pixels in chunks of one size, and what to note about a pass."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rayscan.engine.inference.choice import EngineName, Precision


class FrozenNet(ABC):
    """A network that is not trained, on pixels: uint8 [B, 3, S, S] -> float32 [B, D] on the CPU."""

    engine: EngineName
    version: str
    """Library and version."""
    precision: Precision
    chunk: int
    """Images per forward; batches are padded to a multiple of it."""
    note: str = ""
    """One line for the user, if another engine than the chosen one had to be taken."""

    @property
    def facts(self) -> dict[str, str]:
        """What can change features in the third digit after the point: for the artifact's facts."""
        return {"engine": self.engine, "version": self.version, "precision": self.precision}

    def __call__(self, pixels: Tensor) -> Tensor:
        """Features.

        Args:
            pixels: uint8 [B, 3, S, S], RGB; quickest in channels-last memory.

        Returns:
            float32 [B, D]; a row's bits do not depend on the others, on B or on the place in the batch.
        """
        if not len(pixels):
            return torch.empty(0)
        while True:
            missing = -len(pixels) % self.chunk
            padded = (
                torch.cat([pixels, pixels.new_zeros((missing, *pixels.shape[1:]))]) if missing else pixels
            )
            try:
                return self._forward(padded)[: len(pixels)]
            except torch.OutOfMemoryError:
                if self.chunk == 1:
                    raise
            torch.cuda.empty_cache()
            self.chunk //= 2  # remembered: later batches begin with it

    @abstractmethod
    def _forward(self, pixels: Tensor) -> Tensor:
        """Features of a multiple of `chunk` images."""
