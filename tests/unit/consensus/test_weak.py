"""Weak features: when k-means is taken, and that its rule gives its clusters for any rows."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.consensus.cluster import consensus
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.weak import are_weak, plain_kmeans
from tests.unit.consensus.naive import blobs, same_partition


def test_a_score_is_compared_with_what_the_sizes_allow() -> None:
    even, uneven = np.arange(90) % 3, np.repeat([0, 1, 2], [80, 5, 5])
    assert are_weak(0.65, even, 3) and not are_weak(0.67, even, 3)
    shares = np.array([80, 5, 5]) / 90
    most = -(shares * np.log(shares)).sum() / np.log(3)
    assert are_weak(0.65 * most, uneven, 3) and not are_weak(0.67 * most, uneven, 3)


def test_the_rule_is_the_nearest_mean_of_the_clusters() -> None:
    rows, group = blobs((60, 30, 45), 8, spread=2.5)
    labels, member = plain_kmeans(1, [rows[:, ::-1], rows], 3, 0)
    assert same_partition(labels, group)
    assert np.bincount(labels).tolist() == [60, 45, 30]
    means = np.stack([unit_rows(rows)[labels == cluster].mean(axis=0) for cluster in range(3)])
    new, _ = blobs((50, 50, 50), 8, spread=3.0, seed=5)
    square = np.square(unit_rows(new)[:, None] - means[None]).sum(axis=2)
    said = member.summed([np.zeros_like(new), new])
    np.testing.assert_array_equal(said.argmax(axis=1), square.argmin(axis=1))
    assert member.reading.source == 1 and not member.reading.is_root


@pytest.mark.parametrize("is_weak", [False, True])
def test_noise_is_clustered_by_k_means_and_groups_are_not(is_weak: bool) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(240, 12)).astype(np.float32) if is_weak else blobs((90, 80, 70), 12)[0]
    found = consensus(rows, 3, 0)
    assert found.is_plain == is_weak
    probs = found.ensemble.probabilities([rows])
    np.testing.assert_array_equal(probs.argmax(axis=1), found.labels)
    np.testing.assert_allclose(probs, found.probabilities, atol=1e-6)
    if is_weak:
        units = unit_rows(rows)
        means = np.stack([units[found.labels == cluster].mean(axis=0) for cluster in range(3)])
        square = np.square(units[:, None] - means[None]).sum(axis=2)
        assert (square.argmin(axis=1) == found.labels).mean() > 0.97  # Lloyd has ended, or all but
        assert len(found.groupings) == 1 and found.agreement.min() == 1


def test_two_sources_that_show_different_things_are_not_weak() -> None:
    """Groups of one say nothing of those of the other: together each scores half of what it does alone."""
    rows, group = blobs((90, 80, 70), 12)
    order = np.random.default_rng(1).permutation(len(rows))
    other, other_group = rows[order], group[order]
    found = consensus((rows, other), 3, 0)
    assert found.score < 0.66
    assert not found.is_plain
    assert same_partition(found.labels, group) or same_partition(found.labels, other_group)
