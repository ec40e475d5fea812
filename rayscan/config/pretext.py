"""Settings of the pretext task: representation learning without labels (SCAN Sec. 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.config.images import ViewKind
from rayscan.config.optimizer import OptimizerConfig
from rayscan.sections import Section, require, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class PretextConfig(Section):
    """Self-supervised representation learning (SCAN Sec. 2.1), or a checkpoint that somebody else trained."""

    KEY: ClassVar[str] = "pretext"

    method: Literal["simclr", "moco", "instdisc", "rotnet", "byol"] = "simclr"
    """Pretext task: SimCLR, MoCo v2, instance discrimination, rotations, or BYOL."""
    checkpoint: str | None = None
    """Weights to start from instead of training: the pretext stage only reads them. Safetensors, or a torch
    file without code; layouts of MoCo, SimCLR, SwAV, DINO, lightly, solo-learn, torchvision, timm."""
    checkpoint_license: str | None = None
    """Licence of the checkpoint, as you know it; recorded in pretext.json, never checked."""
    backbone: str = "resnet18"
    """Network without its classifier: resnet10_w16, resnet18, resnet50; or timm/NAME with the extra."""
    stem: Literal["cifar", "stl", "imagenet"] = "cifar"
    """First layers: 3x3 stride 1; the same with a max-pool of 2; or 7x7 stride 2 with a max-pool."""
    projection_dim: int = setting(128, ge=2)
    """Width of the projection head's output (P)."""
    projection_hidden_dim: int | None = None
    """Width of its hidden layer; none takes the backbone's width (D)."""
    temperature: float = setting(0.1, gt=0)
    """Softmax temperature (tau) of simclr, moco and instdisc."""
    queue_size: int = setting(65_536, ge=2)
    """Earlier keys that moco compares with (Q), over all workers."""
    encoder_momentum: float = setting(0.999, ge=0, lt=1)
    """How slowly the second encoder of moco and byol follows, per step; byol's rises to 1 at the end."""
    noise_samples: int = setting(4_096, ge=1)
    """Noise rows per image of instdisc (m)."""
    bank_momentum: float = setting(0.5, ge=0, lt=1)
    """Share of an image's old row that instdisc keeps when it sees the image again."""
    views: ViewKind = "simclr"
    """Augmentation family of the views."""
    epochs: int = setting(500, ge=1)
    """Passes over the train split."""
    batch_size: int = setting(512, ge=2)
    """Images per step over all workers."""
    accumulate_steps: int = setting(1, ge=1)
    """Parts a worker cuts its share of a step into, to need the memory of one. Normalisation, and simclr's
    negatives, are those of a part."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and schedule."""
    sync_batchnorm: bool = True
    """Normalise over the global batch. Without it the worker count changes the result."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on GPUs and, from 32 px on, on CPUs with bf16 units; fp32 elsewhere. Losses and statistics
    of normalisation are fp32 in any case."""

    def check(self) -> None:
        """Every part of a step has two images, so that each has another to differ from."""
        most = self.batch_size // 2
        require(
            self.accumulate_steps <= most, "pretext.accumulate_steps", f"1..{most}", self.accumulate_steps
        )
