from __future__ import annotations

import math

import numpy as np
import pytest

from rayscan.vectors import rescore
from rayscan.vectors.rescore import exact_dots, score_pairs
from testing.matrices import unit


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 128, 1000])
def test_rounds_the_true_sum(dim):
    rng = np.random.default_rng(dim)
    a, b = unit(rng.normal(size=(50, dim))), unit(rng.normal(size=(50, dim)))
    true = [
        math.fsum(float(p) * float(q) for p, q in zip(x, y, strict=True)) for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_array_equal(exact_dots(a, b), np.array(true, np.float32))


def test_the_tree_is_the_documented_one():
    """1 + 1e17 - 1e17 + 1: halves first, (1 - 1e17) + (1e17 + 1) = 0; left to right gives 1."""
    ones = np.ones((1, 4), np.float32)
    values = np.array([[1.0, 1e17, -1e17, 1.0]], np.float32)
    assert exact_dots(values, ones)[0] == (1.0 + -1e17) + (1e17 + 1.0) == 0.0


def test_bits_depend_on_nothing_but_the_pair(monkeypatch):
    rng = np.random.default_rng(0)
    queries, rows = unit(rng.normal(size=(40, 333))), unit(rng.normal(size=(60, 333)))
    query_at, row_at = rng.integers(0, 40, 500), rng.integers(0, 60, 500)
    want = score_pairs(queries, rows, query_at, row_at)
    order = rng.permutation(500)
    for at_once in (1, 1000, 333 * 7):
        monkeypatch.setattr(rescore, "VALUES_AT_ONCE", at_once)
        got = score_pairs(np.asfortranarray(queries), rows, query_at[order], row_at[order])
        np.testing.assert_array_equal(got, want[order])
    np.testing.assert_array_equal(score_pairs(rows, queries, row_at, query_at), want)
