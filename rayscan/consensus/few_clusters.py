"""Up to a hundred clusters: many candidates, heads from the best of them, votes of the heads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from rayscan.consensus.candidates import Candidate, candidates, refinements
from rayscan.consensus.found import Found, ranked, varied
from rayscan.consensus.memory import Memory, found_once
from rayscan.consensus.readings import Reading
from rayscan.consensus.refinement import Field, Round, refine, without_heads
from rayscan.consensus.score import JointScore
from rayscan.consensus.second_round import cluster_whitening
from rayscan.consensus.space import Space
from rayscan.consensus.views import all_views
from rayscan.types import Ints

SOME = 20
"""Above so many clusters half as many heads are kept."""
KEPT = 12
"""Candidates that heads start from."""
REFINED = 24
"""Candidates that are refined."""
OF_A_KIND = 2
ROUNDS = 3
HEADS_LATER = 6
"""Starts of the rounds after the first."""


def search_few(
    read: Sequence[Reading],
    spaces: Sequence[Space],
    score: JointScore,
    num_clusters: int,
    seed: int,
    memory: Memory,
) -> Found:
    """The vote of most merit of three rounds of heads, or the best candidate if that has more.

    Args:
        read: Readings of the features.
        spaces: One of each.
        score: Of groupings; its weights are set here.
        num_clusters: C.
        seed: Of every random number.
        memory: Of candidates found before.
    """
    order = best_candidates(read, spaces, score, num_clusters, seed, memory)
    kept = varied([one for one, _ in order], KEPT if num_clusters <= SOME else KEPT // 2, OF_A_KIND)
    rounds = refined_rounds(spaces, score, [one.labels for one in kept], num_clusters, seed)
    merits = score.merit([one.labels for one in rounds])
    is_beaten = max(merits) < order[0][1]
    best = (
        without_heads(_twice(spaces), kept[0].labels, num_clusters)
        if is_beaten
        else rounds[int(np.argmax(merits))]
    )
    return Found(
        table=tuple((one.name, merit) for one, merit in order),
        kept=kept,
        half=tuple(one.labels for one, _ in order[: -(-len(order) // 2)]),
        best=best,
        first_round=rounds[0].labels,
        voters=best.voters,
    )


def best_candidates(
    read: Sequence[Reading],
    spaces: Sequence[Space],
    score: JointScore,
    num_clusters: int,
    seed: int,
    memory: Memory,
) -> list[tuple[Candidate, float]]:
    """All candidates and their merits, best first; the best 24 are refined and rank beside what they were."""
    found: list[Candidate] = []
    for number, (reading, space) in enumerate(zip(read, spaces, strict=True)):
        find = partial(_candidates, reading, number, space, num_clusters, seed)
        found += found_once(memory, reading.name, find)
    merits = score.weigh([one.labels for one in found])
    best = varied([one for one, _ in ranked(found, merits)], REFINED, OF_A_KIND)
    better = found_once(memory, "refined", partial(refinements, best, spaces, num_clusters))
    return ranked([*found, *better], [*merits, *score.merit([one.labels for one in better])])


def _candidates(reading: Reading, number: int, space: Space, num_clusters: int, seed: int) -> list[Candidate]:
    views = all_views(space, num_clusters, seed)
    return candidates(reading.name, number, space, views, num_clusters, seed)


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


def _twice(spaces: Sequence[Space]) -> tuple[Field, ...]:
    return tuple(Field(space.projection, space.twice, space.ids) for space in spaces)
