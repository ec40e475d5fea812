"""Nearest centroids by proposals in bfloat16: what a processor's matrix units are fast at.

Half the squared distance, |x|^2 / 2 + |c|^2 / 2 - x c, is one product of rows with four more columns. How far
it can be off is known from what rounding left over, so that every centroid which may be the nearest is kept.
Where that is one, the row is settled; else the few are told apart in float64, in a fixed order of additions:
labels are those of exact distances, the lower number at a tie, and know nothing of the rows beside. Proof of
the bound: docs/design/020-half-precision-proposals.md.

Letters: n rows, D wide, C centroids.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rayscan.types import Ints
from rayscan.vectors.exact_distances import squares_of_pairs
from rayscan.vectors.half_search import rounded

WORD = 8
"""Centroids are looked at so many at a time, a byte each; their number is a multiple of it."""
PIECE_VALUES = 1 << 21
"""Distances held at a time by a thread: 4 MB."""
MOST = 32
"""Candidates of a row beyond which they are chosen again, by a product in float64."""
TERMS = 4
"""Columns that hold the squares of rows and centroids, two terms of bfloat16 each."""
PADDED = 2.0**120
"""Half a squared distance that is nobody's."""


@dataclass(frozen=True)
class Rounding:
    """What is known of rows and of how bfloat16 rounds them; kept, it need not be computed again."""

    left_over: NDArray[np.float64]
    """Lengths of what rounding leaves over: [n]."""
    length: NDArray[np.float64]
    """Lengths: [n]."""
    squares: torch.Tensor
    """Half the squared lengths in two terms of bfloat16: [n, 2]."""
    rest: NDArray[np.float64]
    """What the two leave over: [n]."""

    @staticmethod
    def of(rows: NDArray[np.float32]) -> Rounding:
        """Rows [n, D]."""
        _, left_over, length = rounded(rows)
        return Rounding(left_over, length, *_terms(rows))

    def __getitem__(self, span: slice) -> Rounding:
        """Some of the rows."""
        return Rounding(self.left_over[span], self.length[span], self.squares[span], self.rest[span])


@dataclass(frozen=True)
class Nearest:
    """The nearest centroids of some rows."""

    labels: NDArray[np.int32]
    """[n]."""
    low: NDArray[np.float64]
    """Squared distances are no less: [n]."""
    high: NDArray[np.float64]
    """Squared distances are no more: [n]."""
    settled: Ints
    """Rows that bfloat16 settled alone, those with candidates, and those with too many: [3]."""

    @staticmethod
    def joined(parts: list[Nearest]) -> Nearest:
        """Rows of all parts, in order."""
        return Nearest(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.low for part in parts]),
            np.concatenate([part.high for part in parts]),
            np.sum([part.settled for part in parts], axis=0),
        )

    def may_be_farthest(self, count: int) -> Ints:
        """Rows that may be among the `count` farthest from their centroid, ascending: [m]."""
        if count <= 0:
            return np.empty(0, np.int64)
        least = np.partition(self.low, -count)[-count] if count < len(self.low) else 0.0
        return np.flatnonzero(self.high >= least)


class HalfNearest:
    """Centroids [C, D] in float32, and rounded to bfloat16 beside."""

    def __init__(self, centroids: NDArray[np.float32], threads: int = 1) -> None:
        """Round the centroids; of equal ones the first stands for all.

        Args:
            centroids: [C, D], finite.
            threads: Pieces of rows looked at at a time.
        """
        first: dict[bytes, int] = {}
        for number, centroid in enumerate(centroids):
            first.setdefault(centroid.tobytes(), number)
        self._numbers = np.fromiter(first.values(), np.int32, len(first))
        self._centroids, self._threads = np.ascontiguousarray(centroids[self._numbers]), threads
        count, dim = self._centroids.shape
        half, left_over, length = rounded(self._centroids)
        squares, rest = _terms(self._centroids)
        self._half = torch.zeros(-(-count // WORD) * WORD, dim + TERMS, dtype=torch.bfloat16)
        self._half[:count, :dim] = -half
        self._half[:count, dim : dim + 2] = 1
        self._half[:count, dim + 2 :] = squares
        self._half[count:, dim + 2] = PADDED
        self._left_over, self._longest = float(left_over.max()), float(length.max())
        self._rest = float(rest.max())
        self._piece = max(64, PIECE_VALUES // len(self._half) // 64 * 64)

    def nearest(self, rows: NDArray[np.float32], rounding: Rounding | None = None) -> Nearest:
        """The nearest centroid of each row.

        Args:
            rows: [n, D], finite.
            rounding: What is known of the rows, if that has been kept.
        """
        known = Rounding.of(rows) if rounding is None else rounding
        spans = [slice(at, at + self._piece) for at in range(0, max(1, len(rows)), self._piece)]
        items = [(rows[span], known[span]) for span in spans]
        if self._threads == 1 or len(items) == 1:
            return Nearest.joined([self._of_piece(*item) for item in items])
        with ThreadPoolExecutor(self._threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return Nearest.joined(list(pool.map(lambda item: self._of_piece(*item), items)))

    def _of_piece(self, rows: NDArray[np.float32], known: Rounding) -> Nearest:
        dim = rows.shape[1]
        left = torch.ones(len(rows), dim + TERMS, dtype=torch.bfloat16)
        left[:, :dim] = torch.from_numpy(np.ascontiguousarray(rows))
        left[:, dim : dim + 2] = known.squares
        product = torch.mm(left, self._half.T).view(torch.int16)
        error = self._error(known)
        if not len(rows):
            return Nearest(np.empty(0, np.int32), error, error, np.zeros(3, np.int64))
        # of one bfloat16 below zero any will do: all of them are candidates
        score = (product.amin(dim=1).numpy().astype(np.int32) << 16).view(np.float32).astype(np.float64)
        cut = highest(score, error)
        row, centroid = _candidates(product.numpy(), cut)
        count = np.bincount(row, minlength=len(rows))
        is_lost = (cut == 0) | (count > MOST)
        if is_lost.any():
            stays = ~is_lost[row]
            lost = np.flatnonzero(is_lost)
            again, nearest = np.nonzero(self._near_in_float64(rows[lost]))
            row, centroid = np.append(row[stays], lost[again]), np.append(centroid[stays], nearest)
        settled = np.array([(count == 1)[~is_lost].sum(), (count > 1)[~is_lost].sum(), is_lost.sum()])
        off = error + _half_place(score)
        low = 2 * np.maximum(score - off, 0)
        high = np.where(cut > 0, 2 * (np.maximum(score, 0) + off), np.inf)
        labels = self._numbers[self._settled(rows, row, centroid)]
        return Nearest(labels, np.where(cut > 0, low, 0), high, settled)

    def _error(self, known: Rounding) -> NDArray[np.float64]:
        """Bound on |product before it is rounded - half the squared distance|: [n]."""
        length, left_over = known.length, known.left_over
        columns = self._centroids.shape[1] + TERMS
        rounding = left_over * self._longest + (length + left_over) * self._left_over
        magnitude = (length + left_over) * (self._longest + self._left_over) + length**2 + self._longest**2
        additions = columns * 2.0**-23 * magnitude + columns * 2.0**-120
        error: NDArray[np.float64] = rounding + additions + known.rest + self._rest
        return error

    def _settled(self, rows: NDArray[np.float32], row: Ints, centroid: Ints) -> Ints:
        """The nearest of the candidates of each row by exact distances, the first at a tie: [n]."""
        count = np.bincount(row, minlength=len(rows))
        nearest = np.empty(len(rows), np.int64)
        is_open = count[row] > 1
        nearest[row[~is_open]] = centroid[~is_open]
        row, centroid = row[is_open], centroid[is_open]
        squared = squares_of_pairs(rows, row, self._centroids, centroid)
        order = np.lexsort((centroid, squared, row))
        row, centroid = row[order], centroid[order]
        is_first = np.diff(row, prepend=-1) > 0
        nearest[row[is_first]] = centroid[is_first]
        return nearest

    def _near_in_float64(self, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Centroids that may be the nearest by a product in float64: [n, C]."""
        x, c = rows.astype(np.float64), self._centroids.astype(np.float64)
        own, others = np.einsum("nd,nd->n", x, x), np.einsum("cd,cd->c", c, c)
        half = others / 2 - x @ c.T
        error = (x.shape[1] + 4) * 2.0**-51 * (own + others.max())
        near: NDArray[np.bool_] = half <= (half.min(axis=1) + 2 * error)[:, None]
        return near


def highest(score: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.int16]:
    """Bits of the distance above which no centroid is the nearest.

    Args:
        score: Half a squared distance in bfloat16 that a centroid has: [n].
        error: Bound on such a product before it was rounded to bfloat16: [n].

    Returns:
        [n]; zero where there is no such distance.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        bound = score + _half_place(score) + 2 * error
        # half a place of s is at most s 2^-8; rounded to float32, upwards
        cut = np.nextafter((bound / (1 - 2.0**-8)).astype(np.float32), np.float32(np.inf))
    bits = (cut.view(np.int32) >> 16).astype(np.int16)
    return np.where(np.isfinite(cut) & (cut > 0) & (cut < PADDED), bits, np.int16(0)).astype(np.int16)


def _half_place(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half a unit in the last of the 8 bits of numbers in bfloat16."""
    with np.errstate(invalid="ignore", over="ignore"):
        place: NDArray[np.float64] = np.ldexp(1.0, np.frexp(score)[1] - 9)
    return place


def _terms(rows: NDArray[np.float32]) -> tuple[torch.Tensor, NDArray[np.float64]]:
    """Half the squared lengths of rows [n, D] in two terms of bfloat16 [n, 2], and what these leave: [n]."""
    half = np.einsum("nd,nd->n", rows, rows, dtype=np.float64) / 2
    exact = torch.from_numpy(half)
    first = exact.to(torch.bfloat16)
    second = (exact - first.to(torch.float64)).to(torch.bfloat16)
    left_over = (exact - first.to(torch.float64) - second.to(torch.float64)).abs().numpy()
    return torch.stack([first, second], dim=1), left_over + rows.shape[1] * 2.0**-52 * half


def _candidates(bits: NDArray[np.int16], cut: NDArray[np.int16]) -> tuple[Ints, Ints]:
    """Row and column of everything up to the cut, by rows; eight columns are looked at at once."""
    is_near = bits <= cut[:, None]
    words = np.flatnonzero(is_near.view(np.uint64))
    at, place = np.nonzero(is_near.reshape(-1, WORD)[words])
    per_row = bits.shape[1] // WORD
    return words[at] // per_row, words[at] % per_row * WORD + place
