"""The threshold against the normal distribution that the background was drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from rayscan.duplicates.threshold import ALARMS, threshold

PAIRS = 1_000_000


def background(share_of_copies: float, spread: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(0)
    r = np.tanh(rng.normal(0.2, spread, 20_000))
    r[: int(share_of_copies * len(r))] = 0.97
    return r


def test_is_where_the_normal_distribution_expects_so_few_pairs() -> None:
    expected = np.tanh(0.2 + 0.1 * norm.isf(ALARMS / PAIRS))
    assert threshold(background(0), PAIRS, 0.0) == pytest.approx(expected, abs=0.01)


def test_copies_in_the_background_hardly_move_it() -> None:
    clean = threshold(background(0), PAIRS, 0.0)
    assert clean <= threshold(background(0.1), PAIRS, 0.0) < clean + 0.06


def test_rises_with_the_pairs_and_never_leaves_its_bounds() -> None:
    found = [threshold(background(0), pairs, 0.0) for pairs in (10**3, 10**5, 10**7)]
    assert found == sorted(found)
    assert threshold(background(0), PAIRS, 0.9) == 0.9
    assert threshold(background(0, spread=5.0), PAIRS, 0.5) <= 1.0
    assert threshold(np.full(10, 1.0), PAIRS, 0.5) == pytest.approx(0.9999)
