"""Probes of the stored features: a kNN vote and a linear classifier, fitted on train labels, scored on eval.

Part of evaluate: labels are at hand, and nothing that was found depends on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.config import Recipe
from rayscan.data.keyed import permutation
from rayscan.metrics.probes import linear_probe, weighted_knn
from rayscan.vectors.parts import EmbeddingRows

EVAL_SHARE = 5
"""At most a fifth as many eval rows as train rows are classified."""


def probe(recipe: Recipe, embed: Artifact, class_of: NDArray[np.int64], num_classes: int) -> dict[str, Any]:
    """Accuracies on eval rows; nothing where a split has no labelled image, or none are asked for.

    Args:
        recipe: All settings; `evaluate` says how many images and neighbors.
        embed: The stored features.
        class_of: Class by gid, -1 where unlabelled.
        num_classes: L.
    """
    settings = recipe.evaluate
    rows = EmbeddingRows(embed)
    known = np.flatnonzero(class_of[rows.gids] >= 0)
    train, test = known[known < rows.train_rows], known[known >= rows.train_rows]
    if not (len(train) and len(test) and settings.probe_images):
        return {}
    train = _sample(train, settings.probe_images, recipe.seed)
    test = _sample(test, max(1, settings.probe_images // EVAL_SHARE), recipe.seed)
    features, queries = (torch.from_numpy(rows.take(some)) for some in (train, test))
    labels, truth = (torch.from_numpy(class_of[rows.gids[some]]) for some in (train, test))
    voted = weighted_knn(features, labels, queries, settings.knn_neighbors, num_classes=num_classes)
    linear = linear_probe(features, labels, queries, num_classes=num_classes, seed=recipe.seed)
    return {
        "train_images": len(train),
        "eval_images": len(test),
        "knn": {str(k): _share(found == truth) for k, found in voted.items()},
        "linear": _share(linear == truth),
    }


def _sample(rows: NDArray[np.int64], most: int, seed: int) -> NDArray[np.int64]:
    """At most so many of the rows, drawn by the seed, rising."""
    return np.sort(rows[permutation(seed, "probed images", 0, len(rows))[:most]])


def _share(right: torch.Tensor) -> float:
    return float(right.double().mean())
