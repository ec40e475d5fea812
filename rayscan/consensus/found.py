"""What a search for groupings ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayscan.consensus.candidates import Candidate
from rayscan.consensus.refinement import Round
from rayscan.types import Ints


@dataclass(frozen=True)
class Found:
    """Candidates, and the grouping that became of them."""

    order: Sequence[tuple[Candidate, float]]
    """All candidates and their merits, best first."""
    kept: tuple[Candidate, ...]
    """Those that the rest was made from, best first."""
    best: Round
    """The grouping of greatest merit, and its rules."""
    first_round: Ints
    """The grouping before the second round, [N]."""
    voters: list[Ints]
    """Groupings that bear the best one out, [N] each."""
    is_uneven: bool = False
    """Whether sizes were left free, so that S says little without its bound."""

    @property
    def table(self) -> tuple[tuple[str, float], ...]:
        """Name and merit of all candidates, best first."""
        return tuple((one.name, merit) for one, merit in self.order)

    @property
    def half(self) -> list[Ints]:
        """Groupings of the better half, [N] each."""
        return [one.labels for one, _ in self.order[: -(-len(self.order) // 2)]]


def ranked(candidates: Sequence[Candidate], merits: Sequence[float]) -> list[tuple[Candidate, float]]:
    """Candidates and their merits, the greatest first; of equal ones the earlier."""
    return [(candidates[i], merits[i]) for i in np.argsort(-np.array(merits), kind="stable")]


def varied(candidates: Sequence[Candidate], count: int, of_a_kind: int) -> tuple[Candidate, ...]:
    """The first so many, at most some of a kind: starts of one view often end alike, a vote needs others."""
    kept: list[Candidate] = []
    for candidate in candidates:
        if sum(one.kind == candidate.kind for one in kept) < of_a_kind:
            kept.append(candidate)
    return tuple(kept[:count])
