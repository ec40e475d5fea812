"""Neighbour whitening against loops over pairs, and against a general eigenvalue solver."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.consensus import neighbors as neighbors_module
from rayscan.consensus import space as space_module
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.consensus.space import make_space, principal, rebuilt_units
from rayscan.consensus.whitening import (
    contrast,
    neighbor_scatter,
    neighbor_whitening,
    shrunk,
    total_scatter,
)
from tests.unit.consensus.naive import blobs, nearest


def test_neighbours_equal_a_loop_over_rows() -> None:
    rows, _ = blobs((40, 20), 8)
    found = nearest_rows(unit_rows(rows), 7)
    assert found.tolist() == nearest(rows.astype(np.float64), 7).tolist()


def test_a_row_is_never_its_own_neighbour_even_among_copies() -> None:
    rows = unit_rows(np.ones((12, 3), np.float32))
    found = nearest_rows(rows, 4)
    assert found.shape == (12, 4)
    assert all(i not in row and len(set(row)) == 4 for i, row in enumerate(found.tolist()))


def test_many_rows_are_looked_through_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where bfloat16 leaves some to float32: copies, more of them than it takes for candidates."""
    rows = unit_rows(np.random.default_rng(3).normal(size=(neighbors_module.MIN_ROWS, 8)).astype(np.float32))
    rows[:1200] = rows[0]
    monkeypatch.setattr(neighbors_module, "has_bf16_units", lambda: False)
    expected = nearest_rows(rows, 6)
    monkeypatch.setattr(neighbors_module, "has_bf16_units", lambda: True)
    left_over = list[int]()
    by_faiss = neighbors_module.faiss.knn
    monkeypatch.setattr(
        neighbors_module.faiss,
        "knn",
        lambda queries, *a, **b: left_over.append(len(queries)) or by_faiss(queries, *a, **b),
    )
    found = nearest_rows(rows, 6)
    assert 1200 <= sum(left_over) < len(rows) // 2
    assert not (found == np.arange(len(rows))[:, None]).any()

    def cosines(ids: np.ndarray) -> np.ndarray:
        return np.einsum("nd,nkd->nk", rows, rows[ids], dtype=np.float64)

    np.testing.assert_allclose(cosines(found), cosines(expected), atol=1e-6)
    assert (found[1200:] == expected[1200:]).mean() > 0.999


def test_zero_rows_stay_zero() -> None:
    rows = unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32))
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]


def test_scatters_equal_loops_over_pairs_and_add_up() -> None:
    rows, _ = blobs((35, 25), 5)
    ids = nearest(rows, 4)
    expected = np.zeros((5, 5))
    for i in range(60):
        for j in ids[i]:
            difference = rows[i].astype(np.float64) - rows[j]
            expected += np.outer(difference, difference)
    whole = neighbor_scatter(rows, ids)
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-3)
    halves = neighbor_scatter(rows, ids[:22]) + neighbor_scatter(rows, ids[22:], first=22)
    np.testing.assert_allclose(halves, whole, rtol=1e-5)
    total = sum(np.outer(row, row) for row in rows.astype(np.float64))
    np.testing.assert_allclose(total_scatter(rows), total, rtol=1e-5)


def test_contrast_solves_the_generalised_problem() -> None:
    """V' (B + trace(B)/d I) V = I, V' A V diagonal and as large as the eigenvalues of B^-1 A say."""
    rng = np.random.default_rng(1)
    a, b = (m @ m.T for m in rng.normal(size=(2, 6, 9)))
    within = b + 0.5 * np.trace(b) / 6 * np.eye(6)
    found = contrast(a, b, width=4, share=0.5)
    np.testing.assert_allclose(found.T @ within @ found, np.eye(4), atol=1e-10)
    expected = np.sort(np.linalg.eigvals(np.linalg.solve(within, a)).real)[::-1][:4]
    np.testing.assert_allclose(found.T @ a @ found, np.diag(expected), atol=1e-8)
    np.testing.assert_allclose(shrunk(b, 0.5), within)


def test_whitening_equals_dense_loops_to_1e5() -> None:
    """Acceptance test 3: NW equal to 1e-5."""
    rows, _ = blobs((30, 30), 6)
    rows -= rows.mean(axis=0)
    ids = nearest(rows, 12)
    within = np.zeros((6, 6))
    for i in range(60):
        for j in ids[i, :10]:
            difference = rows[i].astype(np.float64) - rows[j]
            within += np.outer(difference, difference) / (2 * 10 * 60)
    within += np.trace(within) / 6 * np.eye(6)
    total = rows.astype(np.float64).T @ rows / 60
    values, vectors = np.linalg.eig(np.linalg.solve(within, total))
    order = np.argsort(-values.real)[:3]
    expected = vectors[:, order].real
    expected /= np.sqrt(np.einsum("ik,ij,jk->k", expected, within, expected))
    found = neighbor_whitening(rows, ids, total, width=3)
    signs = np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-5)


def test_components_are_those_of_the_covariance_and_negligible_ones_go() -> None:
    rows, _ = blobs((40, 40), 7)
    rows[:, 5] = 2.0  # no variance
    mean, components = principal(rows)
    _, vectors = np.linalg.eigh(np.cov(rows.astype(np.float64).T))
    assert components.shape == (7, 6)
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-5)
    alignment = np.abs(components.T @ vectors[:, ::-1][:, :6])
    np.testing.assert_allclose(alignment, np.eye(6), atol=1e-3)


def test_neighbours_in_the_whitened_space_are_more_often_of_one_group() -> None:
    """Directions of large variance within groups are weighted down."""
    rows, group = blobs((200, 200, 200), 64, spread=0.8)
    rows[:, :10] += 3 * np.random.default_rng(3).normal(size=(600, 10)).astype(np.float32)
    space = make_space(unit_rows(rows))

    def purity(ids: np.ndarray) -> float:
        return float((group[ids[:, :10]] == group[:, None]).mean())

    assert purity(space.ids) > purity(space.raw_ids) + 0.03
    np.testing.assert_allclose(space.twice, space.rows @ space.projection, rtol=1e-6)


def test_given_neighbours_are_used() -> None:
    rows, _ = blobs((40, 40), 10)
    units = unit_rows(rows)
    mined = nearest_rows(units, 30)
    np.testing.assert_array_equal(make_space(units, mined).raw_ids, mined)
    np.testing.assert_allclose(make_space(units, mined).whitened, make_space(units).whitened, atol=1e-6)


def test_rebuilt_rows_have_the_cosines_of_mean_and_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against rows of full width; the mean lies in no span of the components."""
    monkeypatch.setattr(space_module, "COMPONENTS", 3)
    units = unit_rows(blobs((40, 30), 12)[0] + 2)
    mean, components = principal(units)
    z = (units - mean) @ components
    wide = unit_rows(mean + z @ components.T).astype(np.float64)
    assert np.linalg.norm(units - wide, axis=1).max() > 0.05
    found = rebuilt_units(z, mean, components)
    assert found.shape == (70, 4)
    np.testing.assert_allclose(found @ found.T, wide @ wide.T, atol=1e-6)


def test_many_rows_are_searched_in_their_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """All components are kept here, so the cosines are those of the unit rows."""
    rows, _ = blobs((40, 30), 12)
    units = unit_rows(rows)
    whole = make_space(units)
    monkeypatch.setattr(space_module, "WHOLE_ROWS", 60)
    found = make_space(units)
    square = np.square(units[:, None] - units[None], dtype=np.float64).sum(axis=2)
    np.fill_diagonal(square, np.inf)
    expected = np.argsort(square, axis=1, kind="stable")[:, :15]
    np.testing.assert_array_equal(found.raw_ids, expected)
    np.testing.assert_array_equal(found.raw_ids, whole.raw_ids)
