"""Clusters of uneven sizes: found where they are clear, left alone where they are not."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.consensus.cluster import consensus
from rayscan.consensus.result import Result
from rayscan.errors import ConfigError
from tests.unit.consensus.naive import blobs
from tests.unit.consensus.test_cluster import acc

SIZES = (1500, 60, 60, 60, 60)


@pytest.fixture(scope="module")
def planted() -> tuple[np.ndarray, np.ndarray]:
    """One large group and four small ones, 64 wide, well apart."""
    return blobs(SIZES, 64, seed=2, spread=0.8)


@pytest.fixture(scope="module")
def found(planted: tuple[np.ndarray, np.ndarray]) -> Result:
    return consensus(planted[0], 5, seed=0)


def test_clear_groups_of_uneven_sizes_are_found_unasked(
    planted: tuple[np.ndarray, np.ndarray], found: Result
) -> None:
    rows, group = planted
    assert acc(consensus(rows, 5, seed=0, sizes="even").labels, group) < 0.7, "the large one is cut"
    assert acc(found.labels, group) > 0.995
    assert np.abs(np.bincount(found.labels) - SIZES).max() <= 5
    assert found.is_uneven
    assert not found.is_plain


def test_how_sure_it_is_does_not_suffer_from_the_sizes(found: Result) -> None:
    """S of the true groups is at most H(sizes) / log C, .36 here, and the mean confidence far above it."""
    shares = np.array(SIZES) / sum(SIZES)
    assert found.bound == pytest.approx(-(shares * np.log(shares)).sum() / np.log(5), abs=0.02)
    assert 0.9 * found.bound < found.score < found.bound
    assert found.trust > 0.9
    assert found.probabilities.max(axis=1).mean() == pytest.approx(found.trust, abs=0.01)


def test_the_model_tells_new_rows_as_well(found: Result) -> None:
    rows, group = blobs(SIZES, 64, seed=2, spread=0.8)
    new = rows + np.random.default_rng(3).normal(0, 0.3, rows.shape).astype(np.float32)
    assert acc(found.ensemble.probabilities([new]).argmax(axis=1), group) > 0.97


def test_asked_for_they_are_looked_for_again_and_again_alike(planted: tuple[np.ndarray, np.ndarray]) -> None:
    first, again = (consensus(planted[0], 5, seed=4, sizes="uneven") for _ in range(2))
    assert acc(first.labels, planted[1]) > 0.995
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)


@pytest.mark.parametrize("spread", [0.8, 0.3], ids=["clear", "one in another"])
def test_equal_groups_are_those_of_the_search_for_equal_ones(spread: float) -> None:
    rows, _ = blobs((200, 200, 200, 200), 32, seed=1, spread=spread)
    unasked, even = (consensus(rows, 4, seed=0, sizes=sizes) for sizes in ("auto", "even"))
    np.testing.assert_array_equal(unasked.labels, even.labels)
    np.testing.assert_array_equal(unasked.probabilities, even.probabilities)
    assert not unasked.is_uneven


def test_above_a_hundred_clusters_it_cannot_be_asked_for() -> None:
    rows, _ = blobs((300, 300), 16)
    with pytest.raises(ConfigError, match=r"up to a hundred(.|\n)*consensus\.sizes"):
        consensus(rows, 101, seed=0, sizes="uneven")
