"""Votes and joins against hand-made cases and slow twins."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.errors import DataError
from rayscan.metrics.consensus import consensus, matched
from rayscan.metrics.merging import merge_clusters


def test_renumbered_copies_agree_fully() -> None:
    """The same grouping under other numbers: one consensus, agreement 1, ARI 1."""
    truth = np.array([0, 0, 1, 1, 2, 2])
    renumbered = np.array([2, 0, 1])[truth]
    found = consensus(np.stack([truth, renumbered, truth]), 3)
    assert found.clusters.tolist() == truth.tolist()
    assert found.agreement.tolist() == [1.0] * 6
    assert found.stability == pytest.approx(1.0)


def test_the_majority_corrects_single_errors() -> None:
    """Three groupings, each wrong about another image, numbers mixed: the vote is right about all."""
    truth = np.repeat(np.arange(3), 5)
    rows = []
    for wrong, numbers in ((0, [0, 1, 2]), (6, [1, 2, 0]), (12, [2, 0, 1])):
        row = truth.copy()
        row[wrong] = (row[wrong] + 1) % 3
        rows.append(np.array(numbers)[row])
    found = consensus(np.stack(rows), 3)
    assert matched(found.clusters, truth, 3).tolist() == truth.tolist()
    assert sorted(found.agreement)[:3] == pytest.approx([2 / 3] * 3)
    assert found.stability < 1


def test_refuses_clusters_out_of_range() -> None:
    with pytest.raises(DataError, match="number of clusters"):
        consensus(np.array([[0, 3]]), 3)


def naive_modularity(of: np.ndarray, anchors: np.ndarray, ids: np.ndarray) -> float:
    """Newman's Q over undirected links, one link at a time."""
    links = [(of[a], of[b]) for a, row in zip(anchors, ids, strict=True) for b in row]
    inside = sum(x == y for x, y in links) / len(links)
    ends = [c for pair in links for c in pair]
    return inside - sum((ends.count(c) / len(ends)) ** 2 for c in set(ends))


def graph() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three groups of 12, over-clustered by two each; links stay in the group but for one in nine."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1, 2], 12)
    of = 2 * group + np.tile([0, 1], 18)
    ids = np.stack([rng.choice(np.flatnonzero(group == g), 9) for g in group])
    ids[:, 0] = rng.integers(0, 36, 36)
    return of, np.arange(36), ids


def test_each_step_has_the_modularity_of_its_clusters() -> None:
    of, anchors, ids = graph()
    merging = merge_clusters(of, anchors, ids, 6)
    assert merging.start == pytest.approx(naive_modularity(of, anchors, ids))
    assert [join.clusters_left for join in merging.joins] == [5, 4, 3, 2, 1]
    for join in merging.joins:
        now = merging.mapping(join.clusters_left)[of]
        assert len(set(now)) == join.clusters_left
        assert join.modularity == pytest.approx(naive_modularity(now, anchors, ids))


def test_halves_of_a_group_join_and_three_are_suggested() -> None:
    of, anchors, ids = graph()
    merging = merge_clusters(of, anchors, ids, 6)
    assert merging.suggested == 3
    assert merging.mapping(3).tolist() == [0, 0, 1, 1, 2, 2]
    assert merging.joins[2].gain > 0 > merging.joins[3].gain


def test_empty_clusters_take_no_part() -> None:
    of, anchors, ids = graph()
    merging = merge_clusters(of, anchors, ids, 8)
    assert len(merging.joins) == 5
    assert set(merging.mapping(3)[of]) == {0, 1, 2}
