"""Shards in half precision find what float32 brute force finds; what they hold, and what a GPU can."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rayscan.errors import ArtifactError, FleetError
from rayscan.fleet.memory import shard_bytes
from rayscan.fleet.search_settings import IvfSettings, SearchSettings
from rayscan.storage import Place
from rayscan.vectors import shard_search, stored_rows
from rayscan.vectors.gpu_memory import SCRATCH_BYTES, require_gpu_memory
from rayscan.vectors.ivf import IvfSearch, train_centroids
from rayscan.vectors.merge import MARGIN, nearest
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.shard_search import ShardSearch
from rayscan.vectors.stored_rows import HALF_BOTH_MARGIN, HALF_MARGIN, StoredRows
from testing.matrices import (
    Ids,
    LocalShards,
    Rows,
    brute_force,
    embedded,
    mined_by,
    planted,
    unit,
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces and tiles of 50 rows, so that every shard has several."""
    monkeypatch.setattr(stored_rows, "PIECE_BYTES", 50 * 4 * 12)


class HalfShards(LocalShards):
    """As actors hold them under `mine.storage` float16."""

    def __init__(self, rows: EmbeddingRows, numbers: Sequence[Ids], margin: float) -> None:
        self.shards = [
            ShardSearch(StoredRows(rows, some, "test"), threads=1, use_gpu=False, where="test")
            for some in numbers
        ]
        self.sizes = [len(shard) for shard in self.shards]
        self.widths = []
        self.margin = margin


def mined(tmp_path, x: Rows, num_shards: int, k: int, margin: float = HALF_MARGIN) -> tuple[Rows, Ids]:
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))

    def held(searched: Ids) -> HalfShards:
        shards = HalfShards(rows, np.array_split(searched, num_shards), margin)
        assert all(shard.rows.dtype == np.float16 for shard in shards.shards)
        return shards

    return mined_by(rows, k, held)


@pytest.mark.parametrize("num_shards", [1, 3, 8])
@pytest.mark.parametrize("k", [1, 20, 600])
def test_equals_float32_brute_force_with_copies_and_ties(tmp_path, num_shards, k):
    x = planted()
    scores, ids = mined(tmp_path, x, num_shards, k)
    want_scores, want_ids = brute_force(x, k)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


@pytest.mark.parametrize("num_shards", [1, 3])
def test_equals_brute_force_where_rounding_changes_the_order(tmp_path, num_shards):
    x = unit(load_digits().data)
    want_scores, want_ids = brute_force(x, 20)
    rounded = brute_force(x.astype(np.float16).astype(np.float32), 20)[1]
    assert (rounded != want_ids).mean() > 0.01  # half precision alone would not do
    scores, ids = mined(tmp_path, x, num_shards, 20)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


def test_the_margin_is_that_of_half_precision(tmp_path):
    """The worst rows: every value just below the middle between two halves. MARGIN alone would lose rows."""
    rng = np.random.default_rng(0)
    powers = rng.choice([-1.0, 1.0], (400, 64)) * 2.0 ** rng.integers(-4, -2, (400, 64))
    x = (powers * np.where(rng.random((400, 64)) < 0.5, 1 + 2.0**-11 - 2.0**-20, 1.0)).astype(np.float32)
    exact = x.astype(np.float64) @ x.astype(np.float64).T
    half = x.astype(np.float16).astype(np.float64)
    assert 2 * np.abs(x.astype(np.float64) @ half.T - exact).max() <= HALF_MARGIN
    assert 2 * np.abs(half @ half.T - exact).max() <= HALF_BOTH_MARGIN
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    want = np.array([np.lexsort((np.arange(400), -row))[:10] for row in exact.astype(np.float32)])
    numbers = np.array_split(np.arange(400), 3)
    np.testing.assert_array_equal(nearest(x, HalfShards(rows, numbers, HALF_MARGIN), 10)[1], want)
    assert (nearest(x, HalfShards(rows, numbers, MARGIN), 10)[1] != want).any()


def test_embeddings_stored_in_half_precision_lose_nothing(tmp_path, monkeypatch):
    """The rows held are the rows stored: no margin, and nothing is read again."""
    x = planted().astype(np.float16)
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    assert rows.is_half and SearchSettings(5, 2, storage="float16").margin(rows) == MARGIN
    monkeypatch.setattr(StoredRows, "score", None)
    scores, ids = mined(tmp_path, x, 3, 7, MARGIN)
    want_scores, want_ids = brute_force(x.astype(np.float32), 7)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


def test_parts_of_different_precision_are_refused(tmp_path):
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), planted()))
    assert not rows.is_half
    rows.__dict__["is_half"] = True  # as if the first part were
    with pytest.raises(ArtifactError, match="different precision"):
        StoredRows(rows, np.arange(617), "test").half()


@pytest.mark.parametrize("codes", ["flat", "sq8"])
def test_lists_alone_propose_and_score_the_same(tmp_path, codes):
    x = planted()
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    numbers, centers = np.arange(3, 600), train_centroids(x, 9)
    held, stored = (
        IvfSearch(part, centers, codes=codes, threads=1, where="test")
        for part in (x[numbers], StoredRows(rows, numbers, "test"))
    )
    for nprobe in (9, 2):
        for one, other in zip(
            held.search(x[:80], 30, nprobe), stored.search(x[:80], 30, nprobe), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    rng = np.random.default_rng(0)
    pairs = rng.integers(80, size=500), rng.integers(len(numbers), size=500)
    np.testing.assert_array_equal(held.score(x[:80], *pairs), stored.score(x[:80], *pairs))


def test_memory_asked_for():
    """1.28 M x 2048 in 8 shards: rows of 8,192 bytes in float32, 4,096 in half; beside lists none at all.

    A CPU shard in float32 may have them in bfloat16 beside.
    """
    shares = 160_000
    empty = np.empty((0, 1))
    lists = [IvfSettings(empty, codes, empty, empty, empty, 0.99) for codes in ("flat", "sq8")]  # type: ignore[arg-type]

    def per_row(settings: SearchSettings) -> int:
        grown = shard_bytes(16 * shares, 2048, settings) - shard_bytes(8 * shares, 2048, settings)
        return grown // shares

    assert per_row(SearchSettings(50, 8)) == 8192 + 4096
    assert per_row(SearchSettings(50, 8, gpus_per_shard=1)) == 8192
    assert per_row(SearchSettings(50, 8, storage="float16")) == 4096
    assert [per_row(SearchSettings(50, 8, ivf=one)) for one in lists] == [16_392, 10_248]
    assert [per_row(SearchSettings(50, 8, ivf=one, storage="float16")) for one in lists] == [8200, 2056]


def test_margins(tmp_path):
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), planted()))
    assert SearchSettings(5, 2).margin(rows) == MARGIN
    assert SearchSettings(5, 2, storage="float16").margin(rows) == HALF_MARGIN
    assert SearchSettings(5, 2, storage="float16", gpus_per_shard=0.5).margin(rows) == HALF_BOTH_MARGIN


def test_a_shard_asks_its_gpu_first(tmp_path, monkeypatch):
    """As on a GPU of which 1 GB is free: refused before anything of faiss is made there."""
    import torch

    monkeypatch.setattr(shard_search.faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (10**9, 80 * 10**9))
    with pytest.raises(FleetError, match=r"(?s)1\.00 GB of 80\.00 GB.*617 rows x 12 x 4 bytes.*shard 3"):
        ShardSearch(planted(), threads=1, use_gpu=True, where="shard 3")
    stored = StoredRows(EmbeddingRows(embedded(Place(str(tmp_path)), planted())), np.arange(617), "shard 3")
    with pytest.raises(FleetError, match=r"617 rows x 12 x 2 bytes"):
        ShardSearch(stored, threads=1, use_gpu=True, where="shard 3")


def test_a_gpu_takes_what_fits_and_refuses_the_rest_with_numbers():
    """80 GB, of which 78 are free; rows of 2,048 values."""
    gpu = {"free": 78 * 10**9, "total": 80 * 10**9, "where": "rows 0..9"}
    fits = (78 * 10**9 - SCRATCH_BYTES) // (2048 * 4)
    require_gpu_memory(fits, 2048, 4, share=1.0, **gpu)
    with pytest.raises(FleetError, match=r"(?s)78\.00 GB of 80\.00 GB.*78\.00 GB.*float16"):
        require_gpu_memory(fits + 1, 2048, 4, share=1.0, **gpu)
    require_gpu_memory(2 * fits, 2048, 2, share=1.0, **gpu)
    with pytest.raises(
        FleetError, match=r"(?s)at most 20\.00 GB.*0\.25 of the GPU.*gpus-per-worker 0"
    ) as refused:
        require_gpu_memory(fits, 2048, 2, share=0.25, **gpu)
    assert "float16" not in str(refused.value)
