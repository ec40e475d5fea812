"""The coarse quantizer of an approximate search, and the sample on which its nprobe is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.config import MineConfig
from rayscan.fleet.connect import Fleet
from rayscan.fleet.search_settings import IvfSettings
from rayscan.types import Ints
from rayscan.vectors.ivf import nlist_for, sample_size, train_centroids
from rayscan.vectors.merge import IndexedRows
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.recall import ROWS_PER_RANGE, exact_scores, kth_best, recall_tasks, sample

TRAIN_SEED, NPROBE_SEED = 1, 2
"""Of the samples that train the centroids and choose nprobe; other rows judge the result."""


@dataclass(frozen=True)
class TrainTask:
    """Rows to train coarse centroids on, for one task."""

    rows: EmbeddingRows
    numbers: Ints
    nlist: int


def train_on(task: TrainTask) -> NDArray[np.float32]:
    """The coarse centroids [nlist, D]."""
    return train_centroids(task.rows.take(task.numbers), task.nlist)


def train_ivf(
    fleet: Fleet,
    indexed: IndexedRows,
    representatives: Ints,
    wanted: MineConfig,
    on_trained: Callable[[], None],
) -> IvfSettings:
    """Train centroids on a sample of the rows, and find the exact answers by which nprobe is chosen.

    Args:
        fleet: The machines.
        indexed: The rows to search among.
        representatives: Of all rows [N].
        wanted: K, codes and recall.
        on_trained: Told when the centroids are there.
    """
    rows, uniques, k = indexed.rows, indexed.uniques, wanted.num_neighbors
    numbers = sample(len(uniques), seed=TRAIN_SEED, size=sample_size(len(uniques)))
    (centroids,) = fleet.map(train_on, [TrainTask(rows, uniques[numbers], nlist_for(len(uniques)))])
    on_trained()
    queries = sample(rows.train_rows, seed=NPROBE_SEED)
    nothing = np.full((len(queries), k), -1, np.int64)
    tasks = recall_tasks(indexed, representatives, queries, nothing, ROWS_PER_RANGE)
    kth = kth_best(fleet.map(exact_scores, tasks), k)
    # A little above what is demanded, because the result is judged on other rows.
    recall = 1 - (1 - wanted.min_recall) / 2
    return IvfSettings(centroids, wanted.codes, queries, representatives[queries], kth, recall)
