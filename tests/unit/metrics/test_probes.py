"""Probes against slow twins and another library, on real digits; label-free stability by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from rayscan.metrics.probes import linear_probe, weighted_knn
from rayscan.metrics.stability import nearest_rows, neighbor_overlap
from rayscan.stages.baseline import probe
from rayscan.stages.labels import Classes
from rayscan.vectors.parts import EmbeddingRows
from tests.unit.report.digits_run import DigitsRun


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = load_digits(return_X_y=True)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return torch.from_numpy(unit.astype(np.float32)), torch.from_numpy(y.astype(np.int64))


def naive_knn(train: np.ndarray, y: np.ndarray, query: np.ndarray, k: int, sigma: float) -> int:
    """One query: sort all cosines, let the first k vote."""
    cosines = [float(row @ query) for row in train]
    nearest = sorted(range(len(train)), key=lambda i: -cosines[i])[:k]
    votes = [0.0] * 10
    for i in nearest:
        votes[y[i]] += math.exp(cosines[i] / sigma)
    return votes.index(max(votes))


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_knn_equals_naive(digits: tuple[torch.Tensor, torch.Tensor], sigma: float) -> None:
    x, y = digits
    voted = weighted_knn(x[:300], y[:300], x[300:340], (1, 7, 200), num_classes=10, temperature=sigma)
    for k, found in voted.items():
        naive = [naive_knn(x[:300].numpy(), y[:300].numpy(), q, k, sigma) for q in x[300:340].numpy()]
        assert found.tolist() == naive


def test_more_voters_than_rows_are_all_rows(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = digits
    few = weighted_knn(x[:20], y[:20], x[20:30], (20, 500), num_classes=10)
    assert torch.equal(few[20], few[500])


def test_linear_probe_is_as_good_as_logistic_regression(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = digits
    train, test = slice(0, 1500), slice(1500, None)
    found = linear_probe(x[train], y[train], x[test], num_classes=10, seed=0)
    scaled = ((x - x[train].mean(0)) / x[train].var(0).mean().sqrt()).numpy()
    model = LogisticRegression(max_iter=2000).fit(scaled[train], y[train].numpy())
    theirs = model.score(scaled[test], y[test].numpy())
    assert float((found == y[test]).double().mean()) > theirs - 0.02
    assert torch.equal(found, linear_probe(x[train], y[train], x[test], num_classes=10, seed=0))


def test_stage_scores_eval_rows_by_train_labels(tmp_path: Path) -> None:
    run = DigitsRun(tmp_path)
    class_of, names = run.labels.astype(np.int64), [str(d) for d in range(10)]
    rows = EmbeddingRows(run.done["embed"])
    scores = probe(run.recipe, rows, Classes(class_of, names))
    train = int(run.done["embed"].facts["train_rows"])
    x = torch.from_numpy(run.rows.astype(np.float32))
    gids = run.done["embed"].read_array("gids.npy")
    y = torch.from_numpy(class_of[gids])
    voted = weighted_knn(x[:train], y[:train], x[train:], (10,), num_classes=10)[10]
    assert scores["train_images"] == train
    assert scores["eval_images"] == len(x) - train
    assert scores["knn"]["10"] == pytest.approx(float((voted == y[train:]).double().mean()))
    assert scores["linear"] > 0.5
    assert probe(run.recipe, rows, Classes(np.full_like(class_of, -1), names)) == {}


def test_overlap_counts_shared_neighbors_in_any_order() -> None:
    before = torch.tensor([[1, 2, 3], [0, 2, 3]])
    now = torch.tensor([[3, 1, 9], [8, 7, 6]])
    assert neighbor_overlap(before, now) == pytest.approx((2 / 3 + 0) / 2)
    assert neighbor_overlap(before, before.flip(1)) == 1.0


def test_nearest_rows_leave_the_row_itself_out() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 3.0])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert nearest_rows(rows, 2).tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert nearest_rows(rows, 10).shape == (4, 3)
