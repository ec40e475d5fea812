"""When stage mine searches approximately, and over which lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.config import Recipe
from rayscan.context import Context
from rayscan.fleet.shards import Lists
from rayscan.vectors.inverted import num_lists, sample_size, train_lists
from rayscan.vectors.merge import Block, Searched
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.recall import kth_best, look_up, questions, sample

SPAN_ROWS = 65_536
"""Rows of one piece of hashing or checking."""
LISTS_SEED, PROBES_SEED = 1, 2
"""Of the samples that make the lists and choose how many are read; other rows judge the result."""


def all_representatives(work: Sequence[Block]) -> NDArray[np.int64]:
    """Representative of every row: [N]."""
    return np.concatenate([block.representatives for block in work])


def is_approximate(recipe: Recipe, num_rows: int, dim: int) -> bool:
    """Whether lists are searched: asked for, or 2 N^2 D is above the limit."""
    wanted = recipe.mine
    too_many = 2.0 * num_rows**2 * dim > wanted.max_exact_flops
    return wanted.search == "approximate" or (wanted.search == "auto" and too_many)


def lists_of(recipe: Recipe, searched: Searched, work: Sequence[Block], context: Context) -> Lists:
    """Lists over a sample of the rows, and the exact answers that say how many of them to read."""
    rows, uniques, k = searched.rows, searched.uniques, recipe.mine.num_neighbors
    context.progress.start("mine: lists", 2, "steps")
    numbers = sample(len(uniques), seed=LISTS_SEED, size=sample_size(len(uniques)))
    (centers,) = context.fleet.map(make_lists, [Picked(rows, uniques[numbers], num_lists(len(uniques)))])
    context.progress.advance()
    asked = sample(rows.train_rows, seed=PROBES_SEED)
    representatives = all_representatives(work)
    nothing = np.full((len(asked), k), -1, np.int64)
    kth = kth_best(
        context.fleet.map(look_up, questions(searched, representatives, asked, nothing, SPAN_ROWS)), k
    )
    # A little above what is demanded, because other rows will be asked whether it was enough.
    recall = 1 - (1 - recipe.mine.min_recall) / 2
    return Lists(centers, recipe.mine.codes, asked, representatives[asked], kth, recall)


@dataclass(frozen=True)
class Picked:
    """Rows to make lists of."""

    rows: EmbeddingRows
    numbers: NDArray[np.int64]
    count: int


def make_lists(picked: Picked) -> NDArray[np.float32]:
    """Centers of `count` lists."""
    return train_lists(picked.rows.take(picked.numbers), picked.count)
