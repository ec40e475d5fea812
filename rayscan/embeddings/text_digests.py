"""Texts of millions of rows as numbers of 128 bits, which are sorted and found without a dictionary.

Equal digests are taken for equal texts: two of 10 million texts share a digest of BLAKE2b by chance with a
probability below 2^-80, and nobody knows how to find such texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayscan.types import Ints

NONE = -1


@dataclass(frozen=True, eq=False)
class Digests:
    """One per row."""

    words: NDArray[np.uint64]
    """uint64 [n, 2]."""
    is_there: NDArray[np.bool_]
    """Whether the row has a text that is not empty [n]."""

    def __len__(self) -> int:
        """Rows."""
        return len(self.words)


def hash_text(text: str) -> bytes:
    """BLAKE2b of a text, 16 bytes."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def digests_of(texts: Iterable[pa.Array], change: Callable[[str], str | None] | None = None) -> Digests:
    """Digests of the texts of all rows.

    Args:
        texts: Arrays of strings, in the order of the rows.
        change: Turns a text into the one to be compared; None for one that shall equal no other.
    """
    words, is_there = [np.empty((0, 2), np.uint64)], [np.empty(0, bool)]
    for array in texts:
        values = array.to_pylist()
        if change is not None:
            values = [change(text) if text else None for text in values]
        hashed = b"".join(hash_text(text or "") for text in values)
        words.append(np.frombuffer(hashed, "<u8").reshape(-1, 2).astype(np.uint64))
        is_there.append(np.array([bool(text) for text in values], bool))
    return Digests(np.concatenate(words), np.concatenate(is_there))


def find(wanted: Digests, among: Digests) -> Ints:
    """The first row of `among` with each wanted text, `NONE` if there is none: int64 [n]."""
    order = _sorted(among)
    high, low = among.words[order, 0], among.words[order, 1]
    at = np.searchsorted(high, wanted.words[:, 0])
    found = np.full(len(wanted), NONE, np.int64)
    open_rows = np.flatnonzero(wanted.is_there)
    while len(open_rows):  # again only where upper halves are equal and lower ones are not
        place = at[open_rows]
        open_rows = open_rows[place < len(order)]
        place = at[open_rows]
        same = high[place] == wanted.words[open_rows, 0]
        equal = same & (low[place] == wanted.words[open_rows, 1])
        found[open_rows[equal]] = order[place[equal]]
        open_rows = open_rows[same & ~equal]
        at[open_rows] += 1
    return found


def first_repeated(digests: Digests) -> tuple[int, int] | None:
    """The lowest row that repeats a text, after the first row with that text; None if no text comes twice."""
    order = _sorted(digests)
    words = digests.words[order]
    repeats = np.flatnonzero((words[1:] == words[:-1]).all(axis=1)) + 1
    if not len(repeats):
        return None
    at = int(repeats[np.argmin(order[repeats])])
    heads = np.flatnonzero((words == words[at]).all(axis=1))
    return int(order[heads[0]]), int(order[at])


def _sorted(digests: Digests) -> Ints:
    """Rows with a text by digest, equal ones by row."""
    rows = np.flatnonzero(digests.is_there)
    words = digests.words[rows]
    return rows[np.lexsort((words[:, 1], words[:, 0]))]
