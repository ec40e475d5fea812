"""Settings of an optimizer and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.sections import Section, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig(Section):
    """Optimizer and schedule of one training."""

    KEY: ClassVar[str] = "optimizer"

    kind: Literal["sgd", "adam", "adamw", "lars"] = "sgd"
    """Algorithm; sgd and lars have momentum 0.9. lars scales each layer's step, for batches of thousands."""
    learning_rate: float = setting(0.4, gt=0)
    """Peak learning rate, for the batch size as given (no hidden scaling)."""
    weight_decay: float = setting(1e-4, ge=0)
    """Weight decay; not applied to biases and normalisation weights when `decay_norms` is false."""
    decay_norms: bool = True
    """Also decay biases and normalisation weights, as the published codes do."""
    warmup_epochs: float = setting(0.0, ge=0)
    """Epochs of linear warm-up from zero."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Shape after warm-up; cosine ends at `final_fraction`."""
    final_fraction: float = setting(0.0, ge=0, le=1)
    """Share of the peak learning rate left at the end of the cosine."""
