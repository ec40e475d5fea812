"""Settings of the pretext task: representation learning without labels (SCAN Sec. 2.1).

A method is a variant: what all share stands in `PretextConfig`, the rest in a class of its own. The classes
stand here and not beside the objectives, because those import torch and settings must not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.config.images import ViewKind
from rayscan.config.optimizer import OptimizerConfig
from rayscan.sections import Section, require, setting

GROWING_STEP_PX = 4
"""By so much the side of views grows: a network of four strides of 2 makes whole cells of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretextConfig(Section):
    """Self-supervised representation learning (SCAN Sec. 2.1): how features `own` are trained."""

    KEY: ClassVar[str] = "pretext"
    TAG: ClassVar[str] = "method"
    VARIANTS: ClassVar[dict[str, type[Section]]] = {}

    method: str
    """Pretext task: simclr, moco (MoCo v2), instdisc (instance discrimination), rotnet (rotations) or byol.
    Each has settings of its own, shown where it is chosen: --pretext.method NAME --help."""
    checkpoint_license: str | None = None
    """Licence of the weights of `--features checkpoint:PATH`, as you know it; recorded, never checked."""
    backbone: str = "resnet18"
    """Network without its classifier: resnet10_w16, resnet18, resnet50; or timm/NAME."""
    stem: Literal["cifar", "stl", "imagenet"] = "cifar"
    """First layers: 3x3 stride 1; the same with a max-pool of 2; or 7x7 stride 2 with a max-pool."""
    projection_dim: int = setting(128, ge=2)
    """Width of the projection head's output (P); rotnet has no projection."""
    projection_hidden_dim: int | None = None
    """Width of its hidden layer (instdisc and rotnet have none); none takes the backbone's width (D)."""
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
    first_px: int | None = setting(None, ge=8)
    """Side of the views in the first epoch, px, if it grows to that of the images: few pixels cost less
    (progressive resizing; arXiv 2104.00298, Sec. 4.1)."""
    growing_fraction: float = setting(0.75, gt=0, le=1)
    """Share of the epochs in which it grows, evenly, in steps of 4 px."""
    sync_batchnorm: bool = True
    """Normalise over the global batch. Without it the worker count changes the result."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on GPUs and, from 32 px on, on CPUs with bf16 units; fp32 elsewhere. Losses and statistics
    of normalisation are fp32 in any case."""

    def side_at(self, epoch: int, last_px: int) -> int:
        """Side of the views in an epoch, px.

        Args:
            epoch: Its number, from 0.
            last_px: Side of the images.
        """
        grown = epoch / (self.growing_fraction * self.epochs)
        if self.first_px is None or grown >= 1:
            return last_px
        return self.first_px + int(grown * (last_px - self.first_px)) // GROWING_STEP_PX * GROWING_STEP_PX

    def pixel_share(self, last_px: int) -> float:
        """Pixels of all views, as a share of those that views of full size would have."""
        sides = [self.side_at(epoch, last_px) for epoch in range(self.epochs)]
        return sum(side**2 for side in sides) / (len(sides) * last_px**2)

    def check(self) -> None:
        """Every part of a step has two images, so that each has another to differ from."""
        most = self.batch_size // 2
        require(
            self.accumulate_steps <= most, "pretext.accumulate_steps", f"1..{most}", self.accumulate_steps
        )


@PretextConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class SimCLRConfig(PretextConfig):
    """SimCLR (arXiv 2002.05709): two views of an image agree, and differ from the rest of the batch."""

    method: Literal["simclr"] = "simclr"
    temperature: float = setting(0.1, gt=0)
    """Softmax temperature (tau)."""


@PretextConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class MoCoConfig(PretextConfig):
    """MoCo v2 (arXiv 2003.04297): a query finds the key of its image among a queue of earlier keys."""

    method: Literal["moco"] = "moco"
    temperature: float = setting(0.1, gt=0)
    """Softmax temperature (tau)."""
    queue_size: int = setting(65_536, ge=2)
    """Earlier keys a query is compared with (Q), over all workers."""
    encoder_momentum: float = setting(0.999, ge=0, lt=1)
    """How slowly the key encoder follows, per step (m)."""


@PretextConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class InstDiscConfig(PretextConfig):
    """Instance discrimination (arXiv 1805.01978): every image is a class of its own, told apart by NCE."""

    method: Literal["instdisc"] = "instdisc"
    temperature: float = setting(0.1, gt=0)
    """Softmax temperature (tau)."""
    noise_samples: int = setting(4_096, ge=1)
    """Noise rows per image (m)."""
    bank_momentum: float = setting(0.5, ge=0, lt=1)
    """Share of an image's old row in the memory bank that is kept when the image is seen again."""


@PretextConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class RotNetConfig(PretextConfig):
    """RotNet (arXiv 1803.07728): say by how many quarter turns a picture was rotated."""

    method: Literal["rotnet"] = "rotnet"


@PretextConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class BYOLConfig(PretextConfig):
    """BYOL (arXiv 2006.07733): a view predicts what a slow copy of the network makes of another view."""

    method: Literal["byol"] = "byol"
    encoder_momentum: float = setting(0.999, ge=0, lt=1)
    """How slowly the target network follows, per step (tau); rises to 1 at the end."""


PRETEXTS = PretextConfig.VARIANTS
"""`pretext.method` -> its settings."""
