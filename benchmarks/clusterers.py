"""The rivals of `benchmarks.clustering`: from features and a number of clusters to one or several groupings.

A method returns name -> clusters of every row; those that share the costly part (a layout, candidates) are
one method. To add one, write a function and put it into `METHODS`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.cluster import consensus
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.vote import vote, weights_by_merit
from rayscan.types import Ints

Rows = NDArray[np.float32]
Groupings = dict[str, NDArray[Any]]
NEIGHBORS = 15
PCA_WIDTH = 64
LAYOUT_WIDTH = 10
LEAST_SIZES = (5, 8, 10, 12, 15, 20, 25, 30, 40, 60, 80, 120)
"""Of HDBSCAN's clusters, of which one is taken."""


def kmeans(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """k-means of unit rows, ten starts."""
    return {"k-means": _kmeans(unit_rows(features), num_clusters, seed)}


def pca_kmeans(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """k-means of 64 whitened principal components of unit rows."""
    from sklearn.decomposition import PCA

    width = min(PCA_WIDTH, *features.shape)
    rows = PCA(width, whiten=True, random_state=seed).fit_transform(unit_rows(features))
    return {"PCA-64 whitened k-means": _kmeans(rows, num_clusters, seed)}


def spectral(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """Spectral clustering of the 15-neighbour graph of unit rows."""
    from sklearn.cluster import SpectralClustering

    model = SpectralClustering(
        num_clusters, affinity="nearest_neighbors", n_neighbors=NEIGHBORS, random_state=seed, n_init=10
    )
    return {"spectral": model.fit_predict(unit_rows(features))}


def umap_layout(features: Rows, seed: int) -> Rows:
    """A 10-d UMAP: 15 neighbours, minimum distance 0, cosine."""
    from umap import UMAP

    model = UMAP(
        n_neighbors=NEIGHBORS, min_dist=0.0, n_components=LAYOUT_WIDTH, metric="cosine", random_state=seed
    )
    rows: Rows = model.fit_transform(features)
    return rows


def umap_kmeans(features: Rows, num_clusters: int, seed: int) -> Ints:
    """k-means of a UMAP."""
    return _kmeans(umap_layout(features, seed), num_clusters, seed).astype(np.int64)


def umap(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """k-means of a UMAP, and a Gaussian mixture of it."""
    from sklearn.mixture import GaussianMixture

    rows = umap_layout(features, seed)
    mixture = GaussianMixture(num_clusters, n_init=3, reg_covar=1e-4, random_state=seed)
    return {
        "UMAP k-means": _kmeans(rows, num_clusters, seed),
        "UMAP GMM": mixture.fit_predict(rows.astype(np.float64)),
    }


def hdbscan(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """HDBSCAN of a UMAP, the least size whose number of clusters is nearest C; noise to the nearest mean.

    Their number is not C, as a rule.
    """
    from sklearn.cluster import HDBSCAN

    rows = umap_layout(features, seed)
    found = [HDBSCAN(min_cluster_size=least, copy=True).fit_predict(rows) for least in LEAST_SIZES]
    labels = min(found, key=lambda one: abs(np.log(max(one.max() + 1, 0.1) / num_clusters)))
    means = np.stack([rows[labels == number].mean(axis=0) for number in range(max(labels.max() + 1, 1))])
    away = np.square(rows[:, None] - means).sum(axis=2)
    return {"UMAP HDBSCAN": np.where(labels < 0, away.argmin(axis=1), labels).astype(np.int64)}


def scan(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """SCAN's heads as the paper has them."""
    from benchmarks import trained_heads

    return trained_heads.scan(features, num_clusters, seed)


def pmi(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """The same heads with TEMI's weighted PMI."""
    from benchmarks import trained_heads

    return trained_heads.pmi(features, num_clusters, seed)


def sela(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """SeLa's heads."""
    from benchmarks import trained_heads

    return trained_heads.sela(features, num_clusters, seed)


def ours(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """Consensus, and what it had after each step."""
    found = consensus(features, num_clusters, seed)
    merits = dict(found.table)
    votes = [one.labels for one in found.kept]
    weights = weights_by_merit([merits[one.name] for one in found.kept])
    return {
        "consensus, best candidate": found.kept[0].labels,
        "consensus, vote of candidates": vote(votes, weights, num_clusters, [seed]),
        "consensus, one round": found.first_round,
        "consensus": found.labels,
    }


def ours_uneven(features: Rows, num_clusters: int, seed: int) -> Groupings:
    """Consensus that is told of uneven classes."""
    return {"consensus, sizes uneven": consensus(features, num_clusters, seed, sizes="uneven").labels}


def _kmeans(rows: Rows, num_clusters: int, seed: int) -> NDArray[Any]:
    from sklearn.cluster import KMeans

    labels: NDArray[Any] = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(rows)
    return labels


METHODS: Mapping[str, Callable[[Rows, int, int], Groupings]] = {
    "kmeans": kmeans,
    "pca": pca_kmeans,
    "spectral": spectral,
    "umap": umap,
    "hdbscan": hdbscan,
    "scan": scan,
    "pmi": pmi,
    "sela": sela,
    "consensus": ours,
    "uneven": ours_uneven,
}


def grouped(method: str, features: Rows, num_clusters: int, seed: int) -> Groupings:
    """What a method of the table finds; its warnings (of libraries, on convergence) are not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return METHODS[method](features, num_clusters, seed)
