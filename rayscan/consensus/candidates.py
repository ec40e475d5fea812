"""The table of candidates: k-means of every view, mixtures, and the discriminant refinement of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rayscan.consensus.discriminant import refined
from rayscan.consensus.gaussian import tied_mixture
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.space import Space
from rayscan.consensus.views import View
from rayscan.types import Ints

STARTS = 12
"""Of k-means in each view, a candidate each: the fit of least inertia is often not the best grouping."""
MIXTURE_WIDTH = 32


@dataclass(frozen=True)
class Candidate:
    """A grouping and where it comes from."""

    name: str
    """View, `+lda` if refined, and number of the start."""
    labels: Ints
    """[N]."""

    @property
    def kind(self) -> str:
        """The name without the number of the start."""
        return self.name.rpartition("-")[0]


def candidates(space: Space, views: list[View], num_clusters: int, seed: int) -> list[Candidate]:
    """For each start and view a grouping, and its refinement L(p).

    Args:
        space: Where the refinement is done.
        views: Where k-means is done.
        num_clusters: C.
        seed: Of all starts.
    """
    found = []
    for start in range(STARTS):
        for name, labels, shrinkage in _groupings(space, views, num_clusters, [seed, 12, start]):
            found.append(Candidate(f"{name}-{start}", labels))
            better = refined(space.rows, space.total, labels, num_clusters, shrinkage)
            found.append(Candidate(f"{name}+lda-{start}", better))
    return found


def _groupings(
    space: Space, views: list[View], num_clusters: int, key: list[int]
) -> Iterator[tuple[str, Ints, float]]:
    """Name, labels [N] and the shrinkage of their refinement."""
    for number, view in enumerate(views):
        labels = kmeans(view.rows, num_clusters, [*key, number], starts=1)
        yield view.name, labels, view.shrinkage
    for name, width in (("mixture", 2 * num_clusters), ("mixture_narrow", MIXTURE_WIDTH)):
        rows = np.ascontiguousarray(space.twice[:, :width])
        start = kmeans(unit_rows(rows), num_clusters, [*key, 100 + width], starts=1)
        yield name, tied_mixture(rows, start, num_clusters), 1.0
