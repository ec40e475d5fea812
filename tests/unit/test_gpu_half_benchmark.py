"""The half-precision search of the GPU benchmark, on the CPU: the same function."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gpu_half
from benchmarks.gpu_half import half_neighbors
from testing.matrices import unit


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tiles of few rows."""
    monkeypatch.setattr(gpu_half, "QUERY_TILE", 70)
    monkeypatch.setattr(gpu_half, "ROW_TILE", 90)


def is_best(x: np.ndarray, rows: np.ndarray) -> None:
    exact = x.astype(np.float64) @ x.astype(np.float64).T
    want = -np.sort(-exact, axis=1)[:, : rows.shape[1]]
    np.testing.assert_allclose(np.take_along_axis(exact, rows, axis=1), want, atol=3e-7)
    assert all(len(set(row)) == rows.shape[1] for row in rows)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("width", [6, 8, 60])
@pytest.mark.parametrize("seed", range(3))
def test_neighbors_are_those_of_float64(seed: int, width: int) -> None:
    """However few are proposed: what may be missing then is found by float32."""
    x = unit(np.random.default_rng(seed).normal(size=(400, 24)))
    found = half_neighbors(x, 6, "cpu", width=width)
    is_best(x, found.rows)
    assert found.by_float < 40 if width == 60 else found.by_float > 0


@pytest.mark.usefixtures("small")
def test_what_the_bound_leaves_is_counted_and_found_by_float32() -> None:
    rng = np.random.default_rng(3)
    x = unit(np.repeat(rng.normal(size=(8, 24)), 50, axis=0) + rng.normal(size=(400, 24)) * 1e-4)
    found = half_neighbors(x, 6, "cpu")
    is_best(x, found.rows)
    assert found.by_float == 400


@pytest.mark.usefixtures("small")
def test_all_rows_proposed_leave_nothing_open() -> None:
    x = unit(np.random.default_rng(4).normal(size=(50, 8)))
    found = half_neighbors(x, 30, "cpu", width=50)
    is_best(x, found.rows)
    assert found.by_float == 0
