"""Neighbors of all rows, and the map made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from threadpoolctl import threadpool_limits

from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.exports import graph, map_layout
from rayscan.exports.cleanlab import as_csr
from rayscan.exports.graph import Graph, components, neighbor_graph
from rayscan.vectors.parts import EmbeddingRows
from tests.unit.exports.pictured import pictured


def exact(units: np.ndarray, k: int = 15) -> Graph:
    ids = nearest_rows(units, k)
    return Graph(ids, np.maximum(1 - np.einsum("nd,nkd->nk", units, units[ids]), 0).astype(np.float32))


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return unit_rows(load_digits().data.astype(np.float32))


def test_neighbors_stay_together_far_better_than_under_pca(digits: np.ndarray) -> None:
    """Trustworthiness (Venna, Kaski 2001) of UMAP on these is 0.985 to 0.99 (umap-learn 0.5, cosine)."""
    centred = digits - digits.mean(axis=0)
    start = (centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T).astype(np.float32)
    places = map_layout.map_layout(exact(digits), start, 0)
    before, after = (trustworthiness(digits, p, n_neighbors=15, metric="cosine") for p in (start, places))
    assert before < 0.9
    assert after > 0.975


def test_a_map_does_not_depend_on_threads_and_does_on_the_seed(digits: np.ndarray) -> None:
    some = digits[:300]
    start = some[:, 20:22]
    with threadpool_limits(1):
        one = map_layout.map_layout(exact(some), start, 7)
    with threadpool_limits(2):
        assert np.array_equal(map_layout.map_layout(exact(some), start, 7), one)
    assert not np.array_equal(map_layout.map_layout(exact(some), start, 8), one)


def test_moves_are_the_gradients_of_the_cross_entropy() -> None:
    """UMAP's loss (arXiv 1802.03426, Sec. 3.2): -log v along edges, -log(1 - v) between others."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(6), np.arange(5)), axis=-1).reshape(-1, 2)
    places = (1.5 * grid + rng.uniform(-0.1, 0.1, grid.shape)).astype(np.float32)
    heads, tails = rng.permutation(30)[:20].reshape(2, 10).astype(np.int32)
    others = ((heads + rng.integers(1, 30, size=(5, 10))) % 30).astype(np.int32)
    at = torch.tensor(places, dtype=torch.float64, requires_grad=True)
    a, b = float(map_layout.CURVE_A), 7 / 8

    def alike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return 1 / (1 + a * (one - other).square().sum(-1) ** b)

    loss = -alike(at[heads], at[tails]).log().sum()
    for some in others:  # the negatives themselves stay where they are
        loss = loss - (1 - alike(at[heads], at.detach()[some])).log().sum()
    loss.backward()
    moved = places.copy()
    map_layout._move(moved, heads, tails, others, np.float32(1e-2))
    assert np.allclose((moved - places) / 1e-2, -at.grad.numpy(), atol=0.02)


def test_rows_without_neighbors_and_tiny_sets_are_placed() -> None:
    lonely = Graph(np.full((5, 3), -1), np.full((5, 3), np.inf, np.float32))
    assert np.isfinite(map_layout.map_layout(lonely, np.eye(5, 2, dtype=np.float32), 0)).all()
    nobody = Graph(np.empty((1, 0), np.int64), np.empty((1, 0), np.float32))
    assert map_layout.map_layout(nobody, np.zeros((1, 2), np.float32), 0).shape == (1, 2)
    partly = Graph(np.array([[1, 2], [0, -1], [-1, -1]]), np.array([[0.1, 0.2], [0.1, np.inf], [np.inf] * 2]))
    assert np.isfinite(map_layout.map_layout(partly, np.eye(3, 2, dtype=np.float32), 0)).all()
    assert as_csr(partly).toarray().tolist() == [[0, 0.1, 0.2], [0.1, 0, 0], [0, 0, 0]]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory):
    return pictured(tmp_path_factory.mktemp("run"), num_images=600)


def test_what_was_not_mined_is_searched_exactly_in_blocks(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "QUERIES", 70)
    monkeypatch.setattr(graph, "STORED", 130)
    opened, rows = run.opened, EmbeddingRows(run.done["embed"])
    del opened.record["stages"]["mine"]
    found = neighbor_graph(opened, rows, rows.gids, 10)
    want = exact(run.rows, 10)
    assert np.allclose(found.distances, want.distances, atol=1e-5)
    same = [len(set(a) & set(b)) for a, b in zip(found.ids.tolist(), want.ids.tolist(), strict=True)]
    assert np.mean(same) > 9.9, "but for equal distances"


def test_beyond_the_budget_lists_are_searched(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "PAIRS", 0)
    opened, rows = run.opened, EmbeddingRows(run.done["embed"])
    del opened.record["stages"]["mine"]
    found, want = neighbor_graph(opened, rows, rows.gids, 10), exact(run.rows, 10)
    same = [len(set(a) & set(b)) for a, b in zip(found.ids.tolist(), want.ids.tolist(), strict=True)]
    assert np.mean(same) > 8.5
    assert all(row not in ids for row, ids in enumerate(found.ids.tolist()))


def test_components_in_blocks_are_those_of_all_rows(run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = EmbeddingRows(run.done["embed"])
    whole = np.linalg.svd(run.rows - run.rows.mean(axis=0), full_matrices=False)[2][:2]
    monkeypatch.setattr(graph, "STORED", 100)
    found = components(rows, np.arange(600), 2).components
    assert np.allclose(np.abs(np.einsum("pd,pd->p", found, whole)), 1, atol=1e-4)
