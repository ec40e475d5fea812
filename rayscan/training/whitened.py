"""The whitened space of stored embeddings, of all train rows or of a seeded sample of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rayscan.artifacts import Artifact
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.space import Space, make_space
from rayscan.consensus.whitening import NEIGHBORS
from rayscan.data.keyed import permutation
from rayscan.errors import DataError
from rayscan.types import Ints
from rayscan.vectors.neighbor_table import neighbor_ids
from rayscan.vectors.parts import EmbeddingRows

MAX_ROWS = 50_000
"""Train rows that are whitened; others follow by the projection, which is linear."""
WHITENED = "whitened"
"""`space` in the facts of neighbors that were mined in a whitened space."""


@dataclass(frozen=True)
class SampledSpace:
    """A whitened space and the rows it was made of."""

    rows: Ints
    """Train rows, ascending [n]."""
    space: Space
    """`space.units` are the rows at unit length."""


@lru_cache(maxsize=1)
def sampled_space(embed: Artifact, mine: Artifact | None = None) -> SampledSpace:
    """Whiten the train rows, or a seeded sample of 50,000: the last result is kept in this process.

    Args:
        embed: Embeddings.
        mine: Their neighbors: where all rows are taken and ten were mined among the features these are used,
            ten always, so that the result does not depend on how many a recipe mines.

    Raises:
        DataError: all rows are equal.
    """
    rows = EmbeddingRows(embed)
    chosen = drawn(rows.train_rows, MAX_ROWS)
    units = unit_rows(rows.read(0, rows.train_rows) if len(chosen) == rows.train_rows else rows.take(chosen))
    if (units == units[0]).all():
        raise DataError(
            "all train images have the same embedding",
            expected="embeddings that differ",
            got=f"{len(units)} equal rows",
            where=embed.place.uri,
            fix="train the pretext longer, or take other --features",
        )
    is_whole = mine is not None and len(chosen) == rows.train_rows
    return SampledSpace(chosen, make_space(units, _mined(mine) if is_whole else None))


def drawn(num_rows: int, count: int) -> Ints:
    """All rows, or a seeded sample of `count` of them, ascending."""
    if num_rows <= count:
        return np.arange(num_rows)
    return np.sort(permutation(0, "probed images", 0, num_rows)[:count])


def _mined(mine: Artifact | None) -> Ints | None:
    if mine is None or mine.facts.get("space") == WHITENED:
        return None
    gids, ids = neighbor_ids(mine, NEIGHBORS)
    return np.searchsorted(gids, ids) if ids.shape[1] == NEIGHBORS else None
