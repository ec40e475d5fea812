"""Settings of the rival: principal components and k-means on features (arXiv 2008.10312)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayscan.sections import Section, later, operational, require


@dataclass(frozen=True, kw_only=True, slots=True)
class PcaConfig(Section):
    """Principal components of the train features, before k-means (arXiv 2008.10312, Sec. 2)."""

    num_components: int | None = None
    """Components kept (Fig. 2a); none keeps all: a rotation, as the paper's default."""
    whiten: bool = False
    """Scale every component to unit variance."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(
            self.num_components is None or self.num_components >= 1,
            "pca.num_components",
            ">= 1",
            self.num_components,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class KMeansConfig(Section):
    """k-means on the components: clusters by `--method kmeans`."""

    over_clustering: float = 1.0
    """Clusters formed per cluster asked for (Fig. 2b); 1.5 is the paper's best row."""
    num_seeds: int = 5
    """Independent fits, from `seed` on: scores give their mean and deviation, images get the best one."""
    restarts: int = 1
    """Seedings tried per fit; the lowest inertia is kept."""
    seeding: Literal["plus_plus", "parallel"] = later("plus_plus")
    """k-means++ on a sample of 16 rows per cluster; or k-means|| (Bahmani et al. 2012) over all rows, in six
    passes, which also finds clusters that are small beside the sample's gaps."""
    variant: Literal["lloyd", "minibatch"] = "lloyd"
    """All rows at every move of the centroids; or the paper's mini-batches."""
    iterations: int = 100
    """At most so many moves (lloyd), or passes over the rows (minibatch; the paper: 60)."""
    tolerance: float = 1e-4
    """lloyd stops when the inertia falls by less than this share."""
    is_spherical: bool = False
    """Centroids of unit length: clusters by cosine."""
    num_shards: int | None = operational(None)
    """Holders of the rows; none takes one per worker. Changes speed, never the result."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.over_clustering >= 1, "kmeans.over_clustering", ">= 1", self.over_clustering)
        require(0 <= self.tolerance < 1, "kmeans.tolerance", "0 <= share < 1", self.tolerance)
        for key in ("num_seeds", "restarts", "iterations"):
            require(getattr(self, key) >= 1, f"kmeans.{key}", ">= 1", getattr(self, key))
        require(self.num_shards is None or self.num_shards >= 1, "kmeans.num_shards", ">= 1", self.num_shards)
