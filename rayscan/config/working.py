"""Settings around the learning: images, embeddings, neighbors, results, machines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from rayscan.sections import Section, later, operational, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagesConfig(Section):
    """How stored bytes become pixels."""

    size_px: int = 32
    """Side of the square the networks see, px (S)."""
    canvas_px: int | None = None
    """If set, every image is first resized to this short side and center-cropped to a square, kept in memory
    as uint8 when the whole set fits; random crops are then taken from that square. If not set, random crops
    are taken from the full picture at every epoch."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Per-channel mean of RGB in 0..1 that is subtracted."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Per-channel standard deviation of RGB in 0..1 that divides."""
    color: Literal["exact", "fast"] = later("exact")
    """Color jitter of simclr views: exact is torchvision's, in HSV and clipped after every step; fast is one
    3 x 3 matrix per view, several times as fast, see `data.color_matrix`."""
    on_bad: Literal["skip", "stop"] = operational("skip")
    """Images that cannot be decoded: skip puts them into quarantine, where they keep their row and number, up
    to `max_bad_fraction`; stop ends indexing at any."""
    max_bad_fraction: float = 0.001
    """Stop at indexing when more than this share of the images cannot be decoded."""
    max_pixels: int = 64_000_000
    """Images that declare more pixels than this are quarantined undecoded."""
    shard_window: int | None = later(None)
    """Pretext: mix so many shards at a time instead of all images; for remote sets larger than the cache."""
    cache_bytes: int = operational(50_000_000_000)
    """Remote shards kept on each node's disk, in bytes; 0 reads by range every time."""
    cache_dir: str | None = operational(None)
    """Where they are kept; none takes a folder of this user in the system's temporary directory."""
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
class EmbedConfig(Section):
    """Unit-length features of every image, without augmentation."""

    space: Literal["backbone", "projection"] = "backbone"
    """Features before (D wide) or after (P wide) the projection head."""
    num_views: int = 1
    """1 is the plain image; more adds augmented views of the train split, for training heads on features."""
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
    """K nearest neighbors of every train image by cosine (SCAN Sec. 2.2)."""

    num_neighbors: int = 50
    """Neighbors stored per image; scan uses the first `scan.num_neighbors`."""
    search: Literal["auto", "exact", "approximate"] = later("auto")
    """auto is exact up to `max_exact_flops`, and reads some lists of rows per image beyond."""
    max_exact_flops: float = later(1e17)
    """Floating point operations, 2 N^2 D, up to which auto is exact."""
    min_recall: float = later(0.99)
    """Recall on 1,000 sampled images below which nothing is published; approximate search reads as many lists
    as it takes."""
    codes: Literal["flat", "sq8"] = later("flat")
    """What lists hold: rows, or 8 bits a value, which takes a quarter of their memory."""
    max_copies: int | None = later(None)
    """Exact copies of one picture among the neighbors of an image, itself aside; none sets no limit, so that
    a collection full of copies gives copies for neighbors."""
    mutual: int | None = later(None)
    """Pair an image only with those of its first so many neighbors among whose first so many it is itself.
    Where none is left, with the nearest alone; none pairs with all. Lists stay, and so does the graph that
    judges; nothing is mined again."""
    num_shards: int | None = operational(None)
    """Index shards; none takes one per worker. Changes speed, never the result."""
    storage: Literal["float32", "float16"] = operational("float32")
    """How shards hold rows. float16 takes half the memory (beside lists: none) and finds the same: what can
    come in by rounded scores is read from storage again and scored exactly."""
    query_block: int = operational(4096)
    """Query rows sent to the shards at a time."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(
            self.num_neighbors >= 5, "mine.num_neighbors", ">= 5 (head selection reads 5)", self.num_neighbors
        )
        require(self.num_shards is None or self.num_shards >= 1, "mine.num_shards", ">= 1", self.num_shards)
        require(self.max_copies is None or self.max_copies >= 1, "mine.max_copies", ">= 1", self.max_copies)
        require(
            self.mutual is None or 1 <= self.mutual <= self.num_neighbors,
            "mine.mutual",
            f"1..{self.num_neighbors}, as mine.num_neighbors mines, or none",
            self.mutual,
        )
        require(0 <= self.min_recall <= 1, "mine.min_recall", "0..1", self.min_recall)
        require(self.max_exact_flops >= 0, "mine.max_exact_flops", ">= 0", self.max_exact_flops)

    @property
    def chooses(self) -> bool:
        """Whether an image is paired with some of its mined neighbors only."""
        return self.mutual is not None

    @property
    def unchosen(self) -> MineConfig:
        """The same search without a choice: what the choice is made from."""
        return replace(self, mutual=None)


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
    knn_neighbors: tuple[int, ...] = (10, 50, 200)
    """Numbers of voters of the weighted kNN probe."""
    probe_images: int = 50_000
    """At most so many train images teach the kNN and the linear probe, and a fifth as many eval images are
    classified; 0 leaves the probes out."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(min(self.knn_neighbors, default=0) >= 1, "evaluate.knn_neighbors", ">= 1", self.knn_neighbors)
        require(self.probe_images >= 0, "evaluate.probe_images", ">= 0", self.probe_images)


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
    min_workers: int | None = operational(None)
    """Train on with as few as this many workers while machines are missing; none waits for all of them."""
    gpus_per_worker: float | None = operational(None)
    """GPUs of each worker; none takes 1 if the joined Ray or its autoscaler offers any, else 0."""
    cpus_per_worker: float = operational(1.0)
    """CPUs of each worker."""
    threads_per_worker: int | None = operational(None)
    """Computing threads per worker; none takes cpus_per_worker."""
    max_failures: int = operational(3)
    """Restarts of a training stage after deaths in a row without progress. A kept notice is no death."""
    pending_seconds: float = operational(1800.0)
    """Longest wait for machines before a training gives up, to be resumed by the same command."""
    collective_seconds: float = operational(600.0)
    """A worker that waits longer than this for another takes it for hung; training restarts."""
    checkpoint_every_seconds: float = operational(30.0)
    """At most this much training is lost to a crash. Resume is exact, so this changes no result."""
    checkpoint_patience_seconds: float = operational(600.0)
    """Training goes on this long while no checkpoint can be written (full disk, store away), then ends."""
    log_every_steps: int = operational(10)
    """Steps between rows of metrics."""
