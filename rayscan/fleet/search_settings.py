"""How the shards of an index are searched; nothing here changes the result of an exact search but K."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints
from rayscan.vectors.merge import MARGIN
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.stored_rows import HALF_BOTH_MARGIN, HALF_MARGIN


@dataclass(frozen=True)
class SearchSettings:
    """How to search; nothing here changes the result but `num_neighbors`."""

    num_neighbors: int
    """K."""
    num_shards: int
    """Index shards."""
    threads: int = 1
    """Search threads per shard."""
    gpus_per_shard: float = 0.0
    """GPUs each shard reserves; with any, it searches there."""
    ivf: IvfSettings | None = None
    """How to search approximately; exact without."""
    pending_seconds: float = 1800.0
    """Longest wait for a node that can hold a shard."""
    storage: str = "float32"
    """float16: shards hold rows in half precision, or lists alone, and read again what they must score."""

    def margin(self, rows: EmbeddingRows) -> float:
        """How far a proposed score may be off, twice (`merge.Shards`)."""
        if self.ivf is not None:
            return np.inf if self.ivf.codes == "sq8" else MARGIN
        if self.storage == "float32" or rows.is_half:
            return MARGIN
        return HALF_BOTH_MARGIN if self.gpus_per_shard > 0 else HALF_MARGIN


@dataclass(frozen=True)
class IvfSettings:
    """Approximate search by inverted lists, of which as many are read as a sample needs."""

    centroids: NDArray[np.float32]
    """Centroids of the coarse quantizer: [nlist, D]."""
    codes: str
    """flat or sq8, see `IvfSearch`."""
    sample: Ints
    """Rows on which nprobe is chosen: [q]."""
    representatives: Ints
    """Representative of each: [q]."""
    kth: NDArray[np.float64]
    """Exact score of the K-th neighbor of each: [q]."""
    recall: float
    """Recall wanted on them."""
