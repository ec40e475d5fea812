"""The method from features to clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.candidates import Candidate, candidates
from rayscan.consensus.confidence import agreement, probabilities
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.consensus.refinement import refine
from rayscan.consensus.result import Result, by_size
from rayscan.consensus.rule import Rule, closest_rule
from rayscan.consensus.score import Score
from rayscan.consensus.second_round import cluster_whitening
from rayscan.consensus.space import Space, make_space
from rayscan.consensus.views import all_views
from rayscan.errors import ConfigError, DataError
from rayscan.types import Ints

MANY = 20
"""Above so many clusters half as many heads are kept."""
KEPT = 12
SECOND = 6
"""Heads of the second round."""
MIN_ROWS = 20
MIN_NEIGHBORS = 20


def consensus(
    features: NDArray[np.float32], num_clusters: int, seed: int, neighbors: Ints | None = None
) -> Result:
    """Cluster features: candidates in many views, the best by a score, heads from these, their vote.

    Deterministic for a seed, a number of threads and a machine; threads change float32 sums only.

    Args:
        features: [N, D]; rows are scaled to unit length.
        num_clusters: C.
        seed: Of every random number.
        neighbors: Neighbours by cosine, nearest first, itself excluded, if mined already: [N, K >= 20].

    Raises:
        ConfigError: C is not within 2..N / 2.
        DataError: too few rows, values that are not finite, or neighbours that do not fit.
    """
    units = _checked(features, num_clusters, neighbors)
    space = make_space(units, neighbors)
    score = Score(space, num_clusters, seed)
    table, kept = best_candidates(space, score, num_clusters, seed)
    first = refine(space.twice, space.ids, [one.labels for one in kept], score, num_clusters, [seed, 14])
    projection = cluster_whitening(space, first.labels, num_clusters)
    rows = space.rows @ projection
    ids = nearest_rows(unit_rows(rows), space.ids.shape[1])
    starts = [first.groupings[head] for head in np.argsort(-np.array(first.scores), kind="stable")[:SECOND]]
    second = refine(rows, ids, starts, score, num_clusters, [seed, 15])
    labels = by_size(second.labels, num_clusters)
    heads = second.heads, rows, second.groupings, labels, num_clusters
    return Result(
        labels=labels,
        probabilities=probabilities(*heads),
        agreement=agreement(second.groupings, labels, num_clusters),
        score=score.of([labels])[0],
        rule=Rule(space.mean, space.components @ projection, closest_rule(*heads)),
        table=table,
        kept=kept,
        first_round=first.labels,
    )


def best_candidates(
    space: Space, score: Score, num_clusters: int, seed: int
) -> tuple[tuple[tuple[str, float], ...], tuple[Candidate, ...]]:
    """Name and score of all candidates, best first, and the best 12 of them (6 above 20 clusters)."""
    found = candidates(space, all_views(space, num_clusters, seed), num_clusters, seed)
    scores = score.of([one.labels for one in found])
    order = np.argsort(-np.array(scores), kind="stable")
    kept = order[: KEPT if num_clusters <= MANY else KEPT // 2]
    return tuple((found[i].name, scores[i]) for i in order), tuple(found[i] for i in kept)


def _checked(features: NDArray[np.float32], num_clusters: int, neighbors: Ints | None) -> NDArray[np.float32]:
    """The features as unit rows."""
    count = len(features)
    if count < MIN_ROWS:
        raise DataError("there are too few rows to cluster", expected=f">= {MIN_ROWS}", got=count)
    if not 2 <= num_clusters <= count // 2:
        raise ConfigError(
            "consensus cannot form that many clusters",
            expected=f"2..{count // 2}, half the number of images",
            got=num_clusters,
            where="num_clusters",
            fix="pass another --num-clusters",
        )
    if not np.isfinite(features).all():
        raise DataError(
            "consensus needs finite features", got="NaN or infinity", fix="look at what made the features"
        )
    if neighbors is not None and (neighbors.shape[0] != count or neighbors.shape[1] < MIN_NEIGHBORS):
        raise DataError(
            "the neighbours do not fit the features",
            expected=f"[{count}, >= {MIN_NEIGHBORS}]",
            got=list(neighbors.shape),
            where="neighbors",
            fix=f"mine at least {MIN_NEIGHBORS} neighbours of these rows",
        )
    return unit_rows(np.asarray(features, np.float32))
