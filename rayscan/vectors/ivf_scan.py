"""Search of inverted lists, list by list: one matrix product for all queries that read a list.

faiss goes query by query, and fetches every row from memory for each query that comes by. A block of
thousands of queries meets each list hundreds of times; taken list by list, the work is that of the flat
search (the idea of faiss's `contrib.big_batch_search`).

Letters: q queries, D wide, k results.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints

TILE_VALUES = 1 << 20
"""Scores computed at a time: 4 MiB, so that the heaps read them from cache."""
PIECE_ROWS = 1 << 14
"""Rows of a list at a time."""


def search_lists(
    index: Any, queries: NDArray[np.float32], k: int, nprobe: int
) -> tuple[NDArray[np.float32], Ints]:
    """The best rows of the `nprobe` nearest lists, best first.

    Args:
        index: An `IndexIVFFlat` by inner product.
        queries: [q, D], contiguous.
        k: Wanted per query.
        nprobe: Lists read, at least 1.

    Returns:
        Scores float32 and row numbers int64, [q, k] each; where the lists hold fewer rows, the lowest float
        and -1.
    """
    _, lists = index.quantizer.search(queries, nprobe)
    order = np.argsort(lists, axis=None, kind="stable")
    readers = order // nprobe
    starts = np.searchsorted(lists.ravel()[order], np.arange(index.nlist + 1))
    scores = np.empty((len(queries), k), np.float32)
    ids = np.empty((len(queries), k), np.int64)
    heaps: Any = faiss.float_minheap_array_t()
    heaps.k, heaps.nh = k, len(queries)
    heaps.val, heaps.ids = faiss.swig_ptr(scores), faiss.swig_ptr(ids)
    heaps.heapify()
    tile = np.empty(TILE_VALUES, np.float32)
    for number in np.flatnonzero(np.diff(starts)).tolist():
        coming = readers[starts[number] : starts[number + 1]]
        for rows, row_ids in _pieces(index, number):
            step = TILE_VALUES // len(rows)
            for some in (coming[at : at + step] for at in range(0, len(coming), step)):
                products = tile[: len(some) * len(rows)].reshape(len(some), len(rows))
                np.matmul(queries[some], rows.T, out=products)
                here, scored, named = (faiss.swig_ptr(array) for array in (some, products, row_ids))
                heaps.addn_query_subset_with_ids(len(some), here, len(rows), scored, named, 0)
    heaps.reorder()
    return scores, ids


def _pieces(index: Any, number: int) -> Iterator[tuple[NDArray[np.float32], Ints]]:
    """Rows [n, D] of a list and their numbers [n], where the index keeps them, so many at a time."""
    if (size := index.invlists.list_size(number)) == 0:
        return
    codes = faiss.rev_swig_ptr(index.invlists.get_codes(number), size * index.code_size)
    rows = codes.view(np.float32).reshape(size, index.d)
    ids = faiss.rev_swig_ptr(index.invlists.get_ids(number), size)
    for first in range(0, size, PIECE_ROWS):
        yield rows[first : first + PIECE_ROWS], ids[first : first + PIECE_ROWS]
