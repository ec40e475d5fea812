"""The method from features to clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.candidates import Candidate, candidates
from rayscan.consensus.confidence import agreement, probabilities
from rayscan.consensus.ensemble import Ensemble
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.consensus.refinement import Refined, refine
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
"""Candidates that heads start from."""
OF_A_KIND = 2
ROUNDS = 3
HEADS_LATER = 6
"""Heads of the rounds after the first."""
MIN_ROWS = 20
MIN_NEIGHBORS = 20


def consensus(
    features: NDArray[np.float32], num_clusters: int, seed: int, neighbors: Ints | None = None
) -> Result:
    """Cluster features: candidates in many views, the best by a score, heads from these, their vote.

    Of the votes of all rounds and the best candidate the result is the one of greatest merit.
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
    rounds = refined_rounds(space, score, [one.labels for one in kept], num_clusters, seed)
    merits = score.merit([one.found.labels for one in rounds])
    best = rounds[int(np.argmax(merits))]
    labels = by_size(best.found.labels if max(merits) >= table[0][1] else kept[0].labels, num_clusters)
    heads = best.found.heads, best.rows, best.found.groupings, labels, num_clusters
    return Result(
        labels=labels,
        probabilities=probabilities(*heads),
        agreement=agreement(best.found.groupings, labels, num_clusters),
        groupings=tuple(best.found.groupings),
        ensemble=Ensemble.of(
            space.mean,
            space.components @ best.projection,
            best.found.heads,
            best.found.groupings,
            labels,
            num_clusters,
        ),
        score=score.of([labels])[0],
        rule=Rule(space.mean, space.components @ best.projection, closest_rule(*heads)),
        table=table,
        kept=kept,
        first_round=rounds[0].found.labels,
    )


def best_candidates(
    space: Space, score: Score, num_clusters: int, seed: int
) -> tuple[tuple[tuple[str, float], ...], tuple[Candidate, ...]]:
    """Name and merit of all candidates, best first, and the best 12 of them (6 above 20 clusters).

    At most two of a kind are kept: starts of one view often end alike, and a vote needs different voters.
    """
    found = candidates(space, all_views(space, num_clusters, seed), num_clusters, seed)
    merits = score.merit([one.labels for one in found])
    order = np.argsort(-np.array(merits), kind="stable")
    kept: list[Candidate] = []
    for i in order:
        if sum(one.kind == found[i].kind for one in kept) < OF_A_KIND:
            kept.append(found[i])
    count = KEPT if num_clusters <= MANY else KEPT // 2
    return tuple((found[i].name, merits[i]) for i in order), tuple(kept[:count])


@dataclass(frozen=True)
class Round:
    """The space of a round, and what was found in it."""

    projection: NDArray[np.float32]
    """Z projection is the space: [d, q]."""
    rows: NDArray[np.float32]
    """[N, q]."""
    found: Refined


def refined_rounds(
    space: Space, score: Score, starts: list[Ints], num_clusters: int, seed: int
) -> list[Round]:
    """Rounds of heads and votes: the first in X2, others in the space whitened by the vote before."""
    key = [seed, 14]
    first = refine(space.twice, space.ids, starts, score, num_clusters, [*key, 0])
    rounds = [Round(space.projection, space.twice, first)]
    for number in range(1, ROUNDS):
        before = rounds[-1].found
        order = np.argsort(-np.array(before.merits), kind="stable")[:HEADS_LATER]
        projection = cluster_whitening(space, before.labels, num_clusters)
        rows = space.rows @ projection
        ids = nearest_rows(unit_rows(rows), space.ids.shape[1])
        better = [before.groupings[head] for head in order]
        rounds.append(Round(projection, rows, refine(rows, ids, better, score, num_clusters, [*key, number])))
    return rounds


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
