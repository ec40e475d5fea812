"""Every setting of a run, as frozen dataclasses with their checks. Standard library only: read this first.

A `Recipe` is whole: saved as `recipe.json`, it says all that decides a result. Fields whose metadata carries
`semantic: False` change how fast or where a run works, never what it finds; they enter no fingerprint.

Letters: B batch, V views, K neighbors, C clusters, H heads, D feature width, P projection width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from rayscan.errors import ConfigError

ViewKind = Literal["plain", "simclr", "randaugment", "digits"]


def operational(default: Any) -> Any:  # noqa: ANN401 - a dataclass field of any type
    """A field that decides speed or place, not the result; it enters no fingerprint."""
    return field(default=default, metadata={"semantic": False})


class Section:
    """Base of all sections: unknown keys in a saved file are errors, types are strict."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "strict": False}


def require(is_right: bool, key: str, expected: str, got: object) -> None:
    """Refuse a setting.

    Raises:
        ConfigError: naming the key, what was expected and what came.
    """
    if not is_right:
        raise ConfigError(
            f"setting {key} is out of range", expected=expected, got=got, where=key, fix=f"pass --{dashed(key)} VALUE"
        )


def dashed(key: str) -> str:
    """The command-line spelling of a dotted key."""
    return key.replace("_", "-")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesConfig(Section):
    """How stored bytes become pixels."""

    size_px: int = 32
    """Side of the square the networks see, px (S)."""
    canvas_px: int | None = None
    """If set, every image is first resized to this short side and centre-cropped to a square, kept as uint8 in
    memory when the whole set fits; random crops are then taken from that square. If not set, random crops are
    taken from the full picture at every epoch."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per-channel mean of RGB in 0..1 that is subtracted."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Per-channel standard deviation of RGB in 0..1 that divides."""
    max_bad_fraction: float = 0.001
    """Stop at indexing when more than this share of the images cannot be decoded."""
    max_pixels: int = 64_000_000
    """Images that declare more pixels than this are quarantined undecoded."""
    resident_bytes: int = operational(4_000_000_000)
    """Keep decoded canvases in memory when they fit in this many bytes per worker."""
    decode_threads: int = operational(2)
    """Decoding threads per worker."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.size_px >= 8, "images.size_px", ">= 8", self.size_px)
        require(
            self.canvas_px is None or self.canvas_px >= self.size_px,
            "images.canvas_px",
            f">= images.size_px = {self.size_px}, or none",
            self.canvas_px,
        )
        require(0 <= self.max_bad_fraction <= 1, "images.max_bad_fraction", "0..1", self.max_bad_fraction)


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig(Section):
    """Optimizer and schedule of one training."""

    kind: Literal["sgd", "adam", "adamw"] = "sgd"
    """Algorithm; sgd has momentum 0.9."""
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
    """Self-supervised representation learning (SCAN Sec. 2.1): SimCLR with the symmetric NT-Xent loss."""

    method: Literal["simclr"] = "simclr"
    """Pretext task."""
    backbone: str = "resnet18"
    """Network without its classifier: resnet10_w16, resnet18, resnet50."""
    stem: Literal["cifar", "stl", "imagenet"] = "cifar"
    """First layers: 3x3 stride 1; the same with a max-pool of 2; or 7x7 stride 2 with a max-pool."""
    projection_dim: int = 128
    """Width of the projection head's output (P)."""
    projection_hidden_dim: int | None = None
    """Width of its hidden layer; none takes the backbone's width (D)."""
    temperature: float = 0.1
    """Softmax temperature of NT-Xent (tau)."""
    views: ViewKind = "simclr"
    """Augmentation family of the two views."""
    epochs: int = 500
    """Passes over the train split."""
    batch_size: int = 512
    """Images per step over all workers."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimizer and schedule."""
    sync_batchnorm: bool = True
    """Normalise over the global batch. Without it the worker count changes the result."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto is bf16 on GPUs and fp32 on CPUs."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.epochs >= 1, "pretext.epochs", ">= 1", self.epochs)
        require(self.batch_size >= 2, "pretext.batch_size", ">= 2", self.batch_size)
        require(self.temperature > 0, "pretext.temperature", "> 0", self.temperature)
        require(self.projection_dim >= 2, "pretext.projection_dim", ">= 2", self.projection_dim)


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig(Section):
    """Unit-length features of every image, without augmentation."""

    space: Literal["backbone", "projection"] = "backbone"
    """Features before (D wide) or after (P wide) the projection head."""
    num_views: int = 1
    """1 is the plain image; more appends augmented views of the train split for training heads on features."""
    dtype: Literal["float16", "float32"] = "float32"
    """Stored precision."""
    batch_size: int = operational(256)
    """Images per forward."""
    rows_per_part: int = operational(65_536)
    """Rows of one `part-*.npy`; the unit of work and of recovery."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.num_views >= 1, "embed.num_views", ">= 1", self.num_views)
        require(self.rows_per_part >= 1, "embed.rows_per_part", ">= 1", self.rows_per_part)


@dataclass(frozen=True, kw_only=True, slots=True)
class MineConfig(Section):
    """Exact K nearest neighbors of every train image by cosine (SCAN Sec. 2.2)."""

    num_neighbors: int = 50
    """Neighbors stored per image; scan uses the first `scan.num_neighbors`."""
    num_shards: int | None = operational(None)
    """Index shards; none takes one per worker. Changes speed, never the result."""
    query_block: int = operational(4096)
    """Query rows sent to the shards at a time."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.num_neighbors >= 5, "mine.num_neighbors", ">= 5 (head selection reads 5)", self.num_neighbors)
        require(self.num_shards is None or self.num_shards >= 1, "mine.num_shards", ">= 1", self.num_shards)


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
    head_epochs: int = 100
    """Passes over the cached embeddings."""
    head_batch_size: int = 512
    """Anchors per step on cached embeddings."""
    head_optimizer: OptimizerConfig = OptimizerConfig(kind="adam", learning_rate=1e-2, weight_decay=0.0)
    """Optimizer of heads on cached embeddings."""
    heldout_fraction: float = 0.05
    """Seeded share of the train split kept out of the loss, for choosing the head."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.num_neighbors >= 1, "scan.num_neighbors", ">= 1", self.num_neighbors)
        require(self.entropy_weight >= 0, "scan.entropy_weight", ">= 0", self.entropy_weight)
        require(self.num_heads >= 1, "scan.num_heads", ">= 1", self.num_heads)
        require(self.epochs >= 1 and self.head_epochs >= 1, "scan.epochs", ">= 1", (self.epochs, self.head_epochs))
        require(0 < self.heldout_fraction < 0.5, "scan.heldout_fraction", "between 0 and 0.5", self.heldout_fraction)


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

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 < self.threshold < 1, "selflabel.threshold", "between 0 and 1", self.threshold)
        require(self.epochs >= 0, "selflabel.epochs", ">= 0", self.epochs)
        require(0 <= self.ema_decay < 1, "selflabel.ema_decay", "0 <= decay < 1", self.ema_decay)
        require(self.plateau_epochs >= 1, "selflabel.plateau_epochs", ">= 1", self.plateau_epochs)


@dataclass(frozen=True, kw_only=True, slots=True)
class AssignConfig(Section):
    """One row per image: cluster and confidence."""

    num_prototypes: int = 10
    """Prototypes marked per cluster: the most confident images nearest to their mean feature."""
    batch_size: int = operational(256)
    """Images per forward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig(Section):
    """Scores, when labels exist, and the k-means rival on the same embeddings."""

    kmeans_restarts: int = 10
    """Restarts of the k-means row; the lowest inertia is kept."""
    kmeans_iterations: int = 100
    """Lloyd iterations of each restart."""
    purity_neighbors: tuple[int, ...] = (1, 5, 20, 50)
    """K at which the neighbor purity is reported."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig(Section):
    """The page."""

    images: Literal["thumbnails", "none"] = "thumbnails"
    """Whether pictures are put into the page."""
    thumbnail_px: int = 64
    """Longer side of a thumbnail, px."""
    images_per_cluster: int = 24
    """Prototypes and least confident images shown per cluster, half each, while the size cap allows."""
    max_megabytes: float = 24.0
    """Size cap of the page; with many clusters fewer pictures are shown, and the page says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetConfig(Section):
    """Machines and workers. Nothing here changes a result (see `pretext.sync_batchnorm`)."""

    address: str | None = operational(None)
    """Ray to join: auto, or host:port. None starts one in this process."""
    num_workers: int | None = operational(None)
    """Training workers; none takes one per GPU, or two on CPUs."""
    gpus_per_worker: float | None = operational(None)
    """GPUs of each worker; none takes 1 if the joined Ray or its autoscaler offers any, else 0."""
    cpus_per_worker: float = operational(1.0)
    """CPUs of each worker."""
    threads_per_worker: int | None = operational(None)
    """Computing threads per worker; none takes cpus_per_worker."""
    max_failures: int = operational(3)
    """Restarts of a training stage after worker failures."""
    checkpoint_every_seconds: float = operational(30.0)
    """At most this much training is lost to a crash. Resume is exact, so this changes no result."""
    log_every_steps: int = operational(10)
    """Steps between rows of metrics."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe(Section):
    """Everything that decides a run."""

    name: str
    """Recipe the settings started from."""
    num_clusters: int | None = None
    """Clusters to form (C)."""
    seed: int = 0
    """Seed of every random choice."""
    images: ImagesConfig = ImagesConfig()
    pretext: PretextConfig = PretextConfig()
    embed: EmbedConfig = EmbedConfig()
    mine: MineConfig = MineConfig()
    scan: ScanConfig = ScanConfig()
    selflabel: SelfLabelConfig = SelfLabelConfig()
    assign: AssignConfig = AssignConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    fleet: FleetConfig = FleetConfig()

    def __post_init__(self) -> None:
        """Check what spans sections."""
        require(self.num_clusters is None or self.num_clusters >= 2, "num_clusters", ">= 2", self.num_clusters)
        require(self.seed >= 0, "seed", ">= 0", self.seed)
        require(
            self.scan.num_neighbors <= self.mine.num_neighbors,
            "scan.num_neighbors",
            f"<= mine.num_neighbors = {self.mine.num_neighbors}",
            self.scan.num_neighbors,
        )


def semantic(section: Any) -> Any:  # noqa: ANN401 - walks any dataclass tree
    """The JSON-ready tree of everything in `section` that can change a result."""
    if dataclasses.is_dataclass(section) and not isinstance(section, type):
        kept = [f for f in dataclasses.fields(section) if f.metadata.get("semantic", True)]
        return {f.name: semantic(getattr(section, f.name)) for f in kept}
    if isinstance(section, tuple | list):
        return [semantic(item) for item in section]
    return section
