"""Up to a hundred clusters: many candidates, heads from the best of them, votes of the heads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from rayscan.consensus.candidates import Candidate, candidates, refinements
from rayscan.consensus.found import Found, ranked, varied
from rayscan.consensus.memory import found_once
from rayscan.consensus.problem import Problem
from rayscan.consensus.refinement import Field, Round, refine, without_heads
from rayscan.consensus.second_round import cluster_whitening
from rayscan.consensus.space import Space
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


def search_few(problem: Problem) -> Found:
    """The vote of most merit of three rounds of heads, or the best candidate if that has more."""
    score, num_clusters = problem.score, problem.num_clusters
    order = best_candidates(problem)
    kept = varied([one for one, _ in order], KEPT if num_clusters <= SOME else KEPT // 2, OF_A_KIND)
    rounds = refined_rounds(problem, [one.labels for one in kept])
    merits = score.merit([one.labels for one in rounds])
    is_beaten = max(merits) < order[0][1]
    best = (
        without_heads(in_twice(problem.spaces), kept[0].labels, num_clusters)
        if is_beaten
        else rounds[int(np.argmax(merits))]
    )
    return Found(
        order=order,
        kept=kept,
        best=best,
        first_round=rounds[0].labels,
        voters=best.voters,
    )


def best_candidates(problem: Problem) -> list[tuple[Candidate, float]]:
    """All candidates and their merits, best first; the best 24 are refined and rank beside what they were."""
    score, memory, found = problem.score, problem.memory, list[Candidate]()
    for number, reading, _ in problem.numbered():
        find = partial(_candidates, problem, number)
        found += found_once(memory, reading.name, find)
    merits = score.weigh([one.labels for one in found])
    best = varied([one for one, _ in ranked(found, merits)], REFINED, OF_A_KIND)
    better = found_once(memory, "refined", partial(refinements, best, problem.spaces, problem.num_clusters))
    return ranked([*found, *better], [*merits, *score.merit([one.labels for one in better])])


def _candidates(problem: Problem, number: int) -> list[Candidate]:
    space, name = problem.spaces[number], problem.read[number].name
    return candidates(name, number, space, problem.views(number), problem.num_clusters, problem.seed)


def refined_rounds(problem: Problem, starts: list[Ints]) -> list[Round]:
    """Rounds of heads and votes: the first in X2, others in the spaces whitened by the vote before."""
    spaces, score, num_clusters = problem.spaces, problem.score, problem.num_clusters
    key = [problem.seed, 14]
    rounds = [refine(in_twice(spaces), starts, score, num_clusters, [*key, 0])]
    for number in range(1, ROUNDS):
        before = rounds[-1]
        order = np.argsort(-np.array(before.merits), kind="stable")[:HEADS_LATER]
        fields = tuple(cluster_whitening(space, before.labels, num_clusters) for space in spaces)
        better = [before.voters[head] for head in order]
        rounds.append(refine(fields, better, score, num_clusters, [*key, number]))
    return rounds


def in_twice(spaces: Sequence[Space]) -> tuple[Field, ...]:
    """The twice whitened coordinates of every space."""
    return tuple(Field(space.projection, space.twice, space.ids) for space in spaces)
