"""The candidates: k-means of every view and mixtures; and the discriminant refinement of the best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

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
    """Reading, view, `+lda` if refined, and number of the start."""
    labels: Ints
    """[N]."""
    reading: int = 0
    """Number of the reading it was found in."""
    shrinkage: float = 1.0
    """Of the covariance in its discriminant refinement."""

    @property
    def kind(self) -> str:
        """The name without the number of the start."""
        return self.name.rpartition("-")[0]


def candidates(
    prefix: str, reading: int, space: Space, views: Sequence[View], num_clusters: int, seed: int
) -> list[Candidate]:
    """A grouping for each start and view.

    Args:
        prefix: Of the names.
        reading: Number of the reading.
        space: Of the reading.
        views: Where k-means is done.
        num_clusters: C.
        seed: Of all starts.
    """

    def of_start(start: int) -> list[Candidate]:
        return [
            Candidate(f"{prefix}/{name}-{start}", labels, reading, shrinkage)
            for name, labels, shrinkage in _groupings(space, views, num_clusters, [seed, 12, start])
        ]

    # Products of few columns: a start a thread takes half the time of all threads on one start.
    with ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="candidates") as pool:
        return [one for of_one in pool.map(of_start, range(STARTS)) for one in of_one]


def refinements(best: Sequence[Candidate], spaces: Sequence[Space], num_clusters: int) -> list[Candidate]:
    """L(p) of each, in the space of the reading it was found in."""
    found = []
    for one in best:
        space = spaces[one.reading]
        labels = refined(space.rows, space.total, one.labels, num_clusters, one.shrinkage)
        start = one.name.rpartition("-")[2]
        found.append(Candidate(f"{one.kind}+lda-{start}", labels, one.reading, one.shrinkage))
    return found


def _groupings(
    space: Space, views: Sequence[View], num_clusters: int, key: list[int]
) -> Iterator[tuple[str, Ints, float]]:
    """Name, labels [N] and the shrinkage of their refinement."""
    for number, view in enumerate(views):
        labels = kmeans(view.rows, num_clusters, [*key, number], starts=1)
        yield view.name, labels, view.shrinkage
    for name, width in (("mixture", 2 * num_clusters), ("mixture_narrow", MIXTURE_WIDTH)):
        rows = np.ascontiguousarray(space.twice[:, :width])
        start = kmeans(unit_rows(rows), num_clusters, [*key, 100 + width], starts=1)
        yield name, tied_mixture(rows, start, num_clusters), 1.0
