"""Edges of the vector code: one cluster, many blocks, samples by seed, scales, ranks of one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rayscan.errors import ConfigError
from rayscan.vectors import sinkhorn as transport
from rayscan.vectors.lloyd import seeds
from rayscan.vectors.mutual import chosen_first
from rayscan.vectors.pca import moments, solve
from rayscan.vectors.seeding import MIN_ROWS, ROWS_PER_CLUSTER, plus_plus, seed_sample
from tests.unit.vectors.test_lloyd import pool_of


def test_a_sample_is_drawn_by_its_seed_without_repeats() -> None:
    """As large as asked for, ascending, the same for the same seed; each row in one sample of two."""
    num_rows = 2 * MIN_ROWS
    one = seed_sample(num_rows, 1, 3)
    assert len(one) == max(MIN_ROWS, ROWS_PER_CLUSTER)
    assert (np.diff(one) > 0).all()
    assert one[0] >= 0
    assert one[-1] < num_rows
    assert np.array_equal(one, seed_sample(num_rows, 1, 3))
    other = seed_sample(num_rows, 1, 4)
    shared = len(np.intersect1d(one, other))
    chance = len(one) ** 2 / num_rows
    assert abs(shared - chance) < 6 * np.sqrt(chance / 4)


def test_a_sample_of_few_rows_is_all_of_them() -> None:
    assert seed_sample(50, 3, 0).tolist() == list(range(50))


def test_seeds_are_drawn_in_proportion_to_squared_distance() -> None:
    """Rows at 0, 1 and 3: after a first of 0 the second is 1 in one case of ten, 3 in nine."""
    rows = np.array([[0.0], [1.0], [3.0]], np.float32)
    second = {0: [0, 0, 0], 1: [0, 0, 0], 3: [0, 0, 0]}
    for seed in range(1500):
        a, b = plus_plus(rows, 2, seed)[:, 0]
        second[int(a)][[0, 1, 3].index(int(b))] += 1
    for first, counts in second.items():
        squares = [(first - at) ** 2 for at in (0, 1, 3)]
        drawn = sum(counts)
        assert abs(drawn - 500) < 5 * np.sqrt(1500 * 2 / 9)
        for count, square in zip(counts, squares, strict=True):
            share = square / sum(squares)
            assert abs(count - drawn * share) <= 5 * np.sqrt(drawn * share * (1 - share))


def test_chosen_neighbors_of_many_images() -> None:
    """More rows than are ordered at a time."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 1000, (65_536 + 70, 3))
    chosen = rng.random(ids.shape) < 0.5
    first, counts = chosen_first(ids, chosen, 2)
    assert first.dtype == np.int64
    for row in [*range(5), *range(65_530, len(ids))]:
        expected = [int(i) for i, is_chosen in zip(ids[row], chosen[row], strict=True) if is_chosen][:2]
        assert first[row, : counts[row]].tolist() == expected
        assert counts[row] == len(expected)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_whitening_knows_the_same_directions_at_any_scale(scale: float) -> None:
    """Deviations 1, 1e-2 and 1e-4 of the scale: the last has a variance of 1e-8 of the first, and is zero."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4000, 3)) * [1, 1e-2, 1e-4] * scale).astype(np.float32)
    shift = x.mean(0)
    projected = solve([moments(x, shift)], shift, whiten=True).project(x)
    np.testing.assert_allclose(projected[:, :2].std(0, ddof=1), 1.0, rtol=1e-2)
    assert (projected[:, 2] == 0).all()


def test_transport_to_a_single_cluster_needs_one_pass() -> None:
    scores = torch.randn(6, 1, generator=torch.Generator().manual_seed(0))
    found = transport.sinkhorn(lambda a, b: scores[a:b], 6, torch.ones(1))
    assert (found.iterations, found.error) == (1, pytest.approx(0, abs=1e-6))
    assert transport.labels_of(lambda a, b: scores[a:b], 6, found.potentials).tolist() == [0] * 6


def test_transport_says_how_far_it_came() -> None:
    """After so many passes as are allowed, the error of the last one: sum over clusters |mass - share|."""
    logits = 3 * torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    found = transport.sinkhorn(
        lambda a, b: logits[a:b], 40, wanted, tolerance=0.0, max_iterations=1, dtype=torch.float64
    )
    assert found.iterations == 1
    assert found.error == pytest.approx(float((logits.softmax(1).mean(0) - wanted).abs().sum()))
    moved = (wanted / logits.softmax(1).mean(0)).log()
    torch.testing.assert_close(found.potentials, moved - moved.mean())


@pytest.mark.parametrize("kind", ["plus_plus", "parallel"])
def test_from_one_seed_to_as_many_as_rows(kind: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(8, 3) ** 2
    pool, extent = pool_of(x, 2)
    one = seeds(pool, extent, 1, 0, kind)
    assert one.shape == (1, 3)
    assert one[0].tolist() in x.tolist()
    assert sorted(seeds(pool, extent, 8, 0, kind).tolist()) == x.tolist()
    for number in (0, 9):
        with pytest.raises(ConfigError, match="that many clusters"):
            seeds(pool, extent, number, 0, kind)
