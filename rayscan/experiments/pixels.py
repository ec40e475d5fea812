"""k-means on raw pixels: the row below every other one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.data.loader import ViewLoader
from rayscan.data.table import ImageTable
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import partition_scores
from rayscan.stages.labels import Classes
from rayscan.vectors.kmeans import kmeans
from rayscan.vectors.nearest import nearest_centroid

BATCH = 1024


def pixel_scores(
    recipe: Recipe, index: Artifact, classes: Classes, split: str, seed: int
) -> dict[str, float]:
    """Scores of k-means on the normalized pixels of the plain view, fitted on train, applied to a split.

    Args:
        recipe: Size of the pictures, clusters and restarts.
        index: All images; their pixels must fit in memory.
        classes: The labels.
        split: Which images are scored.
        seed: Of the seeding.
    """
    table = ImageTable.from_artifact(index)
    loader = ViewLoader(table, recipe.images, seed)
    settings = recipe.evaluate
    train = np.concatenate(list(_rows(loader, table.gids("train"))))
    centroids, _ = kmeans(
        train,
        recipe.clusters,
        seed=seed,
        restarts=settings.kmeans_n_init,
        iterations=settings.kmeans_max_iter,
    )
    gids = table.gids("eval" if split == "eval" else "train")
    gids = gids[classes.of[gids] >= 0]
    clusters = np.concatenate([nearest_centroid(rows, centroids)[0] for rows in _rows(loader, gids)])
    counted = Contingency.count(clusters, classes.of[gids], recipe.clusters, len(classes.names))
    return partition_scores(counted)


def _rows(loader: ViewLoader, gids: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(gids), BATCH):
        yield loader.plain(gids[first : first + BATCH]).flatten(1).numpy()
