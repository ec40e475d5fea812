"""Above a hundred clusters: few candidates, breathing k-means, and whitening by what was found.

Where groups are many, a start of k-means is wrong in many places at once: breaths mend it (`breathing`), and
diffusion over the graph of a space that is whitened by the best grouping so far parts what it left together.
Heads and votes brought nothing, and would be the dearest part (docs/results/clustering.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rayscan.consensus.breathing import breathed
from rayscan.consensus.candidates import Candidate
from rayscan.consensus.discriminant import refined
from rayscan.consensus.found import Found, ranked
from rayscan.consensus.graphs import adjacency, diffused
from rayscan.consensus.kmeans import plus_plus
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.readings import Reading
from rayscan.consensus.refinement import Field, without_heads
from rayscan.consensus.score import JointScore
from rayscan.consensus.second_round import cluster_whitening
from rayscan.consensus.space import Space
from rayscan.consensus.views import View, graph_layout
from rayscan.types import Ints

STARTS = 2
"""Of k-means in each view."""
REPEATS = 3
"""Of a discriminant refinement."""
ROUNDS = 2
"""Of whitening by the best grouping."""
KEPT = 6


def search_many(
    read: Sequence[Reading], spaces: Sequence[Space], score: JointScore, num_clusters: int, seed: int
) -> Found:
    """The candidate of most merit; the best six bear it out.

    Args:
        read: Readings of the features.
        spaces: One of each.
        score: Of groupings; its weights are set here.
        num_clusters: C.
        seed: Of every random number.
    """
    found: list[Candidate] = []
    for number, (reading, space) in enumerate(zip(read, spaces, strict=True)):
        for at, view in enumerate(_views(space, seed)):
            found += _candidates(reading.name, number, space, view, num_clusters, [seed, 24, at])
    merits = score.weigh([one.labels for one in found])
    first = ranked(found, merits)[0][0]
    for later in range(ROUNDS):
        best, more = ranked(found, merits)[0][0].labels, list[Candidate]()
        for number, (reading, space) in enumerate(zip(read, spaces, strict=True)):
            view = _again(space, best, num_clusters, later)
            more += _candidates(reading.name, number, space, view, num_clusters, [seed, 25, later])
        found += more
        merits += score.merit([one.labels for one in more])
    order = ranked(found, merits)
    kept = tuple(one for one, _ in order[:KEPT])
    return Found(
        table=tuple((one.name, merit) for one, merit in order),
        kept=kept,
        half=tuple(one.labels for one, _ in order[: -(-len(order) // 2)]),
        best=without_heads(_components(spaces), kept[0].labels, num_clusters),
        first_round=first.labels,
        voters=[one.labels for one in kept],
    )


def _views(space: Space, seed: int) -> Iterator[View]:
    yield View("whitened_twice", unit_rows(space.twice))
    yield View("diffused", unit_rows(diffused(space.twice, adjacency(space.ids))))
    yield graph_layout(space, seed)


def _again(space: Space, labels: Ints, num_clusters: int, number: int) -> View:
    """Rows whitened by a grouping and diffused over the graph of their neighbours there."""
    field = cluster_whitening(space, labels, num_clusters)
    return View(f"again_{number}", unit_rows(diffused(field.rows, adjacency(field.ids))))


def _candidates(
    prefix: str, reading: int, space: Space, view: View, num_clusters: int, key: Sequence[int]
) -> list[Candidate]:
    """Breathing k-means of a view from each start, and its discriminant refinement."""
    found = []
    for start in range(STARTS):
        seeds = plus_plus(view.rows, num_clusters, np.random.default_rng([*key, start, 0]))
        labels = breathed(view.rows, seeds, [*key, start, 1])
        better = refined(space.rows, space.total, labels, num_clusters, view.shrinkage, REPEATS)
        found.append(Candidate(f"{prefix}/{view.name}-{start}", labels, reading))
        found.append(Candidate(f"{prefix}/{view.name}+lda-{start}", better, reading))
    return found


def _components(spaces: Sequence[Space]) -> tuple[Field, ...]:
    """The principal components of every space as they are."""
    return tuple(
        Field(np.eye(space.rows.shape[1], dtype=np.float32), space.rows, space.raw_ids) for space in spaces
    )
