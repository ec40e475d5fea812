"""Stage evaluate: assignments and labels -> scores, beside those of stage baseline on the same embeddings.

    scores.json
      splits: eval, train -> images, labelled, waste (images in no score, nor in `images`)
                             methods: the run's own, kmeans -> acc, many_to_one, nmi, ami, ari, purity, top5
                             per_cluster: rows of metrics.scores.per_cluster
                             calibration: see metrics.calibration
                             confusion: clusters, classes, counts [C', L], empty clusters left out
      probes: knn, linear -> accuracy on eval of classifiers on train features; empty without labels of both
      neighbor_purity: K -> share      label_free: used_clusters, balance, largest_share, nmi_nn (train split)

      acc_tr (eval split): the mapping is fitted on train labels
      seeds: the same scores by seed, where there are several

The mapping from clusters to classes is fitted on the split it scores, as the SCAN paper does (Sec. 3.1);
the k-means centroids are those of train rows and applied to both splits. Runs only where labels are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rayscan.artifacts import Artifact, Step
from rayscan.assignments import Assignments, cluster_numbers
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.errors import DataError
from rayscan.metrics import label_free
from rayscan.metrics.assignment import hungarian, majority
from rayscan.metrics.calibration import calibration
from rayscan.metrics.contingency import ContingencySum
from rayscan.metrics.method_scores import SplitCounts
from rayscan.metrics.purity import neighbor_purity
from rayscan.metrics.scores import per_cluster
from rayscan.stages import baseline
from rayscan.stages.labels import Classes, read_classes
from rayscan.types import Floats
from rayscan.vectors.nearest import nearest_centroids
from rayscan.vectors.neighbor_table import NeighborTable
from rayscan.vectors.parts import EmbeddingRows

NAME = "evaluate"
SCHEMA = 2
TOP = 5
SPLITS = ("eval", "train")
ROWS_AT_ONCE = 16_384


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {
        "purity_neighbors": list(recipe.evaluate.purity_neighbors),
        "num_clusters": recipe.num_clusters,
    }
    inputs = [name for name in ("assign", "labels", baseline.NAME, "mine", "embed") if name in done]
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in inputs})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Score every split that has a label.

    Raises:
        DataError: no labelled image is among the assigned ones.
    """
    context.progress.start(NAME, 2, "steps")
    rows = EmbeddingRows(done["embed"])
    classes = read_classes(done["labels"], num_images=int(rows.gids.max()) + 1)
    counts = _counted(recipe, done["assign"], rows, classes, baseline.centroids_of(done[baseline.NAME]))
    context.progress.advance()
    if not any(split.labelled for split in counts.values()):
        raise DataError(
            "no assigned image has a label",
            expected="labels of images in this run",
            got=f"{int((classes.of >= 0).sum())} labels, none of an image that could be used",
            where=done["labels"].place.uri,
            fix="check that the labels name these images by id, source or key",
        )
    splits = {
        name: _split_scores(name, recipe, done["assign"], counts, classes)
        for name in SPLITS
        if counts[name].labelled
    }
    context.progress.advance()
    scores = {
        "splits": splits,
        "probes": done[baseline.NAME].read_json(baseline.PROBES),
        "neighbor_purity": _purity(recipe, done, classes),
        "label_free": label_free_facts(done),
    }
    draft = context.draft(step)
    split, first = next((name, scored["methods"]) for name, scored in splits.items())
    facts = {"acc": first[recipe.method]["acc"], "kmeans_acc": first[baseline.KMEANS]["acc"]}
    artifact = draft.commit({"scores.json": draft.write_json("scores.json", scores)}, facts=facts)
    rival = f", k-means {facts['kmeans_acc']:.4f}" if recipe.method != baseline.KMEANS else ""
    context.progress.finish(f"ACC {facts['acc']:.4f}{rival} ({split})")
    return artifact


def _counted(
    recipe: Recipe, assign: Artifact, rows: EmbeddingRows, classes: Classes, centroids: Floats | None
) -> dict[str, SplitCounts]:
    """Counts of every split, in one pass over the assignments, with k-means on the embeddings beside them."""
    method: str = recipe.method
    num_clusters = max(recipe.clusters_formed, int(cluster_numbers(assign).max(initial=0)) + 1)
    counts: dict[str, SplitCounts] = {}
    first = 0
    for piece in Assignments.pieces(assign):
        best = {method: piece.best}
        by_seed = {} if piece.by_seed is None else {method: piece.by_seed}
        if centroids is not None:
            best[baseline.KMEANS] = np.concatenate(
                [
                    nearest_centroids(rows.read(at, min(at + ROWS_AT_ONCE, stop)), centroids, TOP)[0]
                    for stop in [first + len(piece.gids)]
                    for at in range(first, stop, ROWS_AT_ONCE)
                ]
            ).astype(np.int64)
        first += len(piece.gids)
        for name in SPLITS:
            if name not in counts:
                fits = {m: len(by_seed.get(m, ())) for m in best}
                counts[name] = SplitCounts(fits, num_clusters, len(classes.names))
            inside = piece.split == name
            counts[name].add(
                {m: clusters[inside] for m, clusters in best.items()},
                {m: clusters[:, inside] for m, clusters in by_seed.items()},
                classes.of[piece.gids[inside]],
                method,
            )
    return counts


def _split_scores(
    split: str, recipe: Recipe, assign: Artifact, counts: Mapping[str, SplitCounts], classes: Classes
) -> dict[str, Any]:
    """Scores of one split with a labelled image."""
    here, num_classes = counts[split], len(classes.names)
    train = {} if split == "train" else counts["train"].methods
    table = here.methods[recipe.method].first.table
    held = np.flatnonzero(table.cluster_sizes)
    is_over = len(cluster_numbers(assign)) > num_classes
    stands_for = majority(table) if is_over else hungarian(table)

    def confidences() -> Iterator[tuple[Any, Any]]:
        for piece in Assignments.pieces(assign):
            labels = classes.of[piece.gids]
            used = (piece.split == split) & (labels >= 0) & (piece.clusters >= 0)
            yield piece.confidence[used], stands_for[piece.clusters[used]] == labels[used]

    return {
        "images": int(here.sizes.sum()),
        "labelled": here.labelled,
        "waste": here.waste,
        "methods": {name: method.scores(train.get(name)) for name, method in here.methods.items()},
        "calibration": calibration(confidences()),
        "per_cluster": per_cluster(table, here.sizes),
        "confusion": {
            "clusters": held.tolist(),
            "classes": classes.names,
            "counts": table.rows_of(held).tolist(),
        },
    }


def _purity(recipe: Recipe, done: Mapping[str, Artifact], classes: Classes) -> dict[str, float]:
    """Purity by K of the neighbors images are paired with; nothing where no neighbors were mined."""
    if "mine" not in done:
        return {}
    pieces = ((n.gids, n.ids, n.chosen) for n in NeighborTable.pieces(done["mine"]))
    purity = neighbor_purity(pieces, classes.of, recipe.evaluate.purity_neighbors)
    return {str(k): v for k, v in purity.items()}


def label_free_facts(done: Mapping[str, Artifact]) -> dict[str, float]:
    """Facts that need no label about the train split, or about all images where there is none.

    See `metrics.label_free`; where no neighbors were mined, nothing is said of their agreement. Images of
    waste are left out, and pairs with one.
    """
    numbers = cluster_numbers(done["assign"])
    num_clusters = max(len(numbers), 2)
    sizes, train_sizes = np.zeros(num_clusters, np.int64), np.zeros(num_clusters, np.int64)
    for piece in Assignments.pieces(done["assign"]):
        found, is_used = np.searchsorted(numbers, piece.clusters), piece.clusters >= 0
        sizes += np.bincount(found[is_used], minlength=num_clusters)
        train_sizes += np.bincount(found[is_used & (piece.split == "train")], minlength=num_clusters)
    facts = label_free.size_facts(train_sizes if train_sizes.any() else sizes)
    if "mine" not in done:
        return facts
    cluster_of = np.full(int(EmbeddingRows(done["embed"]).gids.max()) + 1, -1, np.int32)
    for piece in Assignments.pieces(done["assign"]):
        cluster_of[piece.gids] = np.where(
            piece.clusters >= 0, np.searchsorted(numbers, piece.clusters), piece.clusters
        )
    pairs = ContingencySum(num_clusters, num_clusters)
    for neighbors in NeighborTable.pieces(done["mine"]):
        one, other = label_free.pair_clusters(cluster_of, neighbors.gids, neighbors.ids)
        is_used = (one >= 0) & (other >= 0)
        pairs.add(one[is_used], other[is_used])
    return {**facts, "nmi_nn": label_free.pair_nmi(pairs.table)}
