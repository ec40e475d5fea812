from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from rayscan.embeddings.number_types import NUMBER_TYPES
from rayscan.embeddings.unit_rows import unit_rows, unit_tolerance
from rayscan.vectors.parts import MAX_LENGTH, require_unit_rows

STORED = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}


def features(kind: str, dim: int) -> torch.Tensor:
    """Rows as networks give them: dense, behind a ReLU, of a few large values, with a large mean."""
    torch.manual_seed(dim)
    x = torch.randn(max(50, 500 - dim), dim)
    return {"dense": x, "relu": x.relu() + 1e-7, "peaked": x**7 + 0.001, "shifted": x + 100}[kind]


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("dim", [1, 2, 64, 1280, 8192])
@pytest.mark.parametrize("kind", ["dense", "relu", "peaked", "shifted"])
def test_what_was_normalised_comes_through_bit_for_bit(kind: str, dim: int, dtype: str):
    """By torch as in stage embed, or by numpy, and stored in any type."""
    x = features(kind, dim)
    unit = torch.nn.functional.normalize(x, dim=1)
    plain = torch.from_numpy(x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True))
    for rows in (unit, plain):
        stored = rows.to(STORED[dtype]).float().numpy()
        got, is_infinite, is_zero = unit_rows(stored, NUMBER_TYPES[dtype], np.dtype("float32"))
        assert not is_infinite.any()
        assert not is_zero.any()
        np.testing.assert_array_equal(got.view(np.uint32), stored.view(np.uint32))
        require_unit_rows(got, "here")
        if dtype == "float16":
            half = unit_rows(stored, NUMBER_TYPES[dtype], np.dtype("float16"))[0]
            np.testing.assert_array_equal(half.astype(np.float32), stored)


def test_normalised_rows_have_other_lengths_than_one():
    """Else the test above would show nothing: dividing by them changes bits."""
    stored = torch.nn.functional.normalize(features("dense", 64), dim=1).numpy()
    lengths = np.sqrt(np.square(stored.astype(np.float64)).sum(1))
    assert (lengths != 1).mean() > 0.9
    assert ((stored / lengths[:, None]).astype(np.float32) != stored).any(axis=1).mean() > 0.3


@pytest.mark.parametrize("dtype", NUMBER_TYPES)
def test_rounding_to_a_type_stays_within_its_error(dtype: str):
    """u |x| + t, against exact fractions of what torch rounds to."""
    kind = NUMBER_TYPES[dtype]
    exponents = torch.linspace(-126, 10, 400) if dtype != "float16" else torch.linspace(-26, 10, 400)
    x = torch.randn(400, dtype=torch.float64) * torch.pow(2.0, exponents.double())
    rounded = x.to(torch.float32 if dtype == "float64" else STORED[dtype]).double()
    for value, near in zip(x.tolist(), rounded.tolist(), strict=True):
        error = abs(Fraction(value) - Fraction(near))
        assert error <= max(Fraction(kind.roundoff) * abs(Fraction(value)), Fraction(kind.tiny_error))


def test_other_rows_are_divided_by_their_length():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 33)) * 10.0 ** rng.integers(-30, 30, (300, 1))).astype(np.float32)
    got = unit_rows(x, NUMBER_TYPES["float32"], np.dtype("float32"))[0]
    for row, unit in zip(x.tolist(), got.tolist(), strict=True):
        length = math.hypot(*row)
        np.testing.assert_allclose(unit, [v / length for v in row], rtol=1e-7, atol=0)


def test_a_length_just_outside_is_divided():
    for dtype, kind in NUMBER_TYPES.items():
        most = unit_tolerance(kind, 4)
        assert most < MAX_LENGTH - 1
        for off, is_kept in [(0.9 * most, True), (-0.9 * most, True), (2 * most, False), (-0.1, False)]:
            x = np.array([[1 + off, 0, 0, 0]], np.float32)
            got = unit_rows(x, kind, np.dtype("float32"))[0]
            assert (got[0, 0] == x[0, 0]) == is_kept, (dtype, off)
            assert is_kept or got[0, 0] == 1


def test_bad_rows_are_told_apart():
    x = np.ones((6, 3), np.float32)
    x[1, 0], x[2, 1], x[3, 2], x[4] = np.nan, np.inf, -np.inf, 0
    x[5] = 1e-45  # the smallest number there is
    got, is_infinite, is_zero = unit_rows(x, NUMBER_TYPES["float32"], np.dtype("float16"))
    assert is_infinite.tolist() == [False, True, True, True, False, False]
    assert is_zero.tolist() == [False, False, False, False, True, False]
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got, np.full((2, 3), 3**-0.5).astype(np.float16))


def test_rows_do_not_depend_on_those_beside_them():
    x = features("dense", 1280).numpy()
    whole = unit_rows(x, NUMBER_TYPES["float32"], np.dtype("float32"))[0]
    for first, stop in [(0, 1), (3, 10), (100, 257)]:
        some = unit_rows(x[first:stop].copy(), NUMBER_TYPES["float32"], np.dtype("float32"))[0]
        np.testing.assert_array_equal(some, whole[first:stop])
