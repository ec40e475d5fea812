"""Graphs, diffusion and layout against dense matrices and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from rayscan.consensus.diffusion import diffusion_map, graph_eigenvectors, leading_eigenvectors
from rayscan.consensus.graphs import adjacency, degrees, diffused, normalized
from rayscan.consensus.layout import (
    CLIP,
    CURVE_A,
    CURVE_B,
    changes,
    fuzzy_graph,
    layout,
    neighbor_distances,
)
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.consensus.sparse import product
from tests.unit.consensus.naive import blobs, dense_graph, nearest


@pytest.fixture(scope="module")
def graph() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of two groups, 5 neighbours of each, and the dense graph."""
    rows, _ = blobs((35, 25), 6, spread=0.7)
    ids = nearest(rows, 5)
    return rows, ids, dense_graph(ids)


def test_adjacency_is_the_union_of_lists(graph: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, ids, dense = graph
    np.testing.assert_array_equal(adjacency(ids).toarray(), dense)
    np.testing.assert_array_equal(adjacency(ids, 3).toarray(), dense_graph(ids[:, :3]))
    np.testing.assert_allclose(degrees(adjacency(ids), 0.1), dense.sum(1) + 0.1 * dense.sum() / 60)


def test_diffusion_of_rows_equals_dense_steps(graph: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    rows, ids, dense = graph
    expected = rows.astype(np.float64)
    for _ in range(4):
        expected = (expected + dense / dense.sum(1, keepdims=True) @ expected) / 2
    np.testing.assert_allclose(diffused(rows, adjacency(ids), 4), expected, atol=1e-5)


def test_eigenvectors_equal_the_dense_solver(graph: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, ids, dense = graph
    scale = dense.sum(1) + 0.1 * dense.sum() / 60
    values, vectors = np.linalg.eigh(dense / np.sqrt(np.outer(scale, scale)))
    found, found_vectors, found_scale = graph_eigenvectors(adjacency(ids), 6, 0, 0.1)
    np.testing.assert_allclose(found, values[::-1][:6], atol=1e-9)
    np.testing.assert_allclose(np.abs(found_vectors.T @ vectors[:, ::-1][:, :6]), np.eye(6), atol=1e-5)
    expected = vectors[:, ::-1][:, :6] / np.sqrt(scale)[:, None] * np.maximum(values[::-1][:6], 0) ** 8
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    got = diffusion_map(found, found_vectors, found_scale)
    np.testing.assert_allclose(got @ got.T, expected @ expected.T, atol=1e-5)


def test_eigenvectors_of_separate_components_span_them() -> None:
    """Three components: the value 1 three times, which one vector after the other may miss."""
    ids = np.concatenate([np.roll(np.arange(20), -1)[:, None] + 20 * i for i in range(3)])
    walk = adjacency(ids)
    values, vectors = leading_eigenvectors(normalized(walk, degrees(walk)), 3, 0)
    np.testing.assert_allclose(values, 1, atol=1e-8)
    indicators = np.kron(np.eye(3), np.ones((20, 1))) / math.sqrt(20)
    np.testing.assert_allclose(vectors @ (vectors.T @ indicators), indicators, atol=1e-6)


def test_fuzzy_weights_equal_a_loop(graph: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    rows, ids, _ = graph
    units = unit_rows(rows)
    distances = neighbor_distances(units, ids)
    expected = np.array([[1 - float(units[i] @ units[j]) for j in ids[i]] for i in range(60)])
    np.testing.assert_allclose(distances, expected, atol=1e-5)
    directed = np.zeros((60, 60))
    for i in range(60):
        above = expected[i] - expected[i, 0]
        low, high = 1e-9, 10.0
        for _ in range(200):
            sigma = (low + high) / 2
            if np.exp(-above / sigma).sum() > math.log2(5):
                high = sigma
            else:
                low = sigma
        directed[i, ids[i]] = np.exp(-above / sigma)
    union = directed + directed.T - directed * directed.T
    np.testing.assert_allclose(fuzzy_graph(ids, distances).toarray(), union, atol=2e-3)


@pytest.mark.parametrize("in_cache", [5, 12, 100])
def test_a_block_of_changes_equals_a_loop_over_edges(in_cache: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayscan.consensus.layout.IN_CACHE", in_cache)
    rng = np.random.default_rng(2)
    places = rng.normal(scale=2, size=(30, 3)).astype(np.float32)
    heads, tails, negatives = (
        rng.integers(30, size=12),
        rng.integers(30, size=12),
        rng.integers(30, size=(12, 5)),
    )
    expected = np.zeros((30, 3))
    for head, tail, others in zip(heads, tails, negatives, strict=True):
        apart = places[head].astype(np.float64) - places[tail]
        square = apart @ apart
        if square > 0:
            pull = -2 * CURVE_A * CURVE_B * square ** (CURVE_B - 1) / (1 + CURVE_A * square**CURVE_B)
            expected[head] += np.clip(pull * apart, -CLIP, CLIP)
            expected[tail] -= np.clip(pull * apart, -CLIP, CLIP)
        for other in others:
            away = places[head].astype(np.float64) - places[other]
            square = away @ away
            push = 2 * CURVE_B / ((0.001 + square) * (1 + CURVE_A * square**CURVE_B))
            expected[head] += np.clip(push * away, -CLIP, CLIP)
    np.testing.assert_allclose(changes(places, heads, tails, negatives), expected, atol=1e-3)


def test_layout_keeps_groups_apart_and_repeats() -> None:
    rows, group = blobs((40, 40, 40), 10, spread=2.0)
    ids = nearest(rows, 15)
    graph = fuzzy_graph(ids, neighbor_distances(unit_rows(rows), ids))
    places = layout(graph, 0, epochs=50)
    again = nearest(places - places.mean(axis=0), 5)
    assert (group[again] == group[:, None]).mean() > 0.95
    np.testing.assert_array_equal(layout(graph, 0, epochs=50), places)
    assert not np.array_equal(layout(graph, 1, epochs=50), places)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_product_on_all_threads_is_the_product(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((40, 30)) < 0.2, rng.normal(size=(40, 30)), 0)
    dense[7] = 0
    rows = rng.normal(size=(12, 30)).astype(dtype).T  # not in one piece
    expected = dense.astype(dtype) @ rows
    for has_mkl in (True, False):
        monkeypatch.setattr("torch.backends.mkl.is_available", lambda has=has_mkl: has)
        found = product(csr_array(dense), dtype)(rows)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, atol=1e-5 if dtype is np.float32 else 1e-13)


def test_a_layout_in_pieces_hangs_on_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of a block are added up: changes of all edges, whoever computes them."""
    rows, _ = blobs((60, 50, 40), 8, spread=0.6)
    ids = nearest_rows(unit_rows(rows), 15)
    graph = fuzzy_graph(ids, neighbor_distances(unit_rows(rows), ids))
    whole = layout(graph, 0, epochs=3)
    monkeypatch.setattr("rayscan.consensus.layout.PIECE", 7)
    pieces = layout(graph, 0, epochs=3)
    np.testing.assert_allclose(pieces, whole, atol=2e-3)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if threads < 3 else 1)
        np.testing.assert_array_equal(layout(graph, 0, epochs=3), pieces)
    finally:
        torch.set_num_threads(threads)
