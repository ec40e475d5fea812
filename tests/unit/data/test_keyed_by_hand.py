"""Numbers and orders by the name of their purpose, against the hash in plain integers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from rayscan.data.keyed import Purpose, permutation, uniforms

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mixed(z: int) -> int:
    """SplitMix64's finalizer."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def key_of(seed: int, epoch: int, view: int, purpose: str) -> int:
    """The chain over the four parts; a name counts as the first 64 bits of its sha256, little end first."""
    word = sum(byte << 8 * place for place, byte in enumerate(hashlib.sha256(purpose.encode()).digest()[:8]))
    key = 0
    for part in (seed, epoch, view, word):
        key = mixed(mixed((key + GOLDEN) & MASK) ^ (part & MASK))
    return key


@pytest.mark.parametrize(("seed", "epoch", "view"), [(0, 0, 0), (3, 7, 1), (5, -2, 0)])
def test_numbers_of_a_named_purpose(seed: int, epoch: int, view: int) -> None:
    gids, key = [0, 5, 2**40], key_of(seed, epoch, view, "crop")
    drawn = uniforms(seed, epoch, np.array(gids), view, "crop", 3)
    assert drawn.dtype == np.float64
    for row, gid in enumerate(gids):
        state = mixed(mixed((gid + GOLDEN) & MASK) ^ key)
        words = [mixed((state + (column + 1) * GOLDEN) & MASK) for column in range(3)]
        assert drawn[row].tolist() == [(word >> 11) / 2**53 for word in words]


@pytest.mark.parametrize(
    ("seed", "purpose", "number", "word"),
    [
        (0, "epoch", 0, 0),
        (3, "epoch", 7, 7),
        (5, "held-out images", 0, -1),
        (5, "probed images", 0, -2),
        (4, "random labels", 3, -5),
        (2, "removed images", 4, -1004),
    ],
)
def test_an_order_is_that_of_philox_under_the_two_keys(
    seed: int, purpose: Purpose, number: int, word: int
) -> None:
    """Views 0 and 1 of the purpose `permutation` are the two words of a Philox key.

    The word in the place of the epoch is what recorded runs have: the epoch, or a negative number.
    """
    key = np.array([key_of(seed, word, part, "permutation") for part in (0, 1)], np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key)).permutation(50)
    assert permutation(seed, purpose, number, 50).tolist() == expected.tolist()
