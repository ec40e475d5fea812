"""Settings of the results: assignments, scores, the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.sections import Section, operational, require, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class AssignConfig(Section):
    """One row per image: cluster and confidence."""

    KEY: ClassVar[str] = "assign"

    num_prototypes: int = 10
    """Prototypes marked per cluster: the most confident images nearest to their mean feature."""
    batch_size: int = operational(256)
    """Images per forward."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig(Section):
    """Scores, when labels exist, and the k-means baseline on the same embeddings."""

    KEY: ClassVar[str] = "evaluate"

    kmeans_n_init: int = 10
    """Initialisations of the k-means row (n_init); the lowest inertia is kept."""
    kmeans_max_iter: int = 100
    """Lloyd iterations of each restart."""
    purity_neighbors: tuple[int, ...] = (1, 5, 20, 50)
    """K at which the neighbor purity is reported."""
    knn_neighbors: tuple[int, ...] = setting((10, 50, 200), ge=1)
    """Numbers of voters of the weighted kNN probe."""
    probe_images: int = setting(50_000, ge=0)
    """At most so many train images teach the kNN and the linear probe, and a fifth as many eval images are
    classified; 0 leaves the probes out."""

    def check(self) -> None:
        """The kNN probe has a number of voters."""
        require(len(self.knn_neighbors) > 0, "evaluate.knn_neighbors", "one or more", self.knn_neighbors)


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportConfig(Section):
    """The page."""

    KEY: ClassVar[str] = "report"

    images: Literal["thumbnails", "none"] = "thumbnails"
    """Whether pictures are put into the page."""
    thumbnail_px: int = 64
    """Longer side of a thumbnail, px."""
    images_per_cluster: int = 24
    """Prototypes and least confident images shown per cluster, half each, while the size cap allows."""
    max_megabytes: float = 24.0
    """Size cap of the page; with many clusters fewer pictures are shown, and the page says so."""
