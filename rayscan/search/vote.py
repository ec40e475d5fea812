"""The vote of a search: what the better quarter of its runs agree on, beside the one run that is picked.

vote.parquet    gid, cluster (the largest is 0), agreement (0..1) of every train image
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan import parquet
from rayscan.artifacts import load
from rayscan.consensus.confidence import agreement, translation
from rayscan.consensus.result import by_size
from rayscan.consensus.vote import vote, weights_by_merit
from rayscan.search.finalists import choose
from rayscan.search.stored_trials import Trial
from rayscan.search.trial import CLUSTERS, SearchSetup, prepared
from rayscan.training.whitened import drawn
from rayscan.types import Ints

VOTE = "vote.parquet"
QUARTER = 4
AT_LEAST = 3
"""Runs that vote where there are so many."""
NEGLIGIBLE = 1e-3
"""Runs with less weight beside the best one's do not vote."""
TABLE = 4096
"""Clusters of all voters together at most: the table of all pairs of them is decomposed."""
DRAWN = 50_000
"""Images that are grouped by the votes; others get the cluster that their voters' clusters mostly have."""


@dataclass(frozen=True)
class VoteTask:
    """The vote, for one worker."""

    setup: SearchSetup
    voters: Sequence[Trial]


@dataclass(frozen=True)
class Vote:
    """What came out."""

    voters: int
    score: float
    """S of the vote."""
    best: float
    """S of the best voter."""

    def in_words(self) -> str:
        """The vote on one line."""
        return (
            f"{self.voters} run{'s' if self.voters > 1 else ''} of the better quarter, "
            f"score {self.score:.4f}, best of them {self.best:.4f}"
        )


def voters(runs: Sequence[Trial], setup: SearchSetup) -> list[Trial]:
    """The quarter of the finished runs with the best scores, best first, less those of no weight.

    Args:
        runs: Any seeds; at least one is finished.
        setup: Settings and addresses.
    """
    finished = choose(runs, len(runs))
    fits = max(1, TABLE // setup.space.base.clusters)
    best = finished[: min(fits, max(AT_LEAST, math.ceil(len(finished) / QUARTER)))]
    weights = weights_by_merit([run.score or 0.0 for run in best])
    return [run for run, weight in zip(best, weights, strict=True) if weight >= NEGLIGIBLE * weights[0]]


def vote_trials(task: VoteTask) -> Vote:
    """Let the runs vote, and write what they agree on; runs on a worker."""
    setup = task.setup
    num_clusters = setup.space.base.clusters
    groupings = [load(setup.out.child(run.name)).read_array(CLUSTERS).astype(np.int64) for run in task.voters]
    scores = [run.score or 0.0 for run in task.voters]
    key = [setup.space.base.seed, 15]
    labels = by_size(agreed(groupings, weights_by_merit(scores), num_clusters, key), num_clusters)
    judge = prepared(setup)[1]
    table = pa.table(
        {
            "gid": pa.array(judge.anchors, pa.int64()),
            "cluster": pa.array(labels, pa.int32()),
            "agreement": agreement(groupings, labels, num_clusters),
        }
    )
    setup.out.write(VOTE, parquet.encoded(table))
    return Vote(len(groupings), judge.score(labels)["score"], max(scores))


def agreed(
    groupings: Sequence[Ints], weights: NDArray[np.float64], num_clusters: int, key: Sequence[int]
) -> Ints:
    """The grouping that weighted groupings agree on; beyond 50,000 images found on a seeded sample of them.

    Args:
        groupings: H of [N].
        weights: [H], summing to 1.
        num_clusters: C.
        key: Of the vote's random numbers.

    Returns:
        int64 [N].
    """
    some = drawn(len(groupings[0]), DRAWN)
    labels = vote([one[some] for one in groupings], weights, num_clusters, key)
    if len(some) == len(groupings[0]):
        return labels
    tables = [translation(one[some], labels, num_clusters) for one in groupings]
    found = np.empty(len(groupings[0]), np.int64)
    for first in range(0, len(found), DRAWN):
        rows = slice(first, first + DRAWN)
        shares = sum(w * t[one[rows]] for w, t, one in zip(weights, tables, groupings, strict=True))
        found[rows] = np.asarray(shares).argmax(axis=1)
    found[some] = labels
    return found
