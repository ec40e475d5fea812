"""Above a hundred clusters: few candidates, breathing k-means, and whitening by what was found.

Where groups are many, a start of k-means is wrong in many places at once: breaths mend it (`breathing`), and
diffusion over the graph of a space that is whitened by the best grouping so far parts what it left together.
Heads and votes brought nothing (docs/design/021-many-clusters.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.breathing import breathed
from rayscan.consensus.candidates import Candidate
from rayscan.consensus.discriminant import refined
from rayscan.consensus.found import Found, ranked
from rayscan.consensus.graphs import adjacency, diffused
from rayscan.consensus.kmeans import plus_plus
from rayscan.consensus.memory import found_once
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.problem import Problem
from rayscan.consensus.refinement import Field, without_heads
from rayscan.consensus.second_round import cluster_whitening
from rayscan.consensus.space import Space
from rayscan.consensus.views import graph_layout
from rayscan.types import Ints

Rows = NDArray[np.float32]
STARTS = 2
"""Of k-means in each view."""
REPEATS = 3
"""Of a discriminant refinement."""
ROUNDS = 2
"""Of whitening by the best grouping."""
KEPT = 6


def search_many(problem: Problem) -> Found:
    """The candidate of most merit; the best six bear it out."""
    score, num_clusters = problem.score, problem.num_clusters
    found: list[Candidate] = []
    for number, reading, space in problem.numbered():
        for at, (view, rows_of) in enumerate(VIEWS.items()):
            rows = partial(rows_of, space, problem.seed)
            found += _once(problem, f"{reading.name}/{view}", number, rows, [24, at])
    merits = score.weigh([one.labels for one in found])
    first = ranked(found, merits)[0][0]
    for later in range(ROUNDS):
        best, more = ranked(found, merits)[0][0].labels, list[Candidate]()
        for number, reading, space in problem.numbered():
            rows = partial(_again, space, best, num_clusters)
            more += _once(problem, f"{reading.name}/again_{later}", number, rows, [25, later])
        found += more
        merits += score.merit([one.labels for one in more])
    order = ranked(found, merits)
    kept = tuple(one for one, _ in order[:KEPT])
    return Found(
        order=order,
        kept=kept,
        best=without_heads(_components(problem.spaces), kept[0].labels, num_clusters),
        first_round=first.labels,
        voters=[one.labels for one in kept],
    )


def _whitened(space: Space, _seed: int) -> Rows:
    return unit_rows(space.twice)


def _diffused(space: Space, _seed: int) -> Rows:
    return unit_rows(diffused(space.twice, adjacency(space.ids)))


def _laid_out(space: Space, seed: int) -> Rows:
    return graph_layout(space, seed).rows


VIEWS: Mapping[str, Callable[[Space, int], Rows]] = {
    "whitened_twice": _whitened,
    "diffused": _diffused,
    "layout": _laid_out,
}
"""Where k-means is done at first."""


def _again(space: Space, labels: Ints, num_clusters: int) -> Rows:
    """Rows whitened by a grouping and diffused over the graph of their neighbours there."""
    field = cluster_whitening(space, labels, num_clusters)
    return unit_rows(diffused(field.rows, adjacency(field.ids)))


def _once(
    problem: Problem, name: str, number: int, view: Callable[[], Rows], key: Sequence[int]
) -> list[Candidate]:
    """Breathing k-means of a view from each start, and its discriminant refinement, if not kept before.

    Args:
        problem: All that is given.
        name: Reading and view.
        number: Of the reading.
        view: Makes the rows.
        key: Of the random numbers, beside the seed.
    """
    space, num_clusters = problem.spaces[number], problem.num_clusters

    def find() -> list[Candidate]:
        rows, found = view(), []
        for start in range(STARTS):
            seeds = plus_plus(rows, num_clusters, np.random.default_rng([problem.seed, *key, start, 0]))
            labels = breathed(rows, seeds, [problem.seed, *key, start, 1])
            better = refined(space.rows, space.total, labels, num_clusters, repeats=REPEATS)
            found.append(Candidate(f"{name}-{start}", labels, number))
            found.append(Candidate(f"{name}+lda-{start}", better, number))
        return found

    return found_once(problem.memory, name.replace("/", "-"), find)


def _components(spaces: Sequence[Space]) -> tuple[Field, ...]:
    """The principal components of every space as they are."""
    return tuple(
        Field(np.eye(space.rows.shape[1], dtype=np.float32), space.rows, space.raw_ids) for space in spaces
    )
