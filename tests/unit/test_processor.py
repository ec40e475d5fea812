"""What is asked of the processor, and of the threads that BLAS takes of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from rayscan.consensus import cluster
from rayscan.consensus.cluster import consensus
from rayscan.consensus.threads import threads_for
from rayscan.metrics import probes
from rayscan.processor import blas_threads
from tests.unit.consensus.naive import blobs


def threads() -> set[int]:
    """Threads of every BLAS that is loaded."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two() -> Iterator[None]:
    with blas_threads(2):
        yield


def test_threads_are_as_before_afterwards() -> None:
    assert threads() == {2}
    with pytest.raises(KeyError), blas_threads(1):
        assert threads() == {1}
        raise KeyError
    assert threads() == {2}


def test_a_function_has_its_own_each_time_it_is_called() -> None:
    @blas_threads(1)
    def inside() -> set[int]:
        return threads()

    assert [inside(), threads(), inside(), threads()] == [{1}, {2}, {1}, {2}]


def test_torch_has_a_thread_for_so_many_rows() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for rows, expected in ((20, 1), (8_191, 1), (8_192, 2), (50_000, 3)):
            with threads_for(rows):
                assert (torch.get_num_threads(), threads()) == (expected, {1})
            assert (torch.get_num_threads(), threads()) == (3, {2})
    finally:
        torch.set_num_threads(before)


def test_few_rows_have_the_same_result_with_any_number_of_threads() -> None:
    rows, _ = blobs((150, 90, 60), 20, spread=1.5)
    before, found = torch.get_num_threads(), list[np.ndarray]()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            with blas_threads(count):
                found.append(consensus(rows, 3, 0).probabilities)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_small_products_are_done_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several wait for each other, on a busy machine many times as long as they compute."""
    seen = list[set[int]]()
    search, drops = cluster.search_any, probes.LINEAR_DROPS

    def searched(*given: object) -> object:
        seen.append(threads())
        return search(*given)  # type: ignore[arg-type]

    class Watched(tuple):  # read in every epoch
        def __iter__(self) -> object:
            seen.append(threads())
            return super().__iter__()

    monkeypatch.setattr(cluster, "search_any", searched)
    monkeypatch.setattr(probes, "LINEAR_DROPS", Watched(drops))
    rows, group = blobs((30, 30), 4)
    consensus(rows, 2, 0)
    x, y = torch.from_numpy(rows), torch.from_numpy(np.asarray(group))
    probes.linear_probe(x, y, x, num_classes=2, seed=0)
    assert len(seen) == 1 + probes.LINEAR_EPOCHS
    assert all(found == {1} for found in seen)
    assert threads() == {2}
