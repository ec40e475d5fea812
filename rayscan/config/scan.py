"""Settings of the SCAN step: clusters from neighbors (SCAN Sec. 2.2).

A loss is a variant: what all share stands in `ScanConfig`, the rest in a class of its own. The classes stand
here and not beside the losses, because those import torch and settings must not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.config.images import ViewKind
from rayscan.config.optimizer import OptimizerConfig
from rayscan.sections import Section, operational, require, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanConfig(Section):
    """Clusters in which images agree with their neighbors (SCAN Sec. 2.2)."""

    KEY: ClassVar[str] = "scan"
    TAG: ClassVar[str] = "loss"
    VARIANTS: ClassVar[dict[str, type[Section]]] = {}

    loss: str
    """scan is Eq. 2 of SCAN; pmi the weighted pointwise mutual information of TEMI (arXiv 2303.17896); mi the
    mutual information of neighbors (IIC, arXiv 1807.06653). Each has settings of its own, shown where it is
    chosen: --scan.loss NAME --help."""
    inputs: Literal["images", "embeddings", "both"] = "images"
    """Train on images; or heads only, on cached embeddings (seconds); or the heads first, then on images."""
    update: Literal["all", "head"] = "all"
    """On images: fine-tune every weight, or the head alone on a frozen backbone."""
    num_neighbors: int = setting(20, ge=0, read_by_heads=True)
    """Neighbors one is drawn from per anchor and step (K)."""
    num_heads: int = setting(1, ge=1, read_by_heads=True)
    """Heads trained side by side (H); the one with the lowest held-out loss is kept."""
    views: ViewKind = "randaugment"
    """Augmentation family of anchors and neighbors."""
    epochs: int = setting(100, ge=1)
    """Passes over the train split on images."""
    batch_size: int = 128
    """Anchors per step over all workers, on images."""
    optimizer: OptimizerConfig = OptimizerConfig(
        kind="adam", learning_rate=1e-4, weight_decay=1e-4, schedule="constant"
    )
    """Optimizer on images."""
    head_num_neighbors: int | None = setting(None, ge=0, read_by_heads=True)
    """Neighbors of the phase on cached embeddings; none takes `num_neighbors`."""
    head_epochs: int = setting(100, ge=1, read_by_heads=True)
    """Passes over the cached embeddings."""
    head_batch_size: int = setting(512, read_by_heads=True)
    """Anchors per step on cached embeddings."""
    head_optimizer: OptimizerConfig = setting(
        OptimizerConfig(kind="adam", learning_rate=1e-2, weight_decay=0.0), read_by_heads=True
    )
    """Optimizer of heads on cached embeddings."""
    heldout_fraction: float = setting(0.05, gt=0, lt=0.5, read_by_heads=True)
    """Seeded share of the train split kept out of the loss, for choosing the head."""
    neighbors_per_step: Literal["one", "all"] = setting("one", read_by_heads=True)
    """One neighbor drawn per anchor and step, or the mean over all of them."""
    include_self: bool = setting(default=False, read_by_heads=True)
    """The image itself, in another view, counts among its neighbors, as in the published code."""
    start: Literal["random", "grouping", "consensus"] = setting("random", read_by_heads=True)
    """Heads on embeddings start at random, or each from the linear discriminant rule of a k-means grouping of
    the whitened embeddings, or from the result of the method consensus and its voters."""
    keep: Literal["best", "consensus"] = setting("best", read_by_heads=True)
    """Of heads on embeddings: the one with the lowest held-out loss, or the vote of all, weighted by S, as
    one linear head."""
    prior: str | None = operational(None)
    """File with the known share of each cluster, one number a line or a JSON list: the entropy becomes the
    KL divergence to it. Its numbers, not its name, enter the fingerprint."""

    def check(self) -> None:
        """Groupings and votes are those of stored embeddings."""
        for name, plain in (("start", "random"), ("keep", "best")):
            asked = getattr(self, name)
            require(
                asked == plain or self.inputs != "images",
                f"scan.{name}",
                f"{plain} where scan.inputs is images: it is for heads on embeddings",
                asked,
            )

    @property
    def start_temperature(self) -> float:
        """See `nets.heads.ClusterHeads`."""
        return 1.0


@ScanConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class ScanLossConfig(ScanConfig):
    """Clustering with the SCAN loss (SCAN Eq. 2)."""

    loss: Literal["scan"] = setting("scan", read_by_heads=True)
    entropy_weight: float = setting(5.0, ge=0, read_by_heads=True)
    """Weight of the entropy term (lambda)."""
    marginal: Literal["batch", "running"] = setting("batch", read_by_heads=True)
    """Entropy of the mean over the global batch, or over many steps: for batches small beside C."""
    marginal_decay: float = setting(0.9, ge=0, lt=1, read_by_heads=True)
    """Decay per step of the running mean (with marginal running)."""


@ScanConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class PmiLossConfig(ScanConfig):
    """Clustering with the weighted pointwise mutual information of TEMI (arXiv 2303.17896)."""

    loss: Literal["pmi"] = setting("pmi", read_by_heads=True)
    pmi_beta: float = setting(0.6, gt=0, le=1, read_by_heads=True)
    """Exponent of the loss: 1 is plain PMI, less spreads clusters more evenly (beta)."""
    pmi_temperature: float = setting(0.1, gt=0, read_by_heads=True)
    """Heads start 1 / this as large (TEMI's temperature, folded into the weights)."""
    teacher_decay: float = setting(0.996, ge=0, lt=1, read_by_heads=True)
    """Decay per step of the averaged copy that teaches."""
    marginal_decay: float = setting(0.9, ge=0, lt=1, read_by_heads=True)
    """Decay per step of the teacher's mean assignment, which runs over steps."""

    @property
    def start_temperature(self) -> float:
        """See `nets.heads.ClusterHeads`."""
        return self.pmi_temperature


@ScanConfig.register
@dataclass(frozen=True, kw_only=True, slots=True)
class InformationLossConfig(ScanConfig):
    """Clustering with the mutual information of neighbors (IIC, arXiv 1807.06653, Eq. 3)."""

    loss: Literal["mi"] = setting("mi", read_by_heads=True)
    joint_decay: float = setting(0.0, ge=0, lt=1, read_by_heads=True)
    """Decay per step of the running joint distribution of two neighbors' clusters, for batches small beside
    C^2; 0 takes the batch alone."""


SCAN_LOSSES = ScanConfig.VARIANTS
"""`scan.loss` -> its settings."""
