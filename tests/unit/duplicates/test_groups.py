"""Stars against the rule done by hand over sets, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.duplicates.groups import stars


def drawn(seed: int, num: int = 60, pairs: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, num, (2, pairs))
    keep = first != second
    first, second = first[keep], second[keep]
    values = np.round(0.5 + 0.5 * ((first * 31 + second * 31 + first * second) % 97) / 97, 4)
    return first, second, values.astype(np.float32)


def by_sets(first: np.ndarray, second: np.ndarray, values: np.ndarray, num: int) -> list[int]:
    """The free image with most copies, then the nearest on average, then the first, takes all of them."""
    near: dict[int, dict[int, float]] = {}
    for a, b, value in zip(first.tolist(), second.tolist(), values.tolist(), strict=True):
        near.setdefault(a, {})[b] = value
        near.setdefault(b, {})[a] = value
    medoid, free = list(range(num)), set(range(num))
    for node in sorted(near, key=lambda n: (-len(near[n]), -np.mean(list(near[n].values())), n)):
        if node in free:
            members = free & near[node].keys()
            free -= members | {node}
            for member in members:
                medoid[member] = node
    return medoid


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_rule_done_over_sets(seed: int) -> None:
    pairs = drawn(seed)
    assert stars(*pairs, 60).tolist() == by_sets(*pairs, 60)


@pytest.mark.parametrize("seed", range(5))
def test_every_member_is_a_copy_of_its_medoid_in_any_order_of_the_pairs(seed: int) -> None:
    first, second, values = drawn(seed)
    found = stars(first, second, values, 60)
    known = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    members = np.flatnonzero(found != np.arange(60))
    assert len(members)
    assert all(frozenset((int(m), int(found[m]))) in known for m in members)
    assert (found[found] == found).all()
    order = np.random.default_rng(seed).permutation(len(first))
    turned = stars(second[order], first[order], values[order], 60)
    np.testing.assert_array_equal(turned, found)


def test_a_chain_is_not_one_group() -> None:
    links = np.arange(9)
    found = stars(links, links + 1, np.full(9, 0.9, np.float32), 10)
    assert np.bincount(found).max() <= 3


def test_without_pairs_everyone_is_alone() -> None:
    none = np.empty(0, np.int64)
    assert stars(none, none, np.empty(0, np.float32), 4).tolist() == [0, 1, 2, 3]
