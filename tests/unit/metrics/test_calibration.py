"""ECE by hand and against one bin at a time."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.metrics.calibration import calibration


def test_by_hand() -> None:
    """Two bins: 0.5 belongs to the lower. |0.5 - 0.4| * 2 images and |1 - 0.8| * 2 images, over 4."""
    found = calibration([(np.array([0.3, 0.5, 0.7, 0.9]), np.array([True, False, True, True]))], bins=2)
    assert found["ece"] == pytest.approx((2 * 0.1 + 2 * 0.2) / 4)
    assert found["overconfidence"] == pytest.approx(0.6 - 0.75)
    assert found["counts"] == [2, 2]


def test_certain_and_half_wrong() -> None:
    assert calibration([(np.ones(10), np.arange(10) < 5)])["ece"] == pytest.approx(0.5)


def test_equals_naive() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(500), rng.random(500) < 0.6
    naive = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            naive += inside.sum() / 500 * abs(correct[inside].mean() - confidence[inside].mean())
    found = calibration([(confidence, correct)])
    assert found["ece"] == pytest.approx(naive, rel=1e-12)
    assert found["overconfidence"] == pytest.approx(confidence.mean() - correct.mean())
    pieces = zip(np.array_split(confidence, 7), np.array_split(correct, 7), strict=True)
    assert calibration(pieces)["ece"] == pytest.approx(naive, rel=1e-12)
