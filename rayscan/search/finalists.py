"""The best trials again with other seeds: the mean score decides, and their agreement is reported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from rayscan.artifacts import load
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import ari
from rayscan.search.stored_trials import Trial
from rayscan.search.trial import CLUSTERS, SearchSetup

UNSTABLE = 0.6
"""Below this agreement the search warns. A guess, not a measured bound."""
TIE_DIGITS = 3
"""Mean scores equal to so many digits are a tie."""


@dataclass(frozen=True)
class Finalist:
    """Settings and what several seeds made of them."""

    trials: Sequence[Trial]
    """One per seed, the search's own first."""
    stability: float | None
    """Mean adjusted Rand index over pairs of seeds; None with one seed."""

    @property
    def mean(self) -> float:
        """Mean score; a seed that was rejected counts as 0."""
        return float(np.mean([t.score if t.status == "finished" and t.score else 0.0 for t in self.trials]))

    @property
    def values(self) -> dict[str, Any]:
        """The settings."""
        return dict(self.trials[0].values)

    def rank(self) -> tuple[float, float]:
        """Larger is better: the mean, then the agreement of the seeds."""
        return round(self.mean, TIE_DIGITS), -1.0 if self.stability is None else self.stability


def choose(trials: Sequence[Trial], count: int) -> list[Trial]:
    """The `count` best trials that were accepted, best first."""
    finished = [t for t in trials if t.status == "finished" and t.score is not None]
    return sorted(finished, key=lambda t: (-(t.score or 0.0), t.name))[:count]


def stability(setup: SearchSetup, trials: Sequence[Trial]) -> float | None:
    """Mean ARI over all pairs of seeds, on the train images; None if fewer than two have clusters."""
    num_clusters = setup.space.base.clusters
    groupings = [load(setup.out.child(t.name)).read_array(CLUSTERS) for t in trials if t.status == "finished"]
    pairs = [ari(Contingency.count(a, b, num_clusters, num_clusters)) for a, b in combinations(groupings, 2)]
    return float(np.mean(pairs)) if pairs else None


def compare(
    setup: SearchSetup,
    best: Sequence[Trial],
    seeds: int,
    rerun: Callable[[list[tuple[Any, int]]], list[Trial]],
) -> list[Finalist]:
    """Run the best trials over seeds and rank them, best first.

    Args:
        setup: Settings and addresses.
        best: Trials of the search's own seed.
        seeds: Runs of each, the one it had included.
        rerun: Runs (values, seed) pairs, in order.
    """
    first = setup.space.base.seed
    asked = [(dict(t.values), first + i) for t in best for i in range(1, seeds)]
    others = rerun(asked) if asked else []
    per = seeds - 1
    finalists = []
    for i, trial in enumerate(best):
        runs = [trial, *others[i * per : (i + 1) * per]]
        finalists.append(Finalist(runs, stability(setup, runs)))
    return sorted(finalists, key=Finalist.rank, reverse=True)
