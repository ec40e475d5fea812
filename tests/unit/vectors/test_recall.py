from __future__ import annotations

import numpy as np
import pytest

from rayscan.storage import Place
from rayscan.vectors import recall
from rayscan.vectors.parts import EmbeddingRows, row_ranges
from rayscan.vectors.recall import RecallTask, check_recall, exact_scores, sample
from testing.matrices import brute_force, embedded, planted

K = 10


@pytest.mark.parametrize("rows_per_range", [64, 617])
def test_counts_the_neighbors_that_are_wrong(tmp_path, monkeypatch, rows_per_range):
    monkeypatch.setattr(recall, "ROWS_AT_ONCE", 50)
    x = planted()
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    queries = np.sort(np.random.default_rng(5).choice(617, 200, replace=False))
    scores, ids = (part[queries] for part in brute_force(x, K))

    def verdict(ids, scores):
        return check_recall(
            [exact_scores(RecallTask(span, queries, ids)) for span in row_ranges(rows, rows_per_range)],
            scores,
        )

    right = verdict(ids, scores)
    assert right.recall == 1.0 and right.max_score_error < 1e-7

    worst = (x[queries].astype(np.float64) @ x.T.astype(np.float64)).argmin(1)
    spoiled, spoiled_scores = ids.copy(), scores.copy()
    spoiled[:60, 3] = worst[:60]
    spoiled_scores[:60, 3] = np.einsum("qd,qd->q", x[queries[:60]], x[worst[:60]])
    assert verdict(spoiled, spoiled_scores).recall == pytest.approx(1 - 60 / (200 * K))
    off = scores.copy()
    off[7, 2] += 0.125
    assert verdict(ids, off).max_score_error == pytest.approx(0.125, abs=1e-6)
    itself = ids.copy()
    itself[0, 0] = queries[0]  # a row is no neighbor of its own, however well it scores
    assert verdict(itself, scores).recall < 1


def test_a_tie_broken_the_other_way_is_no_miss(tmp_path):
    x = np.repeat(np.eye(2, dtype=np.float32), [3, 9], axis=0)
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x))
    found = np.array([[1, 2, 11]])  # of the nine at score 0, brute force would name row 3
    (span,) = row_ranges(rows, 100)
    verdict = check_recall(
        [exact_scores(RecallTask(span, np.array([0]), found))], np.array([[1, 1, 0]], np.float32)
    )
    assert verdict.recall == 1.0 and verdict.max_score_error == 0.0


def test_sample_is_distinct_fixed_and_whole_when_small():
    assert sample(12).tolist() == list(range(12))
    big = sample(50_000)
    assert len(set(big.tolist())) == 1000 and big.min() >= 0 and big.max() < 50_000
    np.testing.assert_array_equal(big, sample(50_000))
