"""Stage baseline: what the features give without the run's method: k-means, and probes of what they know.

    centroids.npy   k-means of the train rows, fp32 [C, D]; not where the method is k-means itself
    probes.json     train_images, eval_images; knn: voters -> accuracy, linear: accuracy, of classifiers that
                    learn from labelled train features and are asked about eval features; empty without both

Nothing here reads an assignment, so that it is done once for all methods and settings on the same features.
Runs only where labels are: `evaluate` holds the run's method against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.keyed import permutation
from rayscan.fleet.kmeans import fit_kmeans
from rayscan.metrics.probes import linear_probe, weighted_knn
from rayscan.sections import semantic
from rayscan.stages.labels import Classes, read_classes
from rayscan.types import Floats, Ints
from rayscan.vectors.parts import EmbeddingRows

NAME = "baseline"
SCHEMA = 1
KMEANS = "kmeans"
"""The method that every other one is held against."""
CENTROIDS, PROBES = "centroids.npy", "probes.json"
EVAL_SHARE = 5
"""At most a fifth as many eval rows as train rows are classified by the probes."""


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do; neighbors of the report (purity) are no part of it."""
    settings = {k: v for k, v in semantic(recipe.evaluate).items() if k != "purity_neighbors"}
    clusters = None if recipe.method == KMEANS else recipe.clusters_formed
    config = {"evaluate": settings, "clusters": clusters, "seed": recipe.seed}
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in ("embed", "labels")})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Fit k-means on the train rows, and the probes where both splits have labels."""
    context.progress.start(NAME, 2, "steps")
    rows, settings = EmbeddingRows(done["embed"]), recipe.evaluate
    draft, files = context.draft(step), {}
    if recipe.method != KMEANS:
        centroids = fit_kmeans(
            context.fleet,
            rows,
            recipe.clusters_formed,
            seed=recipe.seed,
            n_init=settings.kmeans_n_init,
            iterations=settings.kmeans_max_iter,
        )
        files[CENTROIDS] = draft.write_array(CENTROIDS, centroids)
    context.progress.advance()
    classes = read_classes(done["labels"], num_images=int(rows.gids.max()) + 1)
    probes = probe(recipe, rows, classes)
    files[PROBES] = draft.write_json(PROBES, probes)
    artifact = draft.commit(files)
    context.progress.finish(f"linear probe {probes['linear']:.4f}" if probes else "")
    return artifact


def centroids_of(baseline: Artifact) -> Floats | None:
    """The centroids of k-means [C, D]; None where k-means is the run's own method."""
    return baseline.read_array(CENTROIDS) if CENTROIDS in baseline.files else None


def probe(recipe: Recipe, rows: EmbeddingRows, classes: Classes) -> dict[str, Any]:
    """Accuracies on eval rows; nothing where a split has no labelled image, or none are asked for.

    Args:
        recipe: All settings; `evaluate` says how many images and neighbors.
        rows: The stored features.
        classes: The labels.
    """
    settings = recipe.evaluate
    known = np.flatnonzero(classes.of[rows.gids] >= 0)
    train, test = known[known < rows.train_rows], known[known >= rows.train_rows]
    if not (len(train) and len(test) and settings.probe_images):
        return {}
    train = _sample(train, settings.probe_images, recipe.seed)
    test = _sample(test, max(1, settings.probe_images // EVAL_SHARE), recipe.seed)
    features, queries = (torch.from_numpy(rows.take(some)) for some in (train, test))
    labels, truth = (torch.from_numpy(classes.of[rows.gids[some]]) for some in (train, test))
    num_classes = len(classes.names)
    voted = weighted_knn(features, labels, queries, settings.knn_neighbors, num_classes=num_classes)
    linear = linear_probe(features, labels, queries, num_classes=num_classes, seed=recipe.seed)
    return {
        "train_images": len(train),
        "eval_images": len(test),
        "knn": {str(k): _share(found == truth) for k, found in voted.items()},
        "linear": _share(linear == truth),
    }


def _sample(rows: Ints, most: int, seed: int) -> Ints:
    """At most so many of the rows, drawn by the seed, rising."""
    return np.sort(rows[permutation(seed, "probed images", 0, len(rows))[:most]])


def _share(right: torch.Tensor) -> float:
    return float(right.double().mean())
