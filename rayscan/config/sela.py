"""Settings of SeLa: labels by optimal transport, and a network that learns them in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.config.images import ViewKind
from rayscan.config.optimizer import OptimizerConfig
from rayscan.sections import Section, operational, require, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class SelaConfig(Section):
    """Self-labelling by simultaneous clustering and representation learning (arXiv 1911.05371)."""

    KEY: ClassVar[str] = "sela"

    inputs: Literal["images", "embeddings"] = "images"
    """Learn every weight on images, or heads alone on cached embeddings."""
    start: Literal["pretext", "fresh"] = "pretext"
    """On images: begin from the pretext's backbone, or from random weights as in the paper."""
    backbone: str | None = None
    """With start fresh, another network than the pretext's: label transfer."""
    stem: Literal["cifar", "stl", "imagenet"] | None = None
    """Its first layers; none takes the pretext's."""
    num_heads: int = setting(1, ge=1)
    """Heads that are labelled on their own (T); the one with the lowest held-out SCAN loss is kept."""
    num_relabelings: int = setting(80, ge=0)
    """Optimal transports in the training, dense at its beginning (#opts); 0 keeps the first labels."""
    sinkhorn_weight: float = setting(25.0, gt=0)
    """Sharpness of the transport (lambda)."""
    sinkhorn_tolerance: float = setting(0.01, gt=0)
    """Stop when the cluster sizes are off by this share of the images in sum."""
    sinkhorn_iterations: int = setting(500, ge=1)
    """At most this many passes a transport."""
    prior: str | None = operational(None)
    """File with the share of each cluster, one number a line or a JSON list; none makes all equal. Its
    numbers, not its name, enter the fingerprint."""
    first_labels: str | None = operational(None)
    """Parquet with gid and cluster (or head_0, head_1 ...), such as the assignments.parquet or labels.parquet
    of a run on the same images: first labels instead of random ones. Its contents enter the fingerprint."""
    views: ViewKind = "simclr"
    """Augmentation family."""
    epochs: int = setting(160, ge=1)
    """Passes over the train split."""
    batch_size: int = 256
    """Images per step over all workers."""
    optimizer: OptimizerConfig = OptimizerConfig(
        kind="sgd", learning_rate=0.05, weight_decay=1e-5, schedule="cosine"
    )
    """Optimizer and schedule. Deviation: a cosine, the paper divides by ten at given epochs."""
    memory_bytes: int = operational(4_000_000_000)
    """Keep a worker's part of the transport's matrix where it fits in so much; else make it in every pass."""

    def check(self) -> None:
        """Another backbone can only begin from fresh weights."""
        require(
            self.backbone is None or (self.start == "fresh" and self.inputs == "images"),
            "sela.backbone",
            "none, or with sela.start fresh and sela.inputs images",
            self.backbone,
        )
