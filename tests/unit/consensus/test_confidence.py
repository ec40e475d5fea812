"""Confidence: reproduction by other groupings by hand, the temperature against a root finder."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from rayscan.consensus.confidence import reproduced, temperature, tempered


def test_reproduction_by_hand() -> None:
    """One grouping is the same under other names, one has a row of six elsewhere, one halves a cluster."""
    labels = np.array([0, 0, 0, 1, 1, 1])
    same = np.array([1, 1, 1, 0, 0, 0])
    other = np.array([0, 0, 1, 1, 1, 1])
    halved = np.array([2, 2, 2, 0, 1, 1])
    assert reproduced([same], labels, 3) == 1
    assert reproduced([same, other, halved], labels, 3) == pytest.approx((6 + 5 + 5) / 18)


@pytest.mark.parametrize("wanted", [0.4, 0.7, 0.95])
def test_temperature_gives_the_wanted_mean_and_keeps_the_order(wanted: float) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.full(5, 0.3), 300).astype(np.float32)

    def excess(inverse: float) -> float:
        powers = np.maximum(probabilities.astype(np.float64), 1e-12) ** inverse
        return float((powers.max(axis=1) / powers.sum(axis=1)).mean()) - wanted

    found = temperature(probabilities, wanted)
    assert 1 / found == pytest.approx(brentq(excess, 1e-3, 60), rel=1e-5)
    scaled = tempered(probabilities, found)
    assert float(scaled.max(axis=1).mean()) == pytest.approx(wanted, abs=1e-4)
    np.testing.assert_allclose(scaled.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))


def test_a_temperature_of_very_many_rows_is_that_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.full(5, 0.3), 300).astype(np.float32)
    monkeypatch.setattr("rayscan.consensus.confidence.AT_MOST", 500)
    assert temperature(probabilities, 0.7) == temperature(probabilities[::3], 0.7)


def test_what_no_temperature_gives_is_the_end_of_the_range() -> None:
    equal = np.full((4, 2), 0.5, np.float32)
    assert temperature(equal, 0.9) == pytest.approx(2.0**-6, rel=1e-6)
    sure = np.array([[1, 0], [0, 1]], np.float32)
    assert temperature(sure, 0.5) == pytest.approx(2.0**6, rel=1e-6)
