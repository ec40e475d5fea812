"""k-means, mixtures and discriminant analysis against loops, closed forms and scikit-learn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from rayscan.consensus.discriminant import (
    cluster_means,
    discriminant_directions,
    discriminant_rule,
    refined,
    within_covariance,
)
from rayscan.consensus.gaussian import tied_mixture
from rayscan.consensus.kmeans import cluster_sums, kmeans, lloyd, plus_plus
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.second_round import cluster_whitening
from rayscan.consensus.space import make_space
from rayscan.consensus.whitening import contrast, total_scatter
from tests.unit.consensus.naive import blobs, nearest, same_partition


def inertia(rows: np.ndarray, labels: np.ndarray) -> float:
    """Squared distances to the means, cluster by cluster."""
    rows = rows.astype(np.float64)
    return sum(
        float(np.square(rows[labels == c] - rows[labels == c].mean(axis=0)).sum()) for c in np.unique(labels)
    )


def test_lloyd_equals_a_loop_over_rows() -> None:
    rows, _ = blobs((30, 30), 4, spread=1.0)
    starts = np.stack([rows[:3], rows[10:13]])
    for number, centroids in enumerate(starts.astype(np.float64)):
        for _ in range(5):
            labels = np.array([np.square(centroids - row).sum(axis=1).argmin() for row in rows])
            centroids = np.stack([rows[labels == c].mean(axis=0) for c in range(3)])
        labels = np.array([np.square(centroids - row).sum(axis=1).argmin() for row in rows])
        found, value = lloyd(rows, starts, rounds=5)
        assert found[number].tolist() == labels.tolist()
        costs = sum(np.square(centroids[c] - row).sum() for c, row in zip(labels, rows, strict=True))
        assert value[number] == pytest.approx(costs - np.square(rows).sum(), rel=1e-4)


def test_an_empty_cluster_takes_the_farthest_row() -> None:
    rows = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [30.0]], np.float32)
    found, _ = lloyd(rows, np.array([[[0.0], [9.0], [500.0]]], np.float32))
    assert same_partition(found[0], np.array([0, 0, 0, 1, 1, 2]))


def test_kmeans_finds_the_best_of_all_partitions() -> None:
    rows = np.random.default_rng(4).normal(size=(9, 2)).astype(np.float32)
    all_labels = (np.array(labels) for labels in itertools.product(range(3), repeat=9))
    best = min(inertia(rows, labels) for labels in all_labels if len(set(labels)) == 3)
    assert inertia(rows, kmeans(rows, 3, [0], starts=20)) == pytest.approx(best, rel=1e-5)


def test_kmeans_repeats_for_a_key_and_takes_the_best_start() -> None:
    rows, _ = blobs((30, 30, 30), 3, spread=0.8)
    assert kmeans(rows, 5, [1, 2]).tolist() == kmeans(rows, 5, [1, 2]).tolist()
    one = inertia(rows, kmeans(rows, 5, [1, 2], starts=1))
    assert inertia(rows, kmeans(rows, 5, [1, 2], starts=8)) <= one * (1 + 1e-6)


def test_seeds_are_distinct_rows_in_every_group() -> None:
    rows, group = blobs((50, 50, 3), 4, spread=20.0)
    seeds = plus_plus(rows, 3, np.random.default_rng(0))
    assert {int(group[(rows == seed).all(axis=1)][0]) for seed in seeds} == {0, 1, 2}


def test_seeds_of_very_many_rows_are_looked_for_among_some(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, group = blobs((400, 400, 400), 4, spread=20.0)
    monkeypatch.setattr("rayscan.consensus.kmeans.FEWEST_SEED_ROWS", 100)
    looked_at: list[int] = []
    drawn = np.random.default_rng(0)

    class Counted:
        """Draws, and remembers how many rows they are out of."""

        def choice(self, count: int, size: int, replace: bool) -> np.ndarray:
            looked_at.append(size)
            return drawn.choice(count, size, replace=replace)

        def __getattr__(self, name: str) -> object:
            return getattr(drawn, name)

    seeds = plus_plus(rows, 3, Counted())  # type: ignore[arg-type]
    assert looked_at == [100]
    assert {int(group[(rows == seed).all(axis=1)][0]) for seed in seeds} == {0, 1, 2}


def test_lloyd_does_not_hang_on_how_many_distances_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = blobs((60, 50, 40), 4, spread=0.8)
    starts = np.stack([rows[:5], rows[5:10]])
    whole = lloyd(rows, starts)
    monkeypatch.setattr("rayscan.consensus.kmeans.OUTPUTS", 70)
    parts = lloyd(rows, starts)
    assert parts[0].tolist() == whole[0].tolist()
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-5)


def test_sums_by_cluster_equal_a_loop_and_add_up() -> None:
    rows, _ = blobs((30, 30), 4)
    labels = np.random.default_rng(0).integers(0, 3, 60)
    sums, sizes = cluster_sums(rows, labels, 4)
    for c in range(4):
        np.testing.assert_allclose(sums[c], rows[labels == c].sum(axis=0), rtol=1e-4, atol=1e-4)
        assert sizes[c] == (labels == c).sum()
    parts = [cluster_sums(rows[part], labels[part], 4) for part in (slice(0, 17), slice(17, 60))]
    np.testing.assert_allclose(parts[0][0] + parts[1][0], sums, rtol=1e-4, atol=1e-4)


def test_mixture_equals_plain_expectation_maximisation() -> None:
    rows, _ = blobs((40, 15), 3, spread=0.7)
    rows -= rows.mean(axis=0)
    x, shares = rows.astype(np.float64), np.eye(2)[np.arange(55) % 2]
    for _ in range(6):
        weights = shares.mean(axis=0)
        means = [(shares[:, c : c + 1] * x).sum(axis=0) / shares[:, c].sum() for c in range(2)]
        cov = np.zeros((3, 3))
        for i, c in itertools.product(range(55), range(2)):
            cov += shares[i, c] * np.outer(x[i] - means[c], x[i] - means[c]) / 55
        cov += 0.01 * np.trace(cov) / 3 * np.eye(3)
        for i in range(55):
            density = [
                weights[c] * np.exp(-0.5 * (x[i] - means[c]) @ np.linalg.solve(cov, x[i] - means[c]))
                for c in range(2)
            ]
            shares[i] = np.array(density) / sum(density)
    found = tied_mixture(rows, np.arange(55) % 2, 2, rounds=6)
    assert found.tolist() == shares.argmax(axis=1).tolist()


def test_rule_equals_that_of_scikit_learn() -> None:
    """Without shrinkage: linear discriminant analysis with the pooled covariance of maximum likelihood."""
    rows, group = blobs((40, 30, 20), 4, spread=0.8)
    rows -= rows.mean(axis=0)
    rule = discriminant_rule(rows, total_scatter(rows) / 90, group, 3, share=0.0)
    model = LinearDiscriminantAnalysis(solver="lsqr").fit(rows, group)
    ours = rule.outputs(rows)
    theirs = model.decision_function(rows)
    np.testing.assert_allclose(ours - ours[:, :1], theirs - theirs[:, :1], atol=1e-2)


def test_covariance_within_equals_a_loop() -> None:
    rows, group = blobs((40, 20), 4)
    rows -= rows.mean(axis=0)
    expected = np.zeros((4, 4))
    for c in range(2):
        for row in rows[group == c].astype(np.float64):
            away = row - rows[group == c].mean(axis=0)
            expected += np.outer(away, away) / 60
    found = within_covariance(total_scatter(rows) / 60, *cluster_means(rows, group, 2))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_directions_are_those_of_the_generalised_problem() -> None:
    """The short way by singular vectors against `contrast` with the covariance between clusters."""
    rows, group = blobs((40, 30, 20), 6, spread=0.8)
    rows -= rows.mean(axis=0)
    total = total_scatter(rows) / 90
    means, shares = cluster_means(rows, group, 3)
    between = means.T @ (shares[:, None] * means)
    expected = contrast(between, total - between, width=2, share=0.5)
    found = discriminant_directions(total, means, shares, 0.5)
    assert found.shape == (6, 2)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found * signs, expected, atol=1e-6)


def test_refinement_moves_a_half_wrong_grouping_to_the_groups() -> None:
    """A nuisance direction misleads k-means on the rows, not the refinement."""
    rows, group = blobs((60, 60), 8, spread=1.5)
    rows[:, 0] += 10 * np.random.default_rng(1).normal(size=120).astype(np.float32)
    rows -= rows.mean(axis=0)
    wrong = np.where(np.random.default_rng(2).random(120) < 0.3, 1 - group, group)
    assert same_partition(refined(rows, total_scatter(rows) / 120, wrong, 2), group)


def test_second_whitening_divides_by_the_covariance_within_clusters() -> None:
    rows, group = blobs((40, 30, 20), 12)
    space = make_space(unit_rows(rows))
    field = cluster_whitening(space, group, 3)
    found = space.rows @ field.projection
    np.testing.assert_array_equal(found, field.rows)
    assert field.ids[:, :5].tolist() == nearest(field.rows, 5).tolist()
    centred = np.concatenate([found[group == c] - found[group == c].mean(axis=0) for c in range(3)])
    within = np.concatenate(
        [space.rows[group == c] - space.rows[group == c].mean(axis=0) for c in range(3)]
    ).astype(np.float64)
    shrink = np.square(within).sum() / 90 / within.shape[1]
    projection = field.projection.astype(np.float64)
    gram = centred.T @ centred / 90 + shrink * projection.T @ projection
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-3)
