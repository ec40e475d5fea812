"""Distance to the k-th neighbor as scikit-learn finds it, and quantiles as counted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from rayscan.duplicates.outliers import knn_distance, quantiles
from testing.matrices import brute_force, unit

K = 10


@pytest.mark.parametrize("k", [1, 4, K])
def test_is_the_euclidean_distance_to_the_kth_neighbor(k: int) -> None:
    x = unit(np.random.default_rng(0).normal(size=(200, 16)))
    scores, _ = brute_force(x, K)
    expected = NearestNeighbors(n_neighbors=k).fit(x.astype(np.float64)).kneighbors()[0][:, -1]
    np.testing.assert_allclose(knn_distance(scores, k), expected, atol=1e-4)


def test_quantiles_count_the_scores_that_are_not_above() -> None:
    values = np.array([3.0, 1.0, 3.0, 7.0, -2.0])
    expected = [np.mean(values <= value) for value in values]
    np.testing.assert_allclose(quantiles(values), expected, rtol=1e-6)
