"""Stage evaluate: assignments and labels -> scores, beside k-means on the same embeddings.

    scores.json
      splits: eval, train -> images, labelled
                             methods: the run's own, kmeans -> acc, many_to_one, nmi, ami, ari, purity, top5
                             per_cluster: rows of metrics.scores.per_cluster
                             calibration: see metrics.calibration
                             confusion: clusters, classes, counts [C', L], empty clusters left out
      probes: knn, linear -> accuracy on eval of classifiers on train features; empty without labels of both
      neighbor_purity: K -> share      label_free: used_clusters, balance, largest_share, nmi_nn (train split)

      acc_tr (eval split): the mapping is fitted on train labels
      seeds: the same scores by seed, where there are several

The mapping from clusters to classes is fitted on the split it scores, as the SCAN paper does (Sec. 3.1);
the k-means centroids are fitted on train rows and applied to both splits. Runs only where labels are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact, Step
from rayscan.config import Recipe
from rayscan.context import Context, Sources
from rayscan.data.equal_lists import as_rows
from rayscan.errors import DataError
from rayscan.metrics import label_free
from rayscan.metrics.assignment import hungarian, majority
from rayscan.metrics.calibration import calibration
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.purity import neighbor_purity
from rayscan.metrics.scores import per_cluster
from rayscan.sections import semantic
from rayscan.stages.chosen import Lists
from rayscan.stages.probes import probe
from rayscan.stages.scoring import SEEDS, Found, method_scores
from rayscan.vectors.kmeans import kmeans
from rayscan.vectors.parts import EmbeddingRows

NAME = "evaluate"
SCHEMA = 1
TOP = 5
KMEANS = "kmeans"
"""The method that every other one is held against."""
SPLITS = ("eval", "train")
ROWS_AT_ONCE = 16_384

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Assigned:
    """The assignments, one row per usable image."""

    gids: Ints
    """int64 [n]."""
    split: NDArray[np.object_]
    """eval or train, [n]."""
    best: Ints
    """The most probable clusters, best first, int64 [n, T] with T <= 5."""
    confidence: NDArray[np.float32]
    """Probability of the best [n]."""

    @property
    def clusters(self) -> Ints:
        """Cluster of each row, int64 [n]."""
        return self.best[:, 0]


@dataclass(frozen=True)
class Classes:
    """The labels."""

    of: Ints
    """Class by gid, -1 where unlabelled, int64 [N]."""
    names: list[str]
    """Name of each class [L]."""


def plan(recipe: Recipe, done: Mapping[str, Artifact], _sources: Sources) -> Step:
    """What this stage would do."""
    config = {"evaluate": semantic(recipe.evaluate), "num_clusters": recipe.num_clusters, "seed": recipe.seed}
    inputs = [name for name in ("assign", "labels", "mine", "embed") if name in done]
    return Step(NAME, SCHEMA, config, {name: done[name].identity for name in inputs})


def run(recipe: Recipe, done: Mapping[str, Artifact], step: Step, context: Context) -> Artifact:
    """Score every split that has a label.

    Raises:
        DataError: no labelled image is among the assigned ones.
    """
    context.progress.start(NAME, 3, "steps")
    assigned = read_assigned(done["assign"])
    classes = read_classes(done["labels"], num_images=int(assigned.gids.max()) + 1)
    num_clusters = recipe.clusters_formed
    found: dict[str, Found] = {recipe.method: Found(assigned.best, num_clusters, _seeds(done["assign"]))}
    if KMEANS not in found:
        found[KMEANS] = Found(_kmeans_clusters(recipe, done["embed"]), num_clusters)
    context.progress.advance()
    splits = {
        name: scored
        for name in SPLITS
        if (scored := _score_split(name, assigned, found, classes, num_clusters)) is not None
    }
    if not splits:
        raise DataError(
            "no assigned image has a label",
            expected="labels of images in this run",
            got=f"{int((classes.of >= 0).sum())} labels, none of an image that could be used",
            where=done["labels"].place.uri,
            fix="check that the labels name these images by id, source or key",
        )
    context.progress.advance()
    scores = {
        "splits": splits,
        "probes": probe(recipe, done["embed"], _reaching(classes.of, assigned.gids), len(classes.names)),
        "neighbor_purity": _purity(recipe, done, classes),
        "label_free": label_free_facts(assigned, done, num_clusters),
    }
    draft = context.draft(step)
    split, first = next((name, scored["methods"]) for name, scored in splits.items())
    facts = {"acc": first[recipe.method]["acc"], "kmeans_acc": first[KMEANS]["acc"]}
    artifact = draft.commit({"scores.json": draft.write_json("scores.json", scores)}, facts=facts)
    rival = f", k-means {facts['kmeans_acc']:.4f}" if recipe.method != KMEANS else ""
    context.progress.finish(f"ACC {facts['acc']:.4f}{rival} ({split})")
    return artifact


def _seeds(assign: Artifact) -> Ints | None:
    """Clusters by every seed, where several were fitted: [seeds, n]."""
    return assign.read_array(SEEDS).astype(np.int64) if SEEDS in assign.files else None


def clusters_by_seed(assign: Artifact, assigned: Assigned) -> Ints:
    """Clusters by every seed, or the assigned ones where there is one fit: [seeds, n]."""
    several = _seeds(assign)
    return assigned.clusters[None] if several is None else several


def _purity(recipe: Recipe, done: Mapping[str, Artifact], classes: Classes) -> dict[str, float]:
    """Purity by K of the neighbors images are paired with; nothing where no neighbors were mined."""
    if "mine" not in done:
        return {}
    lists = Lists.read(done["mine"])
    purity = neighbor_purity(
        lists.gids,
        lists.ids,
        _reaching(classes.of, lists.gids, lists.ids),
        recipe.evaluate.purity_neighbors,
        lists.chosen,
    )
    return {str(k): v for k, v in purity.items()}


def read_assigned(assign: Artifact) -> Assigned:
    """What the assign stage wrote."""
    table = assign.read_table("assignments.parquet", columns=["gid", "split", "top5", "confidence"])
    best = as_rows(table.column("top5"))
    gids, split, confidence = (table.column(name).to_numpy() for name in ("gid", "split", "confidence"))
    return Assigned(gids, split, best.astype(np.int64), confidence)


def read_classes(labels: Artifact, num_images: int) -> Classes:
    """The labels by gid.

    Args:
        labels: Result of the labels stage.
        num_images: The least length of the answer.
    """
    table = labels.read_table("labels.parquet", columns=["gid", "label"])
    gids, values = table.column("gid").to_numpy(), table.column("label").to_numpy()
    of = np.full(max(num_images, int(gids.max(initial=-1)) + 1), -1, np.int64)
    of[gids] = values
    return Classes(of, [str(name) for name in labels.read_json("classes.json")])


def label_free_facts(assigned: Assigned, done: Mapping[str, Artifact], num_clusters: int) -> dict[str, float]:
    """Facts about the train split that need no label, see `metrics.label_free`.

    Where no neighbors were mined, nothing is said of their agreement.
    """
    if "mine" not in done:
        return label_free.collapse(assigned.clusters[assigned.split == "train"], num_clusters)
    lists = Lists.read(done["mine"])
    anchors, ids = lists.gids, lists.ids
    cluster_of = np.full(max(int(assigned.gids.max()), int(ids.max())) + 1, -1, np.int64)
    cluster_of[assigned.gids] = assigned.clusters
    facts = label_free.collapse(cluster_of[anchors], num_clusters)
    return {**facts, "nmi_nn": label_free.nmi_nn(cluster_of, anchors, ids, num_clusters)}


def _score_split(
    split: str, assigned: Assigned, found: Mapping[str, Found], classes: Classes, num_clusters: int
) -> dict[str, Any] | None:
    """Scores of one split; None if it has no labelled image."""
    has_label = classes.of[assigned.gids] >= 0
    inside = assigned.split == split
    labelled = inside & has_label
    if not labelled.any():
        return None
    labels, num_classes = classes.of[assigned.gids], len(classes.names)
    train = (assigned.split == "train") & has_label if split != "train" else None
    methods = {
        method: method_scores(ways, labels, labelled, train, num_classes) for method, ways in found.items()
    }
    labels = labels[labelled]
    table = Contingency.count(assigned.clusters[labelled], labels, num_clusters, num_classes)
    held = np.flatnonzero(table.cluster_sizes)
    stands_for = majority(table) if num_clusters > num_classes else hungarian(table)
    return {
        "images": int(inside.sum()),
        "labelled": int(labelled.sum()),
        "methods": methods,
        "calibration": calibration(
            assigned.confidence[labelled], stands_for[assigned.clusters[labelled]] == labels
        ),
        "per_cluster": per_cluster(table, np.bincount(assigned.clusters[inside], minlength=num_clusters)),
        "confusion": {
            "clusters": held.tolist(),
            "classes": classes.names,
            "counts": table.rows_of(held).tolist(),
        },
    }


def _kmeans_clusters(recipe: Recipe, embed: Artifact) -> Ints:
    """By k-means on the train rows: the clusters nearest to each row, nearest first, int64 [n, T]."""
    assert recipe.num_clusters is not None
    rows, settings = EmbeddingRows(embed), recipe.evaluate
    centroids, _ = kmeans(
        rows.read(0, rows.train_rows),
        recipe.num_clusters,
        seed=recipe.seed,
        restarts=settings.kmeans_restarts,
        iterations=settings.kmeans_iterations,
    )
    total = int(embed.facts["rows"])
    blocks = [(first, min(first + ROWS_AT_ONCE, total)) for first in range(0, total, ROWS_AT_ONCE)]
    return np.concatenate([nearest(rows.read(*block), centroids, TOP) for block in blocks])


def nearest(x: NDArray[np.float32], centroids: NDArray[np.float32], count: int) -> Ints:
    """Nearest centroids, nearest first, the lowest number at a tie: [n, D] and [C, D] -> int64 [n, T].

    T is `count`, or C if that is less.
    """
    distances = np.square(centroids).sum(axis=1) - 2 * (x @ centroids.T)  # less |x|^2, which orders nothing
    order: Ints = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return order


def _reaching(of: Ints, *gids: Ints) -> Ints:
    """`of` made long enough to be asked for every one of the gids."""
    longest = max(int(g.max()) for g in gids) + 1
    return np.concatenate([of, np.full(max(0, longest - len(of)), -1, np.int64)])
