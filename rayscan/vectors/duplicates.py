"""Exact copies among embedding rows: searched once, given back to every image afterwards.

A thousand copies of a picture would fill every candidate list with themselves. So the search sees the lowest
row of each set of equal rows (its representative), and the copies are put back by number. `expand` and
`without_self` make the neighbors of a row equal brute force over all rows, ties by row number: the K best
rows other than i are the K + 1 best rows of i's representative, less i (or less the last, if i is not among
them).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rayscan.errors import ArtifactError
from rayscan.types import Ints
from rayscan.vectors.parts import EmbeddingRows, RowRange

EXPANDED_AT_ONCE = 1 << 22
"""Rows laid out at a time while copies are put back; bounds memory to about 100 MB."""


@dataclass(frozen=True)
class Copies:
    """Sets of two and more equal rows, each cut to the lowest `keep` row numbers: nobody can need more."""

    heads: Ints
    """Representative of each set, ascending: [G]."""
    starts: Ints
    """Where each set begins in `members`, and the end: [G + 1]."""
    members: Ints
    """Row numbers, ascending within a set, the head first."""


def hash_rows(rows: RowRange) -> NDArray[np.uint64]:
    """128-bit hash of the bytes of every row of a range: uint64 [m, 2]; checks the rows on the way.

    Raises:
        DataError: a row is not finite or longer than one.
    """
    x = rows.read()
    hashed = b"".join(hashlib.blake2b(row, digest_size=16).digest() for row in x)
    return np.frombuffer(hashed, "<u8").reshape(-1, 2).astype(np.uint64)


def collapse(digests: NDArray[np.uint64], keep: int) -> tuple[Ints, Copies]:
    """Group rows by hash.

    Args:
        digests: [N, 2].
        keep: Copies of a set to remember; K + 1 for K neighbors.

    Returns:
        The representative of every row, the lowest of its equals: int64 [N]; and the sets of copies.
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable, so rows ascend within a set
    ordered = digests[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    begins = np.flatnonzero(is_first)
    sizes = np.diff(np.append(begins, len(order)))
    representatives = np.empty(len(order), np.int64)
    representatives[order] = np.repeat(order[begins], sizes)

    plural = sizes > 1
    by_head = np.argsort(order[begins[plural]])
    begins, sizes = begins[plural][by_head], np.minimum(sizes[plural][by_head], keep)
    starts = np.append(0, np.cumsum(sizes))
    members = order[_ragged(begins, sizes)]
    return representatives, Copies(order[begins], starts, members)


@dataclass(frozen=True)
class CopyPairs:
    """Rows said to be equal: one piece of checking for a worker."""

    rows: EmbeddingRows
    copies: Ints
    representatives: Ints


def copy_pairs(rows: EmbeddingRows, representatives: Ints, size: int) -> list[CopyPairs]:
    """Every row that another one stands for, in pieces of `size` rows."""
    copies = np.flatnonzero(representatives != np.arange(len(representatives)))
    cuts = [copies[at : at + size] for at in range(0, len(copies), size)]
    return [CopyPairs(rows, cut, representatives[cut]) for cut in cuts]


def verify_copies(pairs: CopyPairs) -> int:
    """Compare the bytes of rows whose hashes are equal; returns how many there were.

    Raises:
        ArtifactError: two rows differ. 128-bit hashes do not collide by chance, so the file has changed.
    """
    one, other = pairs.rows.take(pairs.copies), pairs.rows.take(pairs.representatives)
    differ = np.flatnonzero((one.view(np.uint32) != other.view(np.uint32)).any(axis=1))
    if len(differ):
        at = differ[0]
        raise ArtifactError(
            "embeddings changed while they were read",
            expected=f"row {pairs.copies[at]} equal to row {pairs.representatives[at]}, as their hashes were",
            got="other bytes",
            where=pairs.rows.artifact.place.uri,
            fix="remove this directory and run the same command again",
        )
    return len(pairs.copies)


def expand(
    scores: NDArray[np.float32], ids: Ints, copies: Copies, keep: int
) -> tuple[NDArray[np.float32], Ints]:
    """Put the copies back.

    The first `keep` representatives are enough: each brings at least its own row, and those precede every row
    of a later set.

    Args:
        scores: Of the best representatives, in the order (-score, id): [q, min(keep, representatives)].
        ids: Their row numbers, likewise.
        copies: Sets of equal rows.
        keep: Rows wanted per query; there must be as many.

    Returns:
        Scores and row numbers of the `keep` best of all rows, in the order (-score, id): [q, keep] each.
    """
    if not len(copies.heads):
        return scores[:, :keep], ids[:, :keep]
    at = np.minimum(np.searchsorted(copies.heads, ids), len(copies.heads) - 1)
    is_plural = copies.heads[at] == ids
    counts = np.where(is_plural, copies.starts[at + 1] - copies.starts[at], 1)
    out_scores = np.empty((len(ids), keep), np.float32)
    out_ids = np.empty((len(ids), keep), np.int64)
    for some in _pieces(counts.sum(axis=1)):
        count = counts[some].ravel()
        begins = np.where(is_plural[some], copies.starts[at[some]], 0).ravel()
        rows = np.repeat(ids[some].ravel(), count)
        from_copies = np.repeat(is_plural[some].ravel(), count)
        rows[from_copies] = copies.members[_ragged(begins, count)[from_copies]]
        query = np.repeat(np.arange(len(counts[some])), counts[some].sum(axis=1))
        best = first_per_query(query, np.repeat(scores[some].ravel(), count), rows, keep)
        out_scores[some] = np.repeat(scores[some].ravel(), count)[best]
        out_ids[some] = rows[best]
    return out_scores, out_ids


def limited(
    scores: NDArray[np.float32],
    ids: Ints,
    copies: Copies,
    rows: Ints,
    limit: int,
) -> tuple[NDArray[np.float32], Ints]:
    """Put at most `limit` copies of any row back, and leave the row itself out.

    Args:
        scores: Of the K + 1 best representatives of every row, in the order (-score, id): [m, K + 1].
        ids: Their row numbers, likewise.
        copies: Sets of equal rows, with at least `limit` + 1 members where they have as many.
        rows: The rows whose neighbors these are: [m].
        limit: Copies of one picture among the neighbors of an image, at least 1.

    Returns:
        Scores and row numbers of K rows, in the order (-score, id): [m, K] each.
    """
    at = np.minimum(np.searchsorted(copies.heads, ids), max(len(copies.heads) - 1, 0))
    is_plural = copies.heads[at] == ids if len(copies.heads) else np.zeros(ids.shape, bool)
    sizes = copies.starts[at + 1] - copies.starts[at] if len(copies.heads) else np.ones_like(ids)
    counts = np.where(is_plural, np.minimum(sizes, limit + 1), 1)
    keep = ids.shape[1] - 1
    out_scores, out_ids = np.empty((len(ids), keep), np.float32), np.empty((len(ids), keep), np.int64)
    for some in _pieces(counts.sum(axis=1)):
        count = counts[some].ravel()
        begins = np.where(is_plural[some], copies.starts[at[some]], 0).ravel()
        found = np.repeat(ids[some].ravel(), count)
        from_copies = np.repeat(is_plural[some].ravel(), count)
        found[from_copies] = copies.members[_ragged(begins, count)[from_copies]]
        query = np.repeat(np.arange(len(counts[some])), counts[some].sum(axis=1))
        is_self = found == rows[some][query]
        # Place of each entry within its set, were the row itself not there.
        earlier = np.concatenate([[0], np.cumsum(is_self)])
        starts = np.repeat(np.cumsum(count) - count, count)
        place = np.arange(len(found)) - starts - (earlier[:-1] - earlier[starts])
        kept = np.flatnonzero(~is_self & (place < limit))
        score = np.repeat(scores[some].ravel(), count)
        best = kept[first_per_query(query[kept], score[kept], found[kept], keep)]
        out_scores[some], out_ids[some] = score[best], found[best]
    return out_scores, out_ids


def places_in_sets(representatives: Ints) -> Ints:
    """How many equal rows come before each row: [N] -> int64 [N]."""
    order = np.argsort(representatives, kind="stable")
    begins = np.searchsorted(representatives[order], representatives[order])
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - begins
    return places


def without_self(scores: NDArray[np.float32], ids: Ints, rows: Ints) -> tuple[NDArray[np.float32], Ints]:
    """Drop from each list [m, K + 1] the row it belongs to, or the last if it is not there -> [m, K] each."""
    drop = ids == rows[:, None]
    drop[~drop.any(axis=1), -1] = True
    shape = (ids.shape[0], ids.shape[1] - 1)
    return scores[~drop].reshape(shape), ids[~drop].reshape(shape)


def first_per_query(query: Ints, scores: NDArray[np.float32], ids: Ints, keep: int) -> Ints:
    """Where the first `keep` of every query stand, in the order (-score, id).

    Args:
        query: Query of each entry, 0..q-1; each has at least `keep` entries: [n].
        scores: [n].
        ids: [n].
        keep: Entries wanted per query.

    Returns:
        Positions in the arguments: int64 [q, keep].
    """
    counts = np.bincount(query)
    begins = np.cumsum(counts) - counts
    widest = int(counts.max(initial=0))
    if widest * len(counts) <= 2 * len(query):  # about equally many each: a row of a table for every query
        order = np.argsort(query, kind="stable")
        at = (query[order], np.arange(len(order)) - begins[query[order]])
        falling = np.full((len(counts), widest), np.inf, np.float32)
        falling[at] = -scores[order]
        numbers = np.full(falling.shape, np.iinfo(np.int64).max)
        numbers[at] = ids[order]
        best = np.lexsort((numbers, falling), axis=1)[:, :keep]
        return np.asarray(order[begins[:, None] + best], np.int64)
    order = np.lexsort((ids, -scores, query))
    first: Ints = order[begins[:, None] + np.arange(keep)]
    return first


def _ragged(begins: Ints, counts: Ints) -> Ints:
    """begins[0] .. begins[0] + counts[0] - 1, begins[1] .., one after the other."""
    ends = np.cumsum(counts)
    ragged: Ints = np.arange(counts.sum()) + np.repeat(begins - (ends - counts), counts)
    return ragged


def _pieces(sizes: Ints) -> Iterator[slice]:
    """Consecutive slices whose sizes add up to about EXPANDED_AT_ONCE each, at least one item long."""
    bucket = np.cumsum(sizes) // EXPANDED_AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(bucket)) + 1).tolist(), len(sizes)]
    yield from (slice(low, high) for low, high in pairwise(cuts) if low < high)
