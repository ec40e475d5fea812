"""How a search runs: counts and shares. Checked before torch or Ray load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayscan.sections import require


@dataclass(frozen=True)
class Plan:
    """How many trials, and how they run."""

    trials: int = 60
    """Trials, those of an earlier search in this --out included."""
    finalists: int = 3
    """Best trials that are run again with other seeds."""
    seeds: int = 3
    """Runs of each finalist."""
    from_images: bool = False
    """Train whole trials on images instead of heads on cached embeddings; any setting may then vary."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Learn from the trials so far, or draw at random."""
    early_stopping: bool = True
    """Stop heads that are worse than others after the same training (ASHA)."""
    concurrent: int | None = None
    """Trials at once; without it as many as fit."""
    gpus_per_trial: float | None = None
    """GPUs of a trial of heads; without it a quarter where there are any."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("trials", "finalists", "seeds"):
            require(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        require(self.concurrent is None or self.concurrent >= 1, "concurrent", ">= 1", self.concurrent)
        gpus = self.gpus_per_trial
        require(gpus is None or gpus >= 0, "gpus_per_trial", ">= 0", gpus)
