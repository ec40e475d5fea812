"""The stored model: what it says of rows is what the method said of them, in parts of any size."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.consensus import ensemble
from rayscan.consensus.cluster import consensus
from rayscan.consensus.ensemble import Ensemble
from rayscan.consensus.readings import Reading


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 20))[np.arange(90) % 3] * 2 + rng.normal(size=(90, 20))
    return rows.astype(np.float32)


def test_probabilities_of_the_fitted_rows_come_again(blobs: np.ndarray) -> None:
    found = consensus(blobs, 3, 0)
    made = found.ensemble.probabilities([blobs])
    np.testing.assert_array_equal(made, found.probabilities)
    np.testing.assert_allclose(made.sum(axis=1), 1, atol=1e-5)
    assert (made.argmax(axis=1) == found.labels).mean() > 0.95
    assert float(made.max(axis=1).mean()) == pytest.approx(found.trust, abs=1e-3)
    assert found.trust <= found.score
    np.testing.assert_allclose(made, by_the_definition(found.ensemble, [blobs]), atol=1e-4)


def test_roots_and_several_sources_are_read_as_they_were_fitted(blobs: np.ndarray) -> None:
    """Counts have a reading of their square roots beside them; each member reads its own source."""
    counts = np.random.default_rng(1).poisson(np.exp(blobs / 4)).astype(np.float32)
    found = consensus([blobs, counts], 3, 0)
    read = [(one.reading.source, one.reading.is_root) for one in found.ensemble.members]
    assert read == [(0, False), (1, False), (1, True)]
    expected = by_the_definition(found.ensemble, [blobs, counts])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    negative = -counts[:5]
    np.testing.assert_allclose(
        Reading(0, True).units([negative]), -Reading(0, True).units([counts[:5]]), atol=1e-7
    )


def by_the_definition(model: Ensemble, features: list[np.ndarray]) -> np.ndarray:
    """Probabilities head after head, in float64, to the power 1 / T."""
    total, heads = np.zeros((len(features[0]), 3)), 0
    for one in model.members:
        rows = features[one.reading.source].astype(np.float64)
        rows = np.sqrt(rows) if one.reading.is_root else rows
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True) - one.mean) @ one.projection
        for h in range(len(one.weights)):
            outputs = rows @ one.weights[h] + one.biases[h]
            softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
            heads += 1
            for c in range(3):
                for k in range(3):
                    total[:, c] += softmax[:, k] * one.translations[h, k, c]
    powers = (total / heads) ** (1 / model.temperature)
    scaled: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return scaled


def test_rows_come_in_parts(blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    found = consensus(blobs, 3, 0).ensemble
    whole = found.probabilities([blobs])
    monkeypatch.setattr(ensemble, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(found.probabilities([blobs]), whole, atol=1e-6)
    assert found.probabilities([blobs[:0]]).shape == (0, 3)
