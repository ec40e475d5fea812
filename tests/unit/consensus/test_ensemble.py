"""The stored model: what it says of rows is what the method said of them, in parts of any size."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.consensus import ensemble
from rayscan.consensus.cluster import consensus


@pytest.fixture(scope="module")
def blobs() -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 20))[np.arange(90) % 3] * 2 + rng.normal(size=(90, 20))
    return rows.astype(np.float32)


def test_probabilities_of_the_fitted_rows_come_again(blobs: np.ndarray) -> None:
    found = consensus(blobs, 3, 0)
    made = found.ensemble.probabilities(blobs)
    np.testing.assert_allclose(made, found.probabilities, atol=1e-4)
    np.testing.assert_allclose(made.sum(axis=1), 1, atol=1e-5)
    assert (made.argmax(axis=1) == found.labels).mean() > 0.95
    # by the definition, head after head
    rows = (
        blobs / np.linalg.norm(blobs, axis=1, keepdims=True) - found.ensemble.mean
    ) @ found.ensemble.projection
    total = np.zeros((len(rows), 3))
    for h in range(len(found.ensemble.weights)):
        outputs = rows @ found.ensemble.weights[h] + found.ensemble.biases[h]
        softmax = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        for c in range(3):
            for k in range(3):
                total[:, c] += softmax[:, k] * found.ensemble.translations[h, k, c]
    np.testing.assert_allclose(made, total / len(found.ensemble.weights), atol=1e-4)


def test_rows_come_in_parts(blobs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    found = consensus(blobs, 3, 0).ensemble
    whole = found.probabilities(blobs)
    monkeypatch.setattr(ensemble, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(found.probabilities(blobs), whole, atol=1e-6)
    assert found.probabilities(blobs[:0]).shape == (0, 3)
