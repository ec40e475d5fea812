"""How a search runs: counts and shares. Checked before torch or Ray load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayscan.sections import require


@dataclass(frozen=True)
class Plan:
    """How many trials, and how they run."""

    trials: int = 60
    finalists: int = 3
    seeds: int = 3
    from_images: bool = False
    sampler: Literal["tpe", "random"] = "tpe"
    early_stopping: bool = True
    concurrent: int | None = None
    gpus_per_trial: float | None = None

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("trials", "finalists", "seeds"):
            require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        require(self.concurrent is None or self.concurrent >= 1, "concurrent", ">= 1", self.concurrent)
        gpus = self.gpus_per_trial
        require(gpus is None or gpus >= 0, "gpus_per_trial", ">= 0", gpus)
