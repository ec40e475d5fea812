"""The nearest images of a run: its stored features, searched by cosine."""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.assignments import FILE
from rayscan.vectors.parts import EmbeddingRows

ROWS_AT_ONCE = 16_384
SHARED_FROM_BYTES = 100_000_000


class KnownImages:
    """All images of a run in the memory of this process."""

    def __init__(self, embed: Artifact, assign: Artifact, *, threads: int = 1) -> None:
        """Load the features and the addresses of the images.

        Args:
            embed: Features, unit rows.
            assign: Assignments of the same images, in any order.
            threads: That search; one alone searches what threads would take longer to share out.
        """
        self._threads = threads if self.bytes_of(embed) >= SHARED_FROM_BYTES else 1
        rows = EmbeddingRows(embed)
        self._index = faiss.IndexFlatIP(rows.dim)
        total = int(embed.facts["rows"])
        for first in range(0, total, ROWS_AT_ONCE):
            self._index.add(rows.read(first, min(first + ROWS_AT_ONCE, total)))
        table = assign.read_table(FILE, columns=["gid", "id", "source", "key"])
        at = pc.index_in(pa.array(rows.gids), table["gid"])
        self._images = table.take(at)

    @staticmethod
    def bytes_of(embed: Artifact) -> int:
        """Memory of their features."""
        return int(embed.facts["rows"]) * int(embed.facts["dim"]) * 4

    def nearest(self, features: NDArray[np.float32], k: int) -> list[list[dict[str, Any]]]:
        """The nearest images of each row, nearest first, with their cosine.

        Args:
            features: Unit rows [n, D].
            k: Images a row; fewer where there are fewer.
        """
        faiss.omp_set_num_threads(self._threads)  # of the thread that asks
        scores, found = self._index.search(features, min(k, self._index.ntotal))
        images = self._images.take(pa.array(found.ravel())).to_pylist()
        return [
            [
                {**images[row * len(line) + at], "cosine": round(float(score), 6)}
                for at, score in enumerate(line.tolist())
            ]
            for row, line in enumerate(scores)
        ]
