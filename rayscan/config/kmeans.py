"""Settings of the k-means baseline: principal components and k-means on features (arXiv 2008.10312)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from rayscan.sections import Section, operational, setting


@dataclass(frozen=True, kw_only=True, slots=True)
class PcaConfig(Section):
    """Principal components of the train features, before k-means (arXiv 2008.10312, Sec. 2)."""

    KEY: ClassVar[str] = "pca"

    num_components: int | None = setting(None, ge=1)
    """Components kept (Fig. 2a); none keeps all: a rotation, as the paper's default."""
    whiten: bool = False
    """Scale every component to unit variance."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KMeansConfig(Section):
    """k-means on the components: clusters by `--method kmeans`."""

    KEY: ClassVar[str] = "kmeans"

    over_clustering: float = setting(1.0, ge=1)
    """Clusters formed per cluster asked for (Fig. 2b); 1.5 is the paper's best row."""
    num_seeds: int = setting(5, ge=1)
    """Independent fits, from `seed` on: scores give their mean and deviation, images get the best one."""
    n_init: int = setting(1, ge=1)
    """Initialisations tried per fit (n_init); the lowest inertia is kept."""
    seeding: Literal["plus_plus", "parallel"] = "plus_plus"
    """k-means++ on a sample of 16 rows per cluster; or k-means|| (Bahmani et al. 2012) over all rows, in six
    passes, which also finds clusters that are small beside the sample's gaps."""
    variant: Literal["lloyd", "minibatch"] = "lloyd"
    """Every update of the centroids reads all rows; or the paper's mini-batches."""
    max_iter: int = setting(100, ge=1)
    """Most updates of the centroids (lloyd), or passes over the rows (minibatch; the paper: 60)."""
    tolerance: float = setting(1e-4, ge=0, lt=1)
    """lloyd stops when the inertia falls by less than this share."""
    is_spherical: bool = False
    """Centroids of unit length: clusters by cosine."""
    num_shards: int | None = operational(None, ge=1)
    """Actors that hold the rows; none takes one per worker. Changes speed, never the result."""
