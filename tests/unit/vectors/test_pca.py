"""One-pass PCA against float64 on the whole matrix and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from rayscan.errors import ConfigError, DataError
from rayscan.storage import Place
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.pca import MomentsTask, moments, range_moments, shift_of, solve
from testing.matrices import embedded, unit


def parts_of(x: np.ndarray, num: int) -> tuple[list, np.ndarray]:
    shift = x[:50].mean(axis=0)
    return [moments(part, shift) for part in np.array_split(x, num)], shift


@pytest.mark.parametrize("num", [1, 4, 9])
def test_equals_float64_on_rows_far_from_zero(num: int) -> None:
    rng = np.random.default_rng(0)
    x = (3 + 0.1 * rng.normal(size=(5000, 24)) @ rng.normal(size=(24, 24))).astype(np.float32)
    pca = solve(*parts_of(x, num))
    exact = np.cov(x.astype(np.float64).T)
    got = pca.components.T * pca.variances @ pca.components
    assert np.linalg.norm(got - exact) / np.linalg.norm(exact) < 1e-6
    np.testing.assert_allclose(pca.mean, x.astype(np.float64).mean(axis=0), atol=1e-7)


def test_components_are_those_of_scikit_learn_up_to_their_sign() -> None:
    x = load_digits().data.astype(np.float32)
    theirs = PCA(20, svd_solver="full").fit(x.astype(np.float64))
    pca = solve(*parts_of(x, 3), 20)
    np.testing.assert_allclose(pca.variances, theirs.explained_variance_, rtol=1e-5)
    assert pca.variances.sum() / pca.total_variance == pytest.approx(
        theirs.explained_variance_ratio_.sum(), rel=1e-6
    )
    signs = np.sign((pca.components * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(pca.components, signs[:, None] * theirs.components_, atol=1e-4)
    at = np.abs(pca.components).argmax(axis=1)
    assert (pca.components[np.arange(20), at] > 0).all()
    np.testing.assert_allclose(pca.project(x), signs * theirs.transform(x), atol=1e-2)


def test_whitened_coordinates_have_unit_variance_and_dead_ones_stay_zero() -> None:
    rng = np.random.default_rng(1)
    x = (rng.normal(size=(3000, 3)) * [5, 1, 0.2] @ rng.normal(size=(3, 6))).astype(np.float32)  # rank 3
    white = solve(*parts_of(x, 2), whiten=True).project(x)
    np.testing.assert_allclose(np.cov(white[:, :3].T), np.eye(3), atol=1e-2)
    assert np.abs(white[:, 3:]).max() < 1e-2


def test_stored_rows(tmp_path) -> None:
    x = unit(load_digits().data)
    rows = EmbeddingRows(embedded(Place(str(tmp_path)), x, num_eval=97))
    shift = shift_of(rows)
    np.testing.assert_allclose(shift, x[:1024].mean(axis=0), atol=1e-6)
    tasks = [MomentsTask(rows, first, min(first + 400, 1700), shift) for first in range(0, 1700, 400)]
    pca = solve([range_moments(s) for s in tasks], shift, 5)
    exact = np.linalg.eigvalsh(np.cov(x[:1700].astype(np.float64).T))[::-1]
    np.testing.assert_allclose(pca.variances, exact[:5], rtol=1e-6)


def test_refusals() -> None:
    x = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    for asked in (0, 9):
        with pytest.raises(ConfigError, match=r"1\.\.8: 30 rows, 8 wide"):
            solve(*parts_of(x, 2), asked)
    x[3, 3] = np.inf
    with pytest.raises(DataError, match="finite"):
        parts_of(x, 1)
