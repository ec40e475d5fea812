"""Breathing k-means: starts that Lloyd's algorithm cannot mend, and its parts against loops."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rayscan.consensus.breathing import breathed, two_nearest
from rayscan.consensus.kmeans import lloyd
from tests.unit.consensus.naive import blobs, same_partition


def inertia(rows: np.ndarray, labels: np.ndarray) -> float:
    """Sum of squared distances to the mean of the own group."""
    return sum(
        float(np.square(rows[labels == c] - rows[labels == c].mean(axis=0)).sum()) for c in np.unique(labels)
    )


@pytest.fixture(scope="module")
def bad_start() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sixteen groups far apart; two of them have two centroids each, four share two."""
    rows, group = blobs((20,) * 16, 5, seed=1, spread=20.0)
    means = np.stack([rows[group == g].mean(axis=0) for g in range(16)])
    shared = [(means[0] + means[1]) / 2, (means[2] + means[3]) / 2]
    doubled = [means[g] + np.float32(0.3) for g in (4, 5)]
    return rows, group, np.stack([*shared, *means[4:], *doubled]).astype(np.float32)


def test_breaths_part_and_join_what_lloyd_cannot(
    bad_start: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    rows, group, start = bad_start
    stuck, _ = lloyd(rows, start[None])
    assert not same_partition(stuck[0], group)
    found = breathed(rows, start, [0])
    assert same_partition(found, group)
    assert found.dtype == np.int64


def test_without_a_breath_it_is_lloyd_and_a_breath_never_loses(
    bad_start: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    rows, _, start = bad_start
    stuck, _ = lloyd(rows, start[None])
    assert breathed(rows, start, [0], breaths=0).tolist() == stuck[0].tolist()
    noise = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)
    settled, _ = lloyd(noise, noise[None, :24])
    values = [inertia(noise, breathed(noise, noise[:24], [0], breaths=n)) for n in range(6)]
    assert values[0] == pytest.approx(inertia(noise, settled[0]), rel=1e-6)
    assert all(later <= before * (1 + 1e-6) for before, later in pairwise(values))
    assert values[-1] < 0.98 * values[0]


def test_a_key_repeats() -> None:
    rows = np.random.default_rng(4).normal(size=(200, 3)).astype(np.float32)
    assert breathed(rows, rows[:16], [1, 2]).tolist() == breathed(rows, rows[:16], [1, 2]).tolist()


@pytest.mark.parametrize("held", [1 << 24, 50])
def test_two_nearest_equal_a_loop(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.consensus.breathing.OUTPUTS", held)
    rng = np.random.default_rng(5)
    rows, centroids = (rng.normal(size=(n, 6)).astype(np.float32) for n in (40, 9))
    labels, nearest, second = two_nearest(rows, centroids)
    for i, row in enumerate(rows):
        distances = np.square(row.astype(np.float64) - centroids).sum(axis=1)
        order = np.argsort(distances)
        assert labels[i] == order[0]
        np.testing.assert_allclose([nearest[i], second[i]], distances[order[:2]], rtol=1e-4, atol=1e-5)
