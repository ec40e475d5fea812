"""Settings of self-labelling (SCAN Sec. 2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.config.images import ViewKind
from rayscan.config.optimizer import OptimizerConfig
from rayscan.sections import Section, require, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfLabelConfig(Section):
    """Fine-tuning through self-labelling (SCAN Sec. 2.3)."""

    KEY: ClassVar[str] = "selflabel"

    inputs: Literal["images", "embeddings"] = "images"
    """Train on images, or the head alone on cached embeddings."""
    update: Literal["all", "head"] = "all"
    """On images: fine-tune every weight, or the head alone on a frozen backbone."""
    threshold: float = setting(0.99, gt=0, lt=1, read_by_heads=True)
    """A sample teaches when its highest probability exceeds this."""
    class_balance: bool = setting(default=True, read_by_heads=True)
    """Weigh each cluster inversely to its confident samples in the global batch."""
    views: ViewKind = "randaugment"
    """Augmentation family of the strong view; the weak view is the plain image."""
    epochs: int = setting(200, ge=0, read_by_heads=True)
    """At most this many passes over the train split; 0 skips the training."""
    batch_size: int = setting(1000, read_by_heads=True)
    """Images per step over all workers."""
    optimizer: OptimizerConfig = setting(
        OptimizerConfig(kind="adam", learning_rate=1e-4, weight_decay=1e-4, schedule="constant"),
        read_by_heads=True,
    )
    """Optimizer and schedule."""
    ema_decay: float = setting(0.999, ge=0, lt=1, read_by_heads=True)
    """Decay per step of the averaged copy that is kept as the result; 0 keeps the student itself."""
    plateau_epochs: int = setting(20, ge=1, read_by_heads=True)
    """Stop when the confident count has not grown by 0.1 % of the images for this many epochs."""
    threshold_kind: Literal["fixed", "per_class"] = setting("fixed", read_by_heads=True)
    """per_class lowers it for clusters with fewer confident images (FlexMatch, arXiv 2110.08263)."""
    threshold_floor: float = setting(0.5, gt=0, le=1, read_by_heads=True)
    """A per-class threshold never falls below this."""
    teacher: Literal["student", "average"] = setting("student", read_by_heads=True)
    """Who labels the weak view: the net that learns, or its average (mean teacher, arXiv 1703.01780)."""
    keep_better: bool = setting(default=True, read_by_heads=True)
    """Keep the weights of scan if self-labelling lowered the label-free score by more than `tolerated_fall`,
    and say so."""
    tolerated_fall: float = setting(0.05, ge=0, lt=1, read_by_heads=True)
    """Share of the label-free score that self-labelling may lose: the score believes the mined neighbors, and
    self-labelling corrects some of them (docs/results/digits.md: ACC up by 1.5 points, score down by 2 %)."""

    def check(self) -> None:
        """An average that teaches is kept."""
        require(
            self.teacher == "student" or self.ema_decay > 0,
            "selflabel.teacher",
            "student where selflabel.ema_decay is 0: there is no average then",
            self.teacher,
        )
