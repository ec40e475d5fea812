"""Lists searched one by one find what faiss finds query by query."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from rayscan.vectors import ivf_scan
from rayscan.vectors.ivf_scan import search_lists
from testing.matrices import unit


def lists_of(num_rows: int, nlist_for: int, dim: int = 12) -> faiss.IndexIVFFlat:
    """Rows around the first four fifths of the centers: some lists hold hundreds, some nothing."""
    rng = np.random.default_rng(0)
    centers = unit(rng.normal(size=(nlist_for, dim)))
    around = centers[rng.integers(0, nlist_for * 4 // 5, num_rows) ** 2 // nlist_for]
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(centers)
    index = faiss.IndexIVFFlat(quantizer, dim, nlist_for, faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    index.add(unit(around + 0.01 * rng.normal(size=(num_rows, dim))))
    return index


def by_faiss(index: faiss.IndexIVFFlat, queries: np.ndarray, k: int, nprobe: int):
    wanted = faiss.SearchParametersIVF()
    wanted.nprobe = nprobe
    return index.search(queries, k, params=wanted)


@pytest.mark.parametrize("nprobe", [1, 3, 20])
@pytest.mark.parametrize(("tile", "piece"), [(1 << 20, 1 << 14), (64, 7)])
def test_lists_one_by_one_find_what_faiss_finds(monkeypatch, nprobe, tile, piece):
    monkeypatch.setattr(ivf_scan, "TILE_VALUES", tile)
    monkeypatch.setattr(ivf_scan, "PIECE_ROWS", piece)
    index = lists_of(3_000, 20)
    sizes = [index.invlists.list_size(number) for number in range(20)]
    assert min(sizes) == 0
    assert max(sizes) > 300
    queries = unit(np.random.default_rng(1).normal(size=(150, 12)))
    scores, ids = search_lists(index, queries, 30, nprobe)
    want_scores, want_ids = by_faiss(index, queries, 30, nprobe)
    np.testing.assert_allclose(scores, want_scores, atol=1e-6)
    assert (ids == want_ids).mean() > 0.99  # two within rounding may change places
    assert [set(row) for row in ids] == [set(row) for row in want_ids]


def test_where_lists_hold_fewer_rows_the_rest_is_marked():
    index = lists_of(40, 20)
    queries = unit(np.random.default_rng(2).normal(size=(50, 12)))
    scores, ids = search_lists(index, queries, 25, 2)
    want_scores, want_ids = by_faiss(index, queries, 25, 2)
    np.testing.assert_array_equal(ids == -1, want_ids == -1)
    assert (ids == -1).any()
    assert (scores[ids == -1] == np.finfo(np.float32).min).all()
    np.testing.assert_allclose(scores[ids >= 0], want_scores[ids >= 0], atol=1e-6)
