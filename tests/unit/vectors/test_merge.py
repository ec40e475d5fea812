from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rayscan.storage import Place
from rayscan.vectors import merge
from rayscan.vectors.merge import MARGIN, SPARE, Block, Proposal, blocks, nearest, split_rows
from rayscan.vectors.parts import EmbeddingRows
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


def mined(tmp_path, x: Rows, num_shards: int, *, k: int, block: int = 100) -> tuple[Rows, Ids]:
    """Through shards that hold their rows."""
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    return mined_by(rows, k, lambda searched: LocalShards(x[searched], num_shards), block)


@pytest.mark.parametrize("num_shards", [1, 3, 8])
@pytest.mark.parametrize("k", [1, 7, 50, 600])
def test_equals_brute_force_with_copies_and_ties(tmp_path, num_shards, k):
    x = planted()
    want_scores, want_ids = brute_force(x, k)
    assert k == 1 or (np.diff(want_scores) == 0).mean() > 0.1  # the ties are there
    scores, ids = mined(tmp_path, x, num_shards, k=k)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_equals_brute_force_on_digits(tmp_path, num_shards):
    x = unit(load_digits().data)
    scores, ids = mined(tmp_path, x, num_shards, k=20, block=500)
    want_scores, want_ids = brute_force(x, 20)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_array_equal(scores, want_scores)


class Blurred(LocalShards):
    """Shards whose proposals are off by as much as MARGIN allows for, differently at every call."""

    rng = np.random.default_rng(0)

    def propose(self, queries: Rows, width: int) -> list[Proposal]:
        self.widths.append(width)
        everything = [shard.search(queries, len(shard)) for shard in self.shards]
        out = []
        for scores, local in everything:
            blurred = scores + self.rng.uniform(-0.49, 0.49, scores.shape).astype(np.float32) * np.float32(
                MARGIN
            )
            order = np.argsort(-blurred, axis=1)[:, :width]
            out.append((np.take_along_axis(blurred, order, axis=1), np.take_along_axis(local, order, axis=1)))
        return out


def crowd(seed: int) -> Rows:
    """300 rows in 6 tight bundles: scores within one differ by 1e-7 to 1e-5, too little for float32."""
    rng = np.random.default_rng(seed)
    return unit(np.repeat(rng.normal(size=(6, 16)), 50, axis=0) + rng.normal(size=(300, 16)) * 1e-3)


@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_the_error_of_proposals_never_shows(num_shards):
    x = crowd(1)
    exact = (x.astype(np.float64) @ x.astype(np.float64).T).astype(np.float32)
    want = np.array([np.lexsort((np.arange(300), -row))[:6] for row in exact])
    for shards in (LocalShards(x, num_shards), Blurred(x, num_shards)):
        scores, positions = nearest(x, shards, 6)
        np.testing.assert_array_equal(positions, want)
        np.testing.assert_array_equal(scores, np.take_along_axis(exact, want, axis=1))
        assert shards.widths[0] == 6 + SPARE


def test_asks_for_more_only_where_a_shard_may_hide_something():
    """One shard, K' = 14. Query 0 has 30 rows at the very score of its last place; query 1 has none."""
    x = np.zeros((200, 200), np.float32)
    x[np.arange(200), np.arange(200)] = 1
    x[:30] = 0
    x[:30, 0] = 0.5
    x[np.arange(30), 40 + np.arange(30)] = np.sqrt(0.75)
    queries = np.zeros((2, 200), np.float32)
    queries[0, 0] = 1
    queries[1, [3, 5, 7, 9, 11, 13, 15, 100]] = np.array([8, 7, 6, 5, 4, 3, 2, 1]) / 15
    x[100:108] = 0
    x[100 + np.arange(8), [3, 5, 7, 9, 11, 13, 15, 100]] = 1
    shards = LocalShards(x, 1)
    asked: list[int] = []
    shards.propose = lambda q, w: asked.append(len(q)) or LocalShards.propose(shards, q, w)  # type: ignore[method-assign]
    _, positions = nearest(queries, shards, 6)
    assert positions.tolist() == [[0, 1, 2, 3, 4, 5], [100, 101, 102, 103, 104, 105]]
    assert (asked, shards.widths) == ([2, 1, 1], [14, 28, 56])


def test_memory_bound_changes_nothing(monkeypatch):
    x = crowd(2)
    want = nearest(x, LocalShards(x, 3), 20)
    monkeypatch.setattr(merge, "PROPOSALS_AT_ONCE", 1000)
    bounded = LocalShards(x, 3)
    got = nearest(x, bounded, 20)
    assert len(bounded.widths) > 30
    np.testing.assert_array_equal(got[1], want[1])
    np.testing.assert_array_equal(got[0], want[0])


def test_blocks_and_shards_cover_all_rows_in_order():
    representatives = np.arange(10)
    parts: Sequence[Block] = blocks(representatives, 4)
    assert [part.rows.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len({block.name for size in (2, 3, 4) for block in blocks(representatives, size)}) == 5 + 4 + 3 - 1
    for num_shards in (1, 3, 10, 64):
        shares = split_rows(representatives * 2, num_shards)
        assert np.concatenate(shares).tolist() == (representatives * 2).tolist()
        assert len(shares) == min(num_shards, 10) and min(map(len, shares)) >= 1
