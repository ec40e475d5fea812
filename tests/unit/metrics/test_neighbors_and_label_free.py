"""Neighbor purity and label-free facts against naive loops and derived limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from rayscan.metrics.label_free import collapse, has_fallen, nmi_nn
from rayscan.metrics.purity import neighbor_purity


def graph(images: int, neighbors: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random neighbors, never the anchor itself; the anchors are every other gid."""
    rng = np.random.default_rng(seed)
    anchors = np.arange(0, images, 2)
    rows = [rng.permutation(np.delete(np.arange(images), anchor))[:neighbors] for anchor in anchors]
    return anchors, np.stack(rows)


def test_neighbor_purity_equals_a_loop_over_pairs() -> None:
    anchors, ids = graph(60, 20)
    label_of = np.random.default_rng(1).integers(-1, 3, 60)
    got = neighbor_purity([(anchors, ids, None)], label_of, (1, 5, 20, 50))
    pieces = [(anchors[:7], ids[:7], None), (anchors[7:], ids[7:], None)]
    assert neighbor_purity(pieces, label_of, (1, 5, 20, 50)) == got
    assert sorted(got) == [1, 5, 20]
    for k, purity in got.items():
        pairs = [
            label_of[a] == label_of[i]
            for a, row in zip(anchors, ids, strict=True)
            for i in row[:k]
            if label_of[a] >= 0 and label_of[i] >= 0
        ]
        assert purity == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_neighbor_purity_says_nothing_without_labels() -> None:
    anchors, ids = graph(10, 5)
    assert neighbor_purity([(anchors, ids, None)], np.full(10, -1), (1, 5)) == {}


def test_collapse_facts_at_both_ends() -> None:
    even = collapse(np.repeat(np.arange(8), 5), 8)
    assert (even["used_clusters"], even["largest_share"]) == (8, 1 / 8)
    assert even["balance"] == pytest.approx(1.0)
    assert collapse(np.zeros(40, np.int64), 8) == {"used_clusters": 1, "balance": 0.0, "largest_share": 1.0}
    # half the images in one cluster, the rest even over two: H = 1.5 log 2
    assert collapse(np.array([0, 0, 1, 2]), 4)["balance"] == pytest.approx(1.5 * math.log(2) / math.log(4))


def test_neighbor_information_at_its_limits() -> None:
    cluster_of = np.repeat(np.arange(4), 8)
    same = np.stack([[i // 8 * 8 + (i % 8 + s) % 8 for s in range(1, 6)] for i in range(32)])
    assert nmi_nn(cluster_of, np.arange(32), same, 4) == pytest.approx(1.0)
    assert nmi_nn(np.zeros(32, np.int64), np.arange(32), same, 4) == 0.0
    # every anchor meets all four clusters equally often over its neighbors: they say nothing of it
    balanced = np.tile(np.arange(4), 2)
    ring = np.array([[0, 1, 2, 3, 4], [4, 5, 6, 7, 0], [1, 2, 3, 0, 5], [5, 6, 7, 4, 1]])
    evenly = np.stack([np.roll(np.arange(8), -row)[:4] for row in range(8)])
    assert nmi_nn(balanced, np.arange(8), evenly, 4) == pytest.approx(0.0, abs=1e-12)
    assert 0 < nmi_nn(balanced, np.arange(4), ring, 4) < 1


def test_neighbor_information_equals_a_loop_over_five_neighbors_both_ways() -> None:
    anchors, ids = graph(40, 9)
    cluster_of = np.random.default_rng(2).integers(0, 3, 40)
    left, right = [], []
    for anchor, row in zip(anchors, ids, strict=True):
        for neighbor in row[:5]:
            left += [cluster_of[anchor], cluster_of[neighbor]]
            right += [cluster_of[neighbor], cluster_of[anchor]]
    expected = mutual_info_score(left, right) / math.log(3)
    assert nmi_nn(cluster_of, anchors, ids, 3) == pytest.approx(expected, abs=1e-12)


def test_the_guard_lets_neighbors_be_corrected_and_stops_a_collapse() -> None:
    ids = np.stack([[i // 8 * 8 + (i % 8 + s) % 8 for s in range(1, 6)] for i in range(16)])
    found, collapsed = np.repeat([0, 1], 8), np.zeros(16, np.int64)
    before, after = (nmi_nn(clusters, np.arange(16), ids, 2) for clusters in (found, collapsed))
    assert has_fallen(before, after, 0.05)
    assert not has_fallen(1.0, 0.951, 0.05)
    assert has_fallen(1.0, 0.949, 0.05)
    assert has_fallen(1.0, 0.999, 0.0)
    assert not has_fallen(1.0, 1.0, 0.0)
