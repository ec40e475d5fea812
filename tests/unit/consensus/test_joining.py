"""Groups joined by their links: a slow twin by definition, tiny groups, and too few to join."""

from __future__ import annotations

import itertools
from math import sqrt

import numpy as np
import pytest
from scipy.sparse import csr_array

from rayscan.consensus import joining
from rayscan.consensus.graphs import adjacency
from rayscan.consensus.joining import RULES, joined
from rayscan.consensus.neighbors import nearest_rows, unit_rows


def likeness_by_definition(name: str, graph: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Of two groups, given as masks of rows: links between them and their ends as shares of all ends."""
    between = graph[np.ix_(a, b)].sum() / graph.sum()
    ends = graph[a].sum() / graph.sum(), graph[b].sum() / graph.sum()
    return between / sqrt(ends[0] * ends[1]) if name == "cosine" else between - ends[0] * ends[1]


def joined_by_definition(
    name: str, graph: np.ndarray, groups: np.ndarray, num_clusters: int
) -> set[frozenset[int]]:
    """Every pair is looked at anew before each join."""
    sets = [np.flatnonzero(groups == number) for number in np.unique(groups)]
    while len(sets) > num_clusters:
        i, j = max(
            itertools.combinations(range(len(sets)), 2),
            key=lambda pair: likeness_by_definition(name, graph, sets[pair[0]], sets[pair[1]]),
        )
        sets[i] = np.concatenate([sets[i], sets.pop(j)])
    return {frozenset(rows.tolist()) for rows in sets}


def as_sets(labels: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == number).tolist()) for number in np.unique(labels)}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_joins_are_those_of_the_definition(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "LEAST", 0.0)
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(150, 5)).astype(np.float32)
    graph = adjacency(nearest_rows(unit_rows(rows), 8))
    groups = rng.integers(0, 14, 150) * 3  # numbers need not follow each other
    found = joined(graph, rows, groups, 4, RULES[name])
    assert found.dtype == np.int64
    assert sorted(np.unique(found)) == [0, 1, 2, 3]
    assert as_sets(found) == joined_by_definition(name, graph.toarray(), groups, 4)


def ring(first: int, count: int) -> list[tuple[int, int]]:
    """Links of a closed chain of rows."""
    return [(first + i, first + (i + 1) % count) for i in range(count)]


def linked(pairs: list[tuple[int, int]], count: int) -> csr_array:
    ends = np.array(pairs + [(b, a) for a, b in pairs])
    return csr_array((np.ones(len(ends), np.float32), (ends[:, 0], ends[:, 1])), shape=(count, count))


@pytest.mark.parametrize("name", RULES)
def test_copies_that_link_to_themselves_alone_are_no_cluster(name: str) -> None:
    """Two groups of 60 rows with a few links between, and three copies near the second with none."""
    pairs = ring(0, 60) + ring(60, 60) + ring(120, 3) + [(0, 60), (1, 61)]
    rows = np.repeat([[0.0], [5.0], [6.0]], [60, 60, 3], axis=0).astype(np.float32)
    groups = np.repeat([0, 1, 2], [60, 60, 3])
    found = joined(linked(pairs, 123), rows, groups, 2, RULES[name])
    assert as_sets(found) == {frozenset(range(60)), frozenset(range(60, 123))}


def test_a_tiny_group_joins_what_it_links_to_though_another_is_nearer() -> None:
    pairs = ring(0, 60) + ring(60, 60) + ring(120, 3) + [(0, 120)]
    rows = np.repeat([[0.0], [5.0], [6.0]], [60, 60, 3], axis=0).astype(np.float32)
    found = joined(linked(pairs, 123), rows, np.repeat([0, 1, 2], [60, 60, 3]), 2, RULES["cosine"])
    assert as_sets(found) == {frozenset([*range(60), 120, 121, 122]), frozenset(range(60, 120))}


def test_fewer_groups_than_clusters_stay_as_they_are() -> None:
    rows = np.zeros((10, 1), np.float32)
    found = joined(linked(ring(0, 10), 10), rows, np.repeat([7, 2], 5), 3, RULES["cosine"])
    assert found.tolist() == [1] * 5 + [0] * 5
