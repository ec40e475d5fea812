"""How many clusters: planted graphs and blobs, and the coding length term by term."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from rayscan.consensus.coding_length import coding_curve
from rayscan.consensus.communities import communities, counted, spectral_count
from rayscan.consensus.how_many import Estimate, how_many
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.quick import quick_grouping
from rayscan.consensus.space import Space, make_space
from rayscan.metrics.merging import merge_clusters
from tests.unit.consensus.naive import blobs, nearest


def planted(groups: int, size: int, inside: float, across: float, seed: int = 0) -> csr_array:
    """A graph whose groups are of equal size, links drawn one by one."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    chance = np.where(group[:, None] == group[None], inside, across)
    upper = np.triu(rng.random(chance.shape) < chance, 1)
    return csr_array((upper | upper.T).astype(np.float32))


def ring_of_cliques(cliques: int, size: int) -> csr_array:
    """Complete graphs, each joined to the next by a single link (Fortunato and Barthelemy 2007, Fig. 3)."""
    dense = np.kron(np.eye(cliques), np.ones((size, size)) - np.eye(size))
    for i in range(cliques):
        a, b = i * size, ((i + 1) % cliques) * size + 1
        dense[a, b] = dense[b, a] = 1
    return csr_array(dense.astype(np.float32))


@pytest.mark.parametrize("groups", [3, 7])
def test_communities_are_the_planted_groups(groups: int) -> None:
    labels = communities(planted(groups, 60, 0.3, 0.005), 1.0, seed=0)
    assert counted(labels) == groups
    assert all(len(set(labels[60 * g : 60 * (g + 1)].tolist())) == 1 for g in range(groups))


def test_small_communities_do_not_count() -> None:
    """5 rows of 1,000 count and 4 do not; 0.2 % of 4,000 are 8."""
    assert counted(np.repeat([0, 1, 2], [991, 5, 4])) == 2
    assert counted(np.repeat([0, 1, 2], [3985, 8, 7])) == 2


def test_a_greater_resolution_and_eigenvalues_see_what_modularity_joins() -> None:
    """30 cliques of 5: the greatest modularity pairs them, 0.888 against 0.876 (Fortunato, Barthelemy)."""
    graph = ring_of_cliques(30, 5)
    assert counted(communities(graph, 1.0, seed=0)) < 30 == counted(communities(graph, 4.0, seed=0))
    half = graph.toarray() / np.sqrt(np.outer(graph.sum(1), graph.sum(1)))
    assert spectral_count(graph, 0) == int((np.linalg.eigvalsh(half) > 0.9).sum())


def test_more_eigenvalues_than_are_looked_for_first_are_all_counted() -> None:
    """A component each: 100 eigenvalues are 1."""
    graph = csr_array(np.kron(np.eye(100), np.ones((6, 6)) - np.eye(6)).astype(np.float32))
    assert spectral_count(graph, 0) == 100


def test_coding_length_is_the_sum_term_by_term() -> None:
    """Every step of a merging, against the formula on the joined groups' rows."""
    rows, group = blobs((40, 30, 20, 10), 5)
    rows, ids = unit_rows(rows), nearest(rows, 6)
    merging = merge_clusters(group, np.arange(100), ids, 4)
    curve = coding_curve(rows, group, merging)
    assert [left for left, _ in curve] == [4, 3, 2, 1]
    for left, value in curve:
        labels = merging.mapping(left)[group]
        total = 0.0
        for k in range(left):
            z = rows[labels == k].astype(np.float64)
            volume = np.linalg.eigvalsh(np.eye(5) + 5 / (0.1 * len(z)) * z.T @ z)
            total += (len(z) + 5) / 2 * np.log(volume).sum() - len(z) * math.log(len(z) / 100)
        assert value == pytest.approx(total / 100, rel=1e-9)


@pytest.fixture(scope="module")
def found() -> tuple[Space, Estimate, np.ndarray]:
    """Five far groups of uneven sizes."""
    rows, group = blobs((200, 150, 100, 80, 40), 20)
    space = make_space(unit_rows(rows))
    return space, how_many(space, 0), group


def test_planted_groups_are_suggested_within_the_range(found: tuple[Space, Estimate, np.ndarray]) -> None:
    space, estimate, _ = found
    table = dict(estimate.table)
    assert estimate.suggested == 5
    assert estimate.low <= 5 <= estimate.high
    assert table["eigenvalues above 0.9"] == table["greatest modularity of a merging"] == 5
    lengths = [value for _, value in estimate.curve]
    assert dict(estimate.curve)[table["shortest coding length"]] == min(lengths)
    assert how_many(space, 0) == estimate


def test_a_quick_grouping_finds_groups_that_lie_apart(found: tuple[Space, Estimate, np.ndarray]) -> None:
    space, _, group = found
    labels = quick_grouping(space, 5, 0)
    np.testing.assert_array_equal(labels, group)  # by size, as they were planted


def test_many_groups_are_counted_by_eigenvalues_and_said_to_be_doubtful() -> None:
    """60 groups of 30: more than 25 eigenvalues near 1; the range reaches to twice as many."""
    rows, _ = blobs((30,) * 60, 64)
    estimate = how_many(make_space(unit_rows(rows)), 0)
    assert estimate.suggested == 60
    assert estimate.low <= 60 < estimate.high == 120
    assert "take more than you think" in estimate.caution


def test_few_rows_give_a_number_that_can_be_formed() -> None:
    rows, _ = blobs((12, 12), 8)
    estimate = how_many(make_space(unit_rows(rows)), 0)
    assert 2 <= estimate.low <= estimate.suggested <= estimate.high <= 12
