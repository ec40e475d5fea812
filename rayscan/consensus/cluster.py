"""The method from features to clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.candidates import Candidate, candidates, refinements
from rayscan.consensus.confidence import agreement, reproduced, temperature, tempered
from rayscan.consensus.discriminant import discriminant_rule
from rayscan.consensus.ensemble import Ensemble, Member
from rayscan.consensus.readings import Features, Reading, readings
from rayscan.consensus.refinement import Field, Round, refine
from rayscan.consensus.result import Result, by_size
from rayscan.consensus.score import JointScore
from rayscan.consensus.second_round import cluster_whitening
from rayscan.consensus.space import Space, make_space
from rayscan.consensus.views import all_views
from rayscan.consensus.weak import are_weak, plain_kmeans
from rayscan.consensus.whitening import total_scatter
from rayscan.errors import ConfigError, DataError
from rayscan.types import Ints

MANY = 20
"""Above so many clusters half as many heads are kept."""
KEPT = 12
"""Candidates that heads start from."""
REFINED = 24
"""Candidates that are refined."""
OF_A_KIND = 2
ROUNDS = 3
HEADS_LATER = 6
"""Starts of the rounds after the first."""
MIN_ROWS = 20
MIN_NEIGHBORS = 15
"""Of fewer mined ones none are used: neighbours are searched for here."""


def consensus(
    features: Features | Sequence[Features], num_clusters: int, seed: int, neighbors: Ints | None = None
) -> Result:
    """Cluster features: candidates in many views, the best by a score, heads from these, their vote.

    Of the votes of all rounds and the best candidate the result is the one of greatest merit, in all readings
    of all matrices; where even that scores little, it is k-means of the features (`weak`).
    Deterministic for a seed, a number of threads and a machine; threads change float32 sums only.

    Args:
        features: [N, D], or several such of the same rows; rows are scaled to unit length.
        num_clusters: C.
        seed: Of every random number.
        neighbors: Neighbours by cosine, nearest first, itself excluded, if mined already: [N, K], of one
            matrix; fewer than 15 are not used.

    Raises:
        ConfigError: C is not within 2..N / 2.
        DataError: too few rows, values that are not finite, or rows that do not fit each other.
    """
    sources = (features,) if isinstance(features, np.ndarray) else tuple(features)
    _check(sources, num_clusters, neighbors)
    read = readings(sources)
    spaces = [make_space(one.units(sources), _mined(one, neighbors, len(sources))) for one in read]
    score = JointScore(spaces, [one.source for one in read], num_clusters, seed)
    table, kept, half = best_candidates(read, spaces, score, num_clusters, seed)
    rounds = refined_rounds(spaces, score, [one.labels for one in kept], num_clusters, seed)
    best = _best(rounds, score, table[0][1]) or _as_round(spaces, kept[0].labels, num_clusters)
    labels, voters = by_size(best.labels, num_clusters), best.voters
    (found,) = score.of([labels])
    if is_plain := are_weak(found, labels, num_clusters):
        labels, member = plain_kmeans(_strongest(read, score), sources, num_clusters, seed)
        ensemble, voters, (found,) = Ensemble((member,)), [labels], score.of([labels])
    else:
        ensemble = _ensemble(read, spaces, best, labels, num_clusters)
    trust, raw = min(found, reproduced(half, labels, num_clusters)), ensemble.mean(sources)
    ensemble = replace(ensemble, temperature=temperature(tempered(raw, 1.0), trust))
    return Result(
        labels=labels,
        probabilities=tempered(raw, ensemble.temperature),
        agreement=agreement(voters, labels, num_clusters),
        groupings=tuple(voters),
        ensemble=ensemble,
        score=found,
        trust=trust,
        table=table,
        kept=kept,
        first_round=rounds[0].labels,
        is_plain=is_plain,
    )


def best_candidates(
    read: Sequence[Reading], spaces: Sequence[Space], score: JointScore, num_clusters: int, seed: int
) -> tuple[tuple[tuple[str, float], ...], tuple[Candidate, ...], list[Ints]]:
    """Name and merit of all candidates, best first, the best 12 (6 above 20 clusters), groupings of the half.

    The best 24 are refined, and rank beside what they were. At most two of a kind are kept: starts of one
    view often end alike, and a vote needs different voters.
    """
    found = [
        one
        for number, (reading, space) in enumerate(zip(read, spaces, strict=True))
        for one in candidates(
            reading.name, number, space, all_views(space, num_clusters, seed), num_clusters, seed
        )
    ]
    merits = score.weigh([one.labels for one in found])
    ranked = [found[i] for i in np.argsort(-np.array(merits), kind="stable")]
    better = refinements(_varied(ranked, REFINED), spaces, num_clusters)
    found += better
    merits += score.merit([one.labels for one in better])
    order = np.argsort(-np.array(merits), kind="stable")
    ranked = [found[i] for i in order]
    half = [one.labels for one in ranked[: -(-len(ranked) // 2)]]
    kept = _varied(ranked, KEPT if num_clusters <= MANY else KEPT // 2)
    return tuple((found[i].name, merits[i]) for i in order), tuple(kept), half


def _varied(ranked: Sequence[Candidate], count: int) -> list[Candidate]:
    """The first so many, at most two of a kind."""
    kept: list[Candidate] = []
    for candidate in ranked:
        if sum(one.kind == candidate.kind for one in kept) < OF_A_KIND:
            kept.append(candidate)
    return kept[:count]


def refined_rounds(
    spaces: Sequence[Space], score: JointScore, starts: list[Ints], num_clusters: int, seed: int
) -> list[Round]:
    """Rounds of heads and votes: the first in X2, others in the spaces whitened by the vote before."""
    key = [seed, 14]
    rounds = [refine(_twice(spaces), starts, score, num_clusters, [*key, 0])]
    for number in range(1, ROUNDS):
        before = rounds[-1]
        order = np.argsort(-np.array(before.merits), kind="stable")[:HEADS_LATER]
        fields = tuple(cluster_whitening(space, before.labels, num_clusters) for space in spaces)
        better = [before.voters[head] for head in order]
        rounds.append(refine(fields, better, score, num_clusters, [*key, number]))
    return rounds


def _best(rounds: Sequence[Round], score: JointScore, least: float) -> Round | None:
    """The round whose vote has most merit, if that is no less than of the best candidate."""
    merits = score.merit([one.labels for one in rounds])
    return None if max(merits) < least else rounds[int(np.argmax(merits))]


def _strongest(read: Sequence[Reading], score: JointScore) -> int:
    """Number of the source that weighs most in the score."""
    return read[int(np.argmax(score.weights))].source


def _twice(spaces: Sequence[Space]) -> tuple[Field, ...]:
    return tuple(Field(space.projection, space.twice, space.ids) for space in spaces)


def _as_round(spaces: Sequence[Space], labels: Ints, num_clusters: int) -> Round:
    """A grouping that needs no heads, with its own discriminant rule in every space as the head."""
    fields = _twice(spaces)
    heads = [
        [discriminant_rule(of.rows, total_scatter(of.rows) / len(of.rows), labels, num_clusters)]
        for of in fields
    ]
    return Round(fields, labels, heads, [[labels]] * len(fields), [])


def _ensemble(
    read: Sequence[Reading], spaces: Sequence[Space], best: Round, labels: Ints, num_clusters: int
) -> Ensemble:
    """The heads of a round, translated into the result."""
    of = zip(read, spaces, best.fields, best.heads, best.groupings, strict=True)
    return Ensemble(
        tuple(
            Member.of(
                reading,
                space.mean,
                space.components @ field.projection,
                heads,
                groupings,
                labels,
                num_clusters,
            )
            for reading, space, field, heads, groupings in of
        )
    )


def _mined(reading: Reading, neighbors: Ints | None, num_sources: int) -> Ints | None:
    """Neighbours of this reading, if they are those that were mined."""
    fits = neighbors is not None and neighbors.shape[1] >= MIN_NEIGHBORS
    return neighbors if fits and num_sources == 1 and not reading.is_root else None


def _check(sources: Sequence[NDArray[np.float32]], num_clusters: int, neighbors: Ints | None) -> None:
    count = len(sources[0])
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
    if not all(np.isfinite(rows).all() for rows in sources):
        raise DataError(
            "consensus needs finite features", got="NaN or infinity", fix="look at what made the features"
        )
    lengths = {len(rows) for rows in sources} | ({len(neighbors)} if neighbors is not None else set())
    if len(lengths) > 1:
        raise DataError(
            "the neighbours or the spaces do not fit the features",
            expected=f"{count} rows each",
            got=", ".join(map(str, sorted(lengths))),
            where="neighbors",
            fix="mine neighbours of these rows, and pass features of the same images",
        )
