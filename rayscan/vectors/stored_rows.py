"""Rows of a shard that does not hold them in float32: what it needs of them is read again.

A shard in half precision proposes from rounded rows. How far its proposals may be off is known
(`HALF_MARGIN`), so all that can come in is asked for and scored from the rows on storage: the answer is that
of float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rayscan.errors import ArtifactError
from rayscan.types import Ints
from rayscan.vectors.merge import MARGIN
from rayscan.vectors.parts import EmbeddingRows, require_unit_rows
from rayscan.vectors.rescore import score_pairs

PIECE_BYTES = 1 << 25
"""Rows read at a time, in float32."""

HALF_MARGIN = 1.01e-3 + MARGIN
"""Twice what a score is off by where rows x are rounded to half precision: |q| |x' - x| <= |q| (2^-11 |x| +
2^-25 sqrt(D)), the second part for values below 2^-14. It is 5.02e-4 at lengths of 1.01 and D = 10,000."""
HALF_BOTH_MARGIN = 2.03e-3 + MARGIN
"""The same where queries are rounded as well, as a GPU does."""


def rows_at_once(dim: int) -> int:
    """Rows of a piece that are D = `dim` wide."""
    return max(1, PIECE_BYTES // (4 * dim))


class StoredRows:
    """Some rows of the embeddings, by their place in the shard."""

    def __init__(self, rows: EmbeddingRows, numbers: Ints, where: str) -> None:
        """Read nothing yet.

        Args:
            rows: The matrix.
            numbers: Rows of this shard, ascending: [n].
            where: Name of the shard, for messages.
        """
        self.rows = rows
        self.numbers = numbers
        self.dim = rows.dim
        self.where = where

    def __len__(self) -> int:
        """Rows of the shard (n)."""
        return len(self.numbers)

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """All rows in order, checked, some at a time.

        Raises:
            DataError: a row is not finite or longer than one.
        """
        step = rows_at_once(self.dim)
        for first in range(0, len(self), step):
            piece = self.rows.take(self.numbers[first : first + step])
            require_unit_rows(piece, self.where)
            yield piece

    def spread(self, count: int) -> NDArray[np.float32]:
        """At most `count` rows, evenly over the shard."""
        at = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))
        return self.rows.take(self.numbers[at])

    def half(self) -> NDArray[np.float16]:
        """All rows in half precision: float16 [n, D].

        Raises:
            ArtifactError: they are stored in half precision, and some are not.
            DataError: see `pieces`.
        """
        out = np.empty((len(self), self.dim), np.float16)
        first = 0
        for piece in self.pieces():
            rounded = out[first : first + len(piece)]
            rounded[:] = piece
            if self.rows.is_half and not np.array_equal(rounded, piece):
                raise ArtifactError(
                    "embed: parts are of different precision",
                    expected="float16, as the first",
                    got="float32",
                    where=self.where,
                    fix="remove this directory and run the same command again",
                )
            first += len(piece)
        return out

    def score(self, queries: NDArray[np.float32], query_at: Ints, row_at: Ints) -> NDArray[np.float32]:
        """Exact scores of chosen pairs (`rescore.score_pairs`), from the rows as stored, some at a time."""
        out = np.empty(len(row_at), np.float32)
        distinct, number = np.unique(row_at, return_inverse=True)
        step = rows_at_once(self.dim)
        for first in range(0, len(distinct), step):
            wanted = distinct[first : first + step]
            some = np.flatnonzero((number >= first) & (number < first + len(wanted)))
            x = self.rows.take(self.numbers[wanted])
            out[some] = score_pairs(queries, x, query_at[some], number[some] - first)
        return out
