"""Sinkhorn-Knopp against the iteration as the paper writes it, in the probability domain and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rayscan.errors import DataError
from rayscan.vectors import sinkhorn as room
from rayscan.vectors.sinkhorn import labels_of, sinkhorn

N, K = 120, 7


def naive(p: np.ndarray, weight: float, marginals: np.ndarray, iterations: int) -> np.ndarray:
    """SeLa Eq. 9: alpha_y <- r_y / (P^lambda beta)_y, beta_i <- c_i / (alpha P^lambda)_i -> Q [N, K]."""
    powered = p**weight
    beta = np.full(len(p), 1 / len(p))
    for _ in range(iterations):
        alpha = marginals / (powered.T @ beta)
        beta = (1 / len(p)) / (powered @ alpha)
    return beta[:, None] * powered * alpha[None, :]


def probabilities(seed: int = 0, spread: float = 1.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(N, K)) * spread
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def scaled(p: np.ndarray, weight: float) -> room.Scores:
    s = torch.from_numpy(weight * np.log(p))
    return lambda first, stop: s[first:stop]


def plan_of(scores: room.Scores, potentials: torch.Tensor) -> np.ndarray:
    """Q from the potentials, rows scaled to 1 / N."""
    return (scores(0, N).double() + potentials).softmax(1).numpy() / N


@pytest.mark.parametrize("marginals", [np.full(K, 1 / K), np.arange(1, K + 1) / (K * (K + 1) / 2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_papers_iteration(
    marginals: np.ndarray, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At convergence both are the one matrix with these marginals; blocks of a few rows."""
    monkeypatch.setattr(room, "BLOCK_BYTES", 8 * K * 11)
    p = probabilities()
    tolerance = 1e-11 if dtype == torch.float64 else 1e-5
    found = sinkhorn(
        scaled(p, 5.0),
        N,
        torch.from_numpy(marginals),
        tolerance=tolerance,
        max_iterations=20_000,
        dtype=dtype,
    )
    q = plan_of(scaled(p, 5.0), found.potentials)
    expected = naive(p, 5.0, marginals, 20_000)
    rtol = 1e-8 if dtype == torch.float64 else 1e-3
    np.testing.assert_allclose(q, expected, rtol=rtol, atol=1e-9 if dtype == torch.float64 else 1e-7)
    np.testing.assert_allclose(q.sum(0), marginals, atol=10 * tolerance)
    assert found.error <= tolerance


def test_float32_gives_the_labels_of_float64_at_lambda_25() -> None:
    p = probabilities(3, spread=2.0)
    marginals = torch.full((K,), 1 / K, dtype=torch.float64)
    labels = [
        labels_of(scaled(p, 25.0), N, sinkhorn(scaled(p, 25.0), N, marginals, dtype=dtype).potentials)
        for dtype in (torch.float32, torch.float64)
    ]
    assert labels[0].equal(labels[1])


def test_streamed_equals_kept() -> None:
    """What is made anew in every pass has the same bits."""
    p = probabilities(1)
    marginals = torch.full((K,), 1 / K, dtype=torch.float64)
    kept = sinkhorn(scaled(p, 25.0), N, marginals, tolerance=1e-4)
    ends: list[int] = []
    settings: dict[str, Any] = {"memory_bytes": 0, "on_pass": lambda: ends.append(len(ends))}
    streamed = sinkhorn(scaled(p, 25.0), N, marginals, tolerance=1e-4, **settings)
    assert kept.potentials.equal(streamed.potentials)
    assert kept.iterations == streamed.iterations == len(ends) > 1


def test_a_starved_cluster_gets_its_share() -> None:
    """All images are e^200 surer of cluster 0: in the probability domain the others underflow to 0."""
    logits = torch.randn(N, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 200

    def scores(first: int, stop: int) -> torch.Tensor:
        return logits[first:stop]

    found = sinkhorn(scores, N, torch.full((3,), 1 / 3, dtype=torch.float64), tolerance=1e-3)
    assert found.error <= 1e-3
    sizes = torch.bincount(labels_of(scores, N, found.potentials), minlength=3)
    assert sizes.min() > N / 6


def test_equal_partition_of_separable_images_is_exact() -> None:
    """Four certain images per cluster: the only equal partition is the given one."""
    truth = torch.arange(K).repeat(4)
    logits = 10 * torch.nn.functional.one_hot(truth, K).double()
    found = sinkhorn(lambda a, b: 25 * logits[a:b], len(truth), torch.full((K,), 1 / K).double())
    assert labels_of(lambda a, b: 25 * logits[a:b], len(truth), found.potentials).equal(truth)


def test_warm_start_takes_fewer_passes() -> None:
    p = probabilities(2)
    marginals = torch.full((K,), 1 / K, dtype=torch.float64)
    cold = sinkhorn(scaled(p, 10.0), N, marginals, tolerance=1e-6, max_iterations=5_000, dtype=torch.float64)
    near = scaled(p ** (1 + 1e-4), 10.0)
    again = sinkhorn(near, N, marginals, tolerance=1e-6, max_iterations=5_000, dtype=torch.float64)
    warm = sinkhorn(
        near, N, marginals, tolerance=1e-6, max_iterations=5_000, dtype=torch.float64, start=cold.potentials
    )
    assert warm.iterations < again.iterations


def test_refuses_scores_that_are_not_finite() -> None:
    scores = torch.full((4, 2), float("nan"))
    with pytest.raises(DataError, match="not finite"):
        sinkhorn(lambda a, b: scores[a:b], 4, torch.tensor([0.5, 0.5]))


def sharp() -> tuple[room.Scores, list[int], torch.Tensor]:
    """400 x 60 scores of which few count in a row, how often they are asked for, and uneven marginals."""
    logits = 60 * torch.randn(400, 60, generator=torch.Generator().manual_seed(5))
    asked: list[int] = []

    def scores(first: int, stop: int) -> torch.Tensor:
        asked.append(first)
        return logits[first:stop]

    return scores, asked, torch.arange(60, 120).double() / torch.arange(60, 120).sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dropping_small_entries_changes_nothing(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thinned and whole, to the rounding of the dtype; streamed, the thinned one stops asking for scores."""
    monkeypatch.setattr(room, "BLOCK_BYTES", 8 * 60 * 50)
    thinned = []
    thin = room.Matrix.thin

    def spy(matrix: room.Matrix, potentials: torch.Tensor, limit_bytes: int) -> bool:
        thinned.append(thin(matrix, potentials, limit_bytes))
        return thinned[-1]

    monkeypatch.setattr(room.Matrix, "thin", spy)
    scores, asked, marginals = sharp()
    settings = {"tolerance": 1e-5, "max_iterations": 3_000, "dtype": dtype}
    found = sinkhorn(scores, 400, marginals, memory_bytes=80_000, **settings)
    assert thinned
    assert thinned[-1]
    assert len(asked) < found.iterations * 4
    monkeypatch.setattr(room, "SETTLED", -1.0)
    whole = sinkhorn(scores, 400, marginals, **settings)
    atol = 2e-3 if dtype == torch.float32 else 1e-7
    np.testing.assert_allclose(found.potentials, whole.potentials, atol=atol)
    assert labels_of(scores, 400, found.potentials).equal(labels_of(scores, 400, whole.potentials))


def test_what_is_dropped_weighs_nothing_however_far_the_factors_go() -> None:
    """Rows summed without it differ by less than float32 rounds, at the ends of the reach as well."""
    logits = 60 * torch.randn(90, 60, generator=torch.Generator().manual_seed(6))
    matrix = room.Matrix(lambda first, stop: logits[first:stop], 90, 60, torch.float32, kept=True)
    potentials = torch.randn(60, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    assert matrix.thin(potentials, 1 << 30)
    assert matrix.thinned is not None
    assert 2 * 90 < matrix.thinned.nnz < room.THIN_SHARE * 90 * 60
    kept = matrix.thinned.toarray() > 0
    whole = (logits.double() + potentials).numpy()
    whole = np.exp(whole - whole.max(1, keepdims=True))
    best = (np.arange(90), whole.argmax(1))
    for row in range(90):
        factors = np.full(60, np.exp(room.THIN_REACH))
        factors[best[1][row]] = 1.0  # the largest is not lifted, all others as far as they may be
        lifted = whole[row] * factors
        assert lifted[~kept[row]].sum() <= np.finfo(np.float32).eps * lifted.sum()
    np.testing.assert_allclose(matrix.thinned.toarray()[kept], whole[kept], rtol=1e-4)
