"""Rows of any length as unit rows: their direction is kept, their length is dropped.

A row that is of unit length but for the rounding of its stored numbers comes through unchanged, so that
embeddings written by rayscan, or by anybody who normalises, are imported bit for bit.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rayscan.embeddings.number_types import NumberType

Reason = Literal["not finite", "all zeros", "no vector"]
NOT_FINITE: Reason = "not finite"
ZEROS: Reason = "all zeros"
MISSING: Reason = "no vector"
"""Why a row cannot be used."""
FLOAT32 = 2.0**-24
"""Roundoff of float32, in which rows are normalised before they are stored."""


def unit_tolerance(kind: NumberType, dim: int) -> float:
    """How far from 1 the length of a normalised row may be once it is stored.

    Rounding each of D numbers moves the row by at most u |x| + t sqrt(D), where u is the roundoff of the type
    and t its error below the normal range. Normalising in float32 before that is off by less than (D / 2 + 3)
    2^-24: the sum of D squares by D 2^-24 in any order (Higham, Accuracy and Stability of Numerical
    Algorithms, Sec. 4.2), halved by the root, and three roundings.

    Args:
        kind: Type of the stored numbers.
        dim: Width D.
    """
    return kind.roundoff + kind.tiny_error * float(np.sqrt(dim)) + (dim / 2 + 3) * FLOAT32


def unit_rows(
    x: NDArray[np.float32], kind: NumberType, dtype: np.dtype[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows divided by their length, in float64, unless they are of unit length already.

    Args:
        x: Rows [n, D].
        kind: Type they are stored in.
        dtype: Type wanted.

    Returns:
        The good rows, in order, [m, D]; and which of the n rows are not finite, and which are all zeros.
    """
    wide = x.astype(np.float64)
    lengths = np.sqrt(np.square(wide).sum(axis=1))
    is_finite, is_zero = np.isfinite(lengths), lengths == 0
    good = np.flatnonzero(is_finite & ~is_zero)
    is_unit = np.abs(lengths[good] - 1) <= unit_tolerance(kind, x.shape[1])
    divisors = np.where(is_unit, 1.0, lengths[good])  # a division by 1 changes no bit
    return (wide[good] / divisors[:, None]).astype(dtype), ~is_finite, is_zero
