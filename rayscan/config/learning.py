"""Settings of what is learned: the pretext task, the SCAN step, self-labelling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayscan.sections import Section, later, operational, require

ViewKind = Literal["plain", "simclr", "randaugment", "digits"]
"""Augmentation families, see `data.views`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig(Section):
    """Optimizer and schedule of one training."""

    kind: Literal["sgd", "adam", "adamw", "lars"] = "sgd"
    """Algorithm; sgd and lars have momentum 0.9. lars scales each layer's step, for batches of thousands."""
    learning_rate: float = 0.4
    """Peak learning rate, for the batch size as given (no hidden scaling)."""
    weight_decay: float = 1e-4
    """Weight decay; not applied to biases and normalisation weights when `decay_norms` is false."""
    decay_norms: bool = True
    """Also decay biases and normalisation weights, as the published codes do."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up from zero."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Shape after warm-up; cosine ends at `final_fraction`."""
    final_fraction: float = 0.0
    """Share of the peak learning rate left at the end of the cosine."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.learning_rate > 0, "optimizer.learning_rate", "> 0", self.learning_rate)
        require(self.weight_decay >= 0, "optimizer.weight_decay", ">= 0", self.weight_decay)
        require(self.warmup_epochs >= 0, "optimizer.warmup_epochs", ">= 0", self.warmup_epochs)
        require(0 <= self.final_fraction <= 1, "optimizer.final_fraction", "0..1", self.final_fraction)


@dataclass(frozen=True, kw_only=True, slots=True)
class PretextConfig(Section):
    """Self-supervised representation learning (SCAN Sec. 2.1), or a checkpoint that somebody else trained."""

    method: Literal["simclr", "moco", "instdisc", "rotnet", "byol"] = "simclr"
    """Pretext task: SimCLR, MoCo v2, instance discrimination, rotations, or BYOL."""
    checkpoint: str | None = later(None)
    """Weights to start from instead of training: the pretext stage only reads them. Safetensors, or a torch
    file without code; layouts of MoCo, SimCLR, SwAV, DINO, lightly, solo-learn, torchvision, timm."""
    checkpoint_license: str | None = later(None)
    """Licence of the checkpoint, as you know it; recorded in pretext.json, never checked."""
    backbone: str = "resnet18"
    """Network without its classifier: resnet10_w16, resnet18, resnet50; or timm/NAME with the extra."""
    stem: Literal["cifar", "stl", "imagenet"] = "cifar"
    """First layers: 3x3 stride 1; the same with a max-pool of 2; or 7x7 stride 2 with a max-pool."""
    projection_dim: int = 128
    """Width of the projection head's output (P)."""
    projection_hidden_dim: int | None = None
    """Width of its hidden layer; none takes the backbone's width (D)."""
    temperature: float = 0.1
    """Softmax temperature (tau) of simclr, moco and instdisc."""
    queue_size: int = later(65_536)
    """Earlier keys that moco compares with (Q), over all workers."""
    encoder_momentum: float = later(0.999)
    """How slowly the second encoder of moco and byol follows, per step; byol's rises to 1 at the end."""
    noise_samples: int = later(4_096)
    """Noise rows per image of instdisc (m)."""
    bank_momentum: float = later(0.5)
    """Share of an image's old row that instdisc keeps when it sees the image again."""
    views: ViewKind = "simclr"
    """Augmentation family of the views."""
    epochs: int = 500
    """Passes over the train split."""
    batch_size: int = 512
    """Images per step over all workers."""
    accumulate_steps: int = later(1)
    """Parts a worker cuts its share of a step into, to need the memory of one. Normalisation, and simclr's
    negatives, are those of a part."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and schedule."""
    sync_batchnorm: bool = True
    """Normalise over the global batch. Without it the worker count changes the result."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on GPUs and, from 32 px on, on CPUs with bf16 units; fp32 elsewhere. Losses and statistics
    of normalisation are fp32 in any case."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.epochs >= 1, "pretext.epochs", ">= 1", self.epochs)
        require(self.batch_size >= 2, "pretext.batch_size", ">= 2", self.batch_size)
        require(self.temperature > 0, "pretext.temperature", "> 0", self.temperature)
        require(self.projection_dim >= 2, "pretext.projection_dim", ">= 2", self.projection_dim)
        require(self.queue_size >= 2, "pretext.queue_size", ">= 2", self.queue_size)
        require(self.noise_samples >= 1, "pretext.noise_samples", ">= 1", self.noise_samples)
        for key in ("encoder_momentum", "bank_momentum"):
            value = getattr(self, key)
            require(0 <= value < 1, f"pretext.{key}", "0 <= momentum < 1", value)
        parts = self.accumulate_steps
        require(
            1 <= parts <= self.batch_size // 2,
            "pretext.accumulate_steps",
            f"1..{self.batch_size // 2}",
            parts,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanConfig(Section):
    """Clustering with the SCAN loss (SCAN Eq. 2)."""

    inputs: Literal["images", "embeddings", "both"] = "images"
    """Train on images; or heads only, on cached embeddings (seconds); or the heads first, then on images."""
    update: Literal["all", "head"] = "all"
    """On images: fine-tune every weight, or the head alone on a frozen backbone."""
    num_neighbors: int = 20
    """Neighbors one is drawn from per anchor and step (K)."""
    entropy_weight: float = 5.0
    """Weight of the entropy term (lambda)."""
    num_heads: int = 1
    """Heads trained side by side (H); the one with the lowest held-out loss is kept."""
    views: ViewKind = "randaugment"
    """Augmentation family of anchors and neighbors."""
    epochs: int = 100
    """Passes over the train split on images."""
    batch_size: int = 128
    """Anchors per step over all workers, on images."""
    optimizer: OptimizerConfig = OptimizerConfig(
        kind="adam", learning_rate=1e-4, weight_decay=1e-4, schedule="constant"
    )
    """Optimizer on images."""
    head_num_neighbors: int | None = None
    """Neighbors of the phase on cached embeddings; none takes `num_neighbors`."""
    head_epochs: int = 100
    """Passes over the cached embeddings."""
    head_batch_size: int = 512
    """Anchors per step on cached embeddings."""
    head_optimizer: OptimizerConfig = OptimizerConfig(kind="adam", learning_rate=1e-2, weight_decay=0.0)
    """Optimizer of heads on cached embeddings."""
    heldout_fraction: float = 0.05
    """Seeded share of the train split kept out of the loss, for choosing the head."""
    loss: Literal["scan", "pmi"] = later("scan")
    """scan is Eq. 2; pmi the weighted pointwise mutual information of TEMI (arXiv 2303.17896)."""
    neighbors_per_step: Literal["one", "all"] = later("one")
    """One neighbor drawn per anchor and step, or the mean over all of them."""
    include_self: bool = later(default=False)
    """The image itself, in another view, counts among its neighbors, as in the published code."""
    marginal: Literal["batch", "running"] = later("batch")
    """Entropy of the mean over the global batch, or over many steps: for batches small beside C."""
    marginal_decay: float = later(0.9)
    """Decay per step of the running mean (marginal running, loss pmi)."""
    prior: str | None = operational(None)
    """File with the known share of each cluster, one number a line or a JSON list: the entropy becomes the
    KL divergence to it. Its numbers, not its name, enter the fingerprint."""
    heads_reduction: Literal["sum", "mean"] = later("sum")
    """Sum the heads' losses, so that each learns as if alone, or average them."""
    pmi_beta: float = later(0.6)
    """Exponent of the pmi loss: 1 is plain PMI, less spreads clusters more evenly (beta)."""
    pmi_temperature: float = later(0.1)
    """Heads start 1 / this as large under the pmi loss (TEMI's temperature, folded into the weights)."""
    teacher_decay: float = later(0.996)
    """Decay per step of the averaged copy that teaches under the pmi loss."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.num_neighbors >= 0, "scan.num_neighbors", ">= 0", self.num_neighbors)
        require(0 < self.pmi_beta <= 1, "scan.pmi_beta", "0 < beta <= 1", self.pmi_beta)
        require(self.pmi_temperature > 0, "scan.pmi_temperature", "> 0", self.pmi_temperature)
        for key in ("marginal_decay", "teacher_decay"):
            require(0 <= getattr(self, key) < 1, f"scan.{key}", "0 <= decay < 1", getattr(self, key))
        require(self.entropy_weight >= 0, "scan.entropy_weight", ">= 0", self.entropy_weight)
        require(self.num_heads >= 1, "scan.num_heads", ">= 1", self.num_heads)
        require(
            self.epochs >= 1 and self.head_epochs >= 1, "scan.epochs", ">= 1", (self.epochs, self.head_epochs)
        )
        require(
            0 < self.heldout_fraction < 0.5,
            "scan.heldout_fraction",
            "between 0 and 0.5",
            self.heldout_fraction,
        )

    @property
    def start_temperature(self) -> float:
        """See `nets.heads.ClusterHeads`."""
        return self.pmi_temperature if self.loss == "pmi" else 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfLabelConfig(Section):
    """Fine-tuning through self-labelling (SCAN Sec. 2.3)."""

    inputs: Literal["images", "embeddings"] = "images"
    """Train on images, or the head alone on cached embeddings."""
    update: Literal["all", "head"] = "all"
    """On images: fine-tune every weight, or the head alone on a frozen backbone."""
    threshold: float = 0.99
    """A sample teaches when its highest probability exceeds this."""
    class_balance: bool = True
    """Weigh each cluster inversely to its confident samples in the global batch."""
    views: ViewKind = "randaugment"
    """Augmentation family of the strong view; the weak view is the plain image."""
    epochs: int = 200
    """At most this many passes over the train split; 0 skips the training."""
    batch_size: int = 1000
    """Images per step over all workers."""
    optimizer: OptimizerConfig = OptimizerConfig(
        kind="adam", learning_rate=1e-4, weight_decay=1e-4, schedule="constant"
    )
    """Optimizer and schedule."""
    ema_decay: float = 0.999
    """Decay per step of the averaged copy that is kept as the result; 0 keeps the student itself."""
    plateau_epochs: int = 20
    """Stop when the confident count has not grown by 0.1 % of the images for this many epochs."""
    threshold_kind: Literal["fixed", "per_class"] = later("fixed")
    """per_class lowers it for clusters with fewer confident images (FlexMatch, arXiv 2110.08263)."""
    threshold_floor: float = later(0.5)
    """A per-class threshold never falls below this."""
    teacher: Literal["student", "average"] = later("student")
    """Who labels the weak view: the net that learns, or its average (mean teacher, arXiv 1703.01780)."""
    keep_better: bool = later(default=True)
    """Keep the weights of scan if self-labelling lowered the label-free score by more than `tolerated_fall`,
    and say so."""
    tolerated_fall: float = later(0.05)
    """Share of the label-free score that self-labelling may lose: the score believes the mined neighbors, and
    self-labelling corrects some of them (docs/results/digits.md: ACC up by 1.5 points, score down by 2 %)."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 < self.threshold < 1, "selflabel.threshold", "between 0 and 1", self.threshold)
        require(self.epochs >= 0, "selflabel.epochs", ">= 0", self.epochs)
        require(0 <= self.ema_decay < 1, "selflabel.ema_decay", "0 <= decay < 1", self.ema_decay)
        require(
            0 < self.threshold_floor <= 1, "selflabel.threshold_floor", "0 < floor <= 1", self.threshold_floor
        )
        require(
            self.teacher == "student" or self.ema_decay > 0,
            "selflabel.teacher",
            "student where selflabel.ema_decay is 0: there is no average then",
            self.teacher,
        )
        require(self.plateau_epochs >= 1, "selflabel.plateau_epochs", ">= 1", self.plateau_epochs)
        require(
            0 <= self.tolerated_fall < 1, "selflabel.tolerated_fall", "0 <= share < 1", self.tolerated_fall
        )
