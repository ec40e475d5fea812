"""Shares of rows in one process, asked as a fleet's actors are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.vectors.cluster_shard import ClusterShard, shard_bounds


class LocalPool:
    """`lloyd.Pool` in this process."""

    def __init__(self, rows: NDArray[np.float32], num_shards: int) -> None:
        """Cut the rows [N, D] into shares of whole blocks."""
        self.shards = [
            ClusterShard(rows[first:stop], first, threads=1, where="memory")
            for first, stop in shard_bounds(len(rows), num_shards)
        ]

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """See `lloyd.Pool`."""
        return [getattr(shard, method)(*arguments) for shard in self.shards]
