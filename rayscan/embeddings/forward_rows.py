"""Rows that can only be read forwards from some places: compressed members, row groups of Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from rayscan.embeddings.vector_file import VectorFile
from rayscan.errors import DataError
from rayscan.storage import policy_of, retry
from rayscan.types import Ints

Pieces = Iterator[NDArray[np.float32]]
MOST_SKIPPED = 4096
"""Rows read at a time when only some of them are wanted."""


class ForwardRows:
    """Implements `vector_file.Rows`. Reading on from where the last read ended costs no second pass."""

    def __init__(
        self, file: VectorFile, starts: Callable[[int], int], begin: Callable[[int], Pieces]
    ) -> None:
        """Open nothing yet.

        Args:
            file: The file.
            starts: The last row, at or before a row, that reading can begin at.
            begin: Gives the rows from there on, some at a time.
        """
        self._file, self._starts, self._begin = file, starts, begin
        self._lock = Lock()
        self._at = 0
        """Row that `_held` begins with."""
        self._held = self._none()
        self._pieces: Pieces | None = None

    def read(self, first: int, stop: int) -> NDArray[np.float32]:
        """See `Rows.read`."""
        with self._lock:
            try:
                return retry(lambda: self._read(first, stop), policy_of(self._file.uri))
            except OSError as error:
                raise DataError(
                    "vectors cannot be read", expected="a whole file", got=error, where=self._file.where
                ) from error

    def take(self, rows: Ints) -> NDArray[np.float32]:
        """See `Rows.take`. What lies between is read too, some rows at a time, but for parts with none."""
        out = np.empty((len(rows), self._file.dim), np.float32)
        at = 0
        while at < len(rows):
            stop = int(np.searchsorted(rows, rows[at] + MOST_SKIPPED))
            out[at:stop] = self.read(int(rows[at]), int(rows[stop - 1]) + 1)[rows[at:stop] - rows[at]]
            at = stop
        return out

    def _read(self, first: int, stop: int) -> NDArray[np.float32]:
        try:
            out = np.empty((stop - first, self._file.dim), np.float32)
            start = self._starts(first)
            if self._pieces is None or first < self._at or start > self._at + len(self._held):
                self._pieces, self._at, self._held = self._begin(start), start, self._none()
            done = 0
            while done < len(out):
                self._drop_before(first + done)
                if not len(self._held):
                    self._held = self._next()
                    continue
                piece = self._held[: len(out) - done]
                out[done : done + len(piece)] = piece
                done += len(piece)
            self._drop_before(stop)
        except BaseException:
            self._pieces = None  # the next read begins anew
            raise
        return out

    def _drop_before(self, row: int) -> None:
        count = min(row - self._at, len(self._held))
        self._held, self._at = self._held[count:], self._at + count

    def _next(self) -> NDArray[np.float32]:
        assert self._pieces is not None
        piece = next(self._pieces, None)
        if piece is None:
            raise DataError(
                "a file of vectors is cut short",
                expected=f"{self._file.rows:,} rows, by its head",
                got=f"{self._at:,}",
                where=self._file.where,
                fix="copy or write it again",
            )
        return piece

    def _none(self) -> NDArray[np.float32]:
        return np.empty((0, self._file.dim), np.float32)
