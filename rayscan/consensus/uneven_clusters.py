"""Clusters of uneven sizes: many small groups in every view, joined by their links, and their vote.

Mutual information rewards equal clusters (`score`), so its heads and its ranking cut what is large. Here
groups are joined without regard to size and ranked by a merit that hardly sees it, and the best of them vote;
nothing is trained afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch

from rayscan.consensus.candidates import Candidate
from rayscan.consensus.few_clusters import in_twice, search_few
from rayscan.consensus.found import Found, ranked
from rayscan.consensus.graphs import adjacency
from rayscan.consensus.joining import RULES, joined
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.memory import found_once
from rayscan.consensus.problem import Problem
from rayscan.consensus.refinement import without_heads
from rayscan.consensus.score import SIZES, most_score
from rayscan.consensus.vote import vote
from rayscan.types import Ints

GROUPS = 6
"""Small groups for each cluster, if they have ten rows on average."""
ROWS_EACH = 10
KEPT = 12
"""Groupings that vote."""
CLEAR, CLEARER = 0.9, 0.05
"""S over its bound that joined groups need, and how much more than the other search found, to be taken where
nothing is known of the sizes. Chosen on five sets of features, their uneven parts and unions."""
POWER = 0.8
"""Of the balance that S is divided by. At 1 one giant cluster beside crumbs would be perfect."""


def search_uneven(problem: Problem) -> Found:
    """The vote of the 12 best joinings by S / (H(sizes) / log C)^0.8, or the first if that has more."""
    found: list[Candidate] = []
    for number, reading, _ in problem.numbered():
        found += found_once(problem.memory, f"{reading.name}-joined", partial(_joinings, problem, number))
    groupings = [one.labels for one in found]
    merits = problem.score.weigh(groupings)
    order = ranked(found, size_free(merits, groupings, problem.num_clusters))
    kept = tuple(one for one, _ in order[:KEPT])
    voters = [one.labels for one in kept]
    voted = vote(voters, np.full(len(voters), 1 / len(voters)), problem.num_clusters, [problem.seed, 27])
    (of_vote,) = size_free(problem.score.merit([voted]), [voted], problem.num_clusters)
    labels = voters[0] if of_vote < order[0][1] else voted
    return Found(
        order=order,
        kept=kept,
        best=without_heads(in_twice(problem.spaces), labels, problem.num_clusters),
        first_round=voted,
        voters=voters,
        is_uneven=True,
    )


def search_any(problem: Problem) -> Found:
    """What was joined, if it is clear and clearer than what the search for even clusters finds; else that.

    A score that favours equal clusters cannot choose between the two, and one that does not cannot either:
    where groups lie close together, joined ones look clearer than the classes are. But where hardly a
    neighbour is in another cluster, nothing was cut.
    """
    uneven = search_uneven(problem)
    even = search_few(problem)  # last, as the weights of sources shall be of its candidates
    num_clusters = problem.num_clusters
    clear, other = (
        problem.score.of([found.best.labels])[0] / most_score(found.best.labels, num_clusters)
        for found in (uneven, even)
    )
    return uneven if clear >= max(CLEAR, other + CLEARER) else even


def size_free(merits: Sequence[float], groupings: Sequence[Ints], num_clusters: int) -> list[float]:
    """S over the power .8 of the most that clusters of these sizes could have.

    Args:
        merits: S less `SIZES` of that most, which is the same in all spaces.
        groupings: [N] each.
        num_clusters: C.
    """
    most = [most_score(labels, num_clusters) for labels in groupings]
    return [(merit + SIZES * bound) / bound**POWER for merit, bound in zip(merits, most, strict=True)]


def _joinings(problem: Problem, number: int) -> list[Candidate]:
    space, name, num_clusters = problem.spaces[number], problem.read[number].name, problem.num_clusters
    graph = adjacency(space.ids).astype(np.float64)
    groups = max(num_clusters, min(GROUPS * num_clusters, len(space.ids) // ROWS_EACH))

    def of_view(at: int) -> list[Candidate]:
        view = problem.views(number)[at]
        small = kmeans(view.rows, groups, [problem.seed, 26, at], starts=1)
        made = {rule: joined(graph, view.rows, small, num_clusters, joins) for rule, joins in RULES.items()}
        return [Candidate(f"{name}/{view.name}+{rule}-0", labels, number) for rule, labels in made.items()]

    views = range(len(problem.views(number)))
    with ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="joinings") as pool:
        return [one for of_one in pool.map(of_view, views) for one in of_one]
