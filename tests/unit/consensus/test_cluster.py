"""The whole method: acceptance tests on planted groups, repeatability, and input it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest

from rayscan.consensus.candidates import STARTS
from rayscan.consensus.cluster import consensus
from rayscan.consensus.few_clusters import REFINED
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.consensus.result import Result
from rayscan.errors import ConfigError, DataError
from rayscan.metrics.assignment import accuracy, hungarian
from rayscan.metrics.contingency import Contingency
from tests.unit.consensus.naive import blobs


def acc(labels: np.ndarray, group: np.ndarray) -> float:
    """Share of rows in the right group under the best one-to-one match."""
    num = int(max(labels.max(), group.max())) + 1
    table = Contingency.count(labels, group, num, num)
    return accuracy(table, hungarian(table))


@pytest.fixture(scope="module")
def nuisance() -> tuple[np.ndarray, np.ndarray, Result]:
    """Acceptance test 1: three groups of 400 in 64 dimensions and a nuisance direction of deviation 9.5."""
    rows, group = blobs((400, 400, 400), 64, spread=0.8)
    rng = np.random.default_rng(1)
    direction = rng.normal(size=64)
    direction /= np.linalg.norm(direction)
    rows += (9.5 * rng.normal(size=(1200, 1)) * direction).astype(np.float32)
    return rows, group, consensus(rows, 3, seed=0)


def test_a_strong_nuisance_direction_is_seen_through(nuisance: tuple[np.ndarray, np.ndarray, Result]) -> None:
    rows, group, found = nuisance
    assert acc(kmeans(unit_rows(rows), 3, [0], starts=10), group) < 0.75
    assert acc(found.labels, group) > 0.995


def test_uneven_groups_keep_their_sizes() -> None:
    """Acceptance test 2: 1000, 300 and 100 rows."""
    rows, group = blobs((1000, 300, 100), 64, seed=2, spread=0.8)
    found = consensus(rows, 3, seed=0)
    assert acc(found.labels, group) > 0.995
    assert np.abs(np.bincount(found.labels) - [1000, 300, 100]).max() <= 5


def test_the_result_fits_together(nuisance: tuple[np.ndarray, np.ndarray, Result]) -> None:
    _, _, found = nuisance
    assert found.labels.dtype == np.int64
    assert found.probabilities.shape == (1200, 3)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert (found.probabilities.argmax(axis=1) == found.labels).mean() > 0.99
    assert (found.runner_up != found.labels).all()
    others = found.probabilities.copy()
    others[np.arange(1200), found.labels] = 0
    assert (others[np.arange(1200), found.runner_up] == others.max(axis=1)).all()
    assert found.agreement.min() >= 0
    assert found.agreement.max() <= 1
    sizes = np.bincount(found.labels)
    assert (np.diff(sizes) <= 0).all()


def test_candidates_are_ranked_and_named(nuisance: tuple[np.ndarray, np.ndarray, Result]) -> None:
    _, _, found = nuisance
    scores = [score for _, score in found.table]
    assert scores == sorted(scores, reverse=True)
    names = {name for name, _ in found.table}
    refined = min(REFINED, 2 * 11)  # two of a kind at most
    assert len(found.table) == len(names) == 11 * STARTS + refined
    assert all(re.fullmatch(r"0/[a-z_]+(\+lda)?-\d+", name) for name in names)
    assert sum("+lda" in name for name in names) == refined
    assert names >= {name.replace("+lda", "") for name in names}  # what was refined is there too
    kinds: list[str] = []
    expected = []
    for name, _ in found.table:
        kind = name.rsplit("-", 1)[0]
        if kinds.count(kind) < 2:
            kinds.append(kind)
            expected.append(name)
    assert [one.name for one in found.kept] == expected[:12]


def test_a_seed_repeats_and_mined_neighbours_change_nothing() -> None:
    rows, _ = blobs((60, 40, 30), 20, spread=0.6)
    first, again = consensus(rows, 3, seed=4), consensus(rows, 3, seed=4)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    assert first.table == again.table
    mined = consensus(rows, 3, 4, nearest_rows(unit_rows(rows), 50))
    np.testing.assert_array_equal(first.labels, mined.labels)
    few = consensus(rows, 3, 4, np.zeros((130, 9), np.int64))  # too few to be of use: mined again
    np.testing.assert_array_equal(first.labels, few.labels)
    longer = consensus(3 * rows, 3, seed=4)  # rows are scaled to unit length
    np.testing.assert_array_equal(first.labels, longer.labels)


def test_bad_input_is_refused() -> None:
    rows, _ = blobs((30, 30), 6)
    with pytest.raises(ConfigError, match=r"2\.\.30"):
        consensus(rows, 31, seed=0)
    with pytest.raises(ConfigError, match="num_clusters"):
        consensus(rows, 1, seed=0)
    with pytest.raises(DataError, match="too few rows"):
        consensus(rows[:10], 2, seed=0)
    with pytest.raises(DataError, match="do not fit"):
        consensus(rows, 2, 0, np.zeros((59, 20), np.int64))
    with pytest.raises(DataError, match="do not fit"):
        consensus([rows, rows[1:]], 2, 0)
    rows[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        consensus(rows, 2, seed=0)


def test_a_space_without_clusters_does_no_harm_and_two_are_named() -> None:
    rows, group = blobs((80, 60, 40), 20, spread=1.0)
    noise = np.random.default_rng(3).normal(size=(180, 10)).astype(np.float32)
    found = consensus([noise, rows], 3, 0)
    assert acc(found.labels, group) > 0.99
    assert acc(consensus(noise, 3, 0).labels, group) < 0.6
    assert {name.partition("/")[0] for name, _ in found.table} == {"0", "1"}
    assert [(one.reading.source, one.reading.is_root) for one in found.ensemble.members] == [
        (0, False),
        (1, False),
    ]
    np.testing.assert_array_equal(found.ensemble.probabilities([noise, rows]), found.probabilities)
