"""When a search in bfloat16 pays and what it holds, said without torch (`half_search`, `half_nearest`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUERY_BLOCK = 512
ROW_TILE = 8192
"""Rows of a product: 8 MB of scores for a block of queries."""
TILES = 8
"""Tiles whose scores are kept until the last place in all of them is known: 67 MB."""
MAX_WIDTH = 128
"""Best rows a query may want: fewer than groups in a tile, so that the first tile has a last place."""
MIN_ROWS = 4 * ROW_TILE
"""Below, too large a share of the rows is among the best of some tile."""
BYTES_OF_A_BLOCK = 3 * QUERY_BLOCK * ROW_TILE * TILES
"""Scores of a block of queries, their largest, and what is selected, generously."""
MIN_CENTROIDS = 500
MIN_VALUES = 100_000
"""Centroids, and values of them, below which rounding and selection take what the product gains: with
AVX-512, 0.9 times as fast at 256 x 128, 1.2 times at 1,000 x 128 and 1.5 times at 512 x 512."""


def pays(centroids: NDArray[np.float32]) -> bool:
    """Whether so many centroids [C, D] are found faster by bfloat16 where there are units for it."""
    return len(centroids) >= MIN_CENTROIDS and centroids.size >= MIN_VALUES
