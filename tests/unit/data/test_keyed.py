"""Keyed randomness: the hash as published, uniform, independent, and blind to the batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rayscan.data import keyed
from rayscan.data.keyed import PURPOSES, Draw, choice, groups, permutation, uniforms

ROOT = Path(__file__).parents[3]
GIDS = np.arange(40_000, dtype=np.int64)
MASK = (1 << 64) - 1
# First outputs of SplitMix64 seeded with 1234567, as listed for the public reference implementation.
SPLITMIX64 = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]


def test_mixer_gives_the_published_splitmix64_sequence() -> None:
    states = [(1234567 + k * 0x9E3779B97F4A7C15) & MASK for k in range(1, 5)]
    assert keyed._mix(np.array(states, np.uint64)).tolist() == SPLITMIX64


def _mix_slowly(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_vectorized_numbers_equal_the_hash_in_plain_integers() -> None:
    golden, key = 0x9E3779B97F4A7C15, 0
    for part in (3, 7, 1, 99):  # seed, epoch, view, purpose
        key = _mix_slowly(_mix_slowly((key + golden) & MASK) ^ part)
    drawn = uniforms(3, 7, np.array([0, 5, 2**40]), 1, 99, 4)
    for row, gid in enumerate((0, 5, 2**40)):
        state = _mix_slowly(_mix_slowly((gid + golden) & MASK) ^ key)
        for column in range(4):
            word = _mix_slowly((state + (column + 1) * golden) & MASK)
            assert drawn[row, column] == (word >> 11) / 2**53


def test_a_sample_keeps_its_numbers_in_any_batch() -> None:
    whole = uniforms(0, 1, GIDS[:500], 0, "crop", 7)
    rows = np.random.default_rng(0).permutation(500)[:123]
    assert np.array_equal(uniforms(0, 1, GIDS[rows], 0, "crop", 7), whole[rows])
    assert np.array_equal(uniforms(0, 1, GIDS[17:18], 0, "crop", 7), whole[17:18])
    assert np.array_equal(uniforms(0, 1, GIDS[:500], 0, "crop", 3), whole[:, :3])


def test_numbers_are_uniform_per_column_and_per_sample() -> None:
    drawn = uniforms(0, 0, GIDS, 0, "crop", 4)
    assert drawn.min() >= 0 and drawn.max() < 1
    for column in drawn.T:
        assert stats.chisquare(np.bincount((column * 256).astype(int), minlength=256)).pvalue > 1e-4
    across = uniforms(0, 0, GIDS[:3], 0, "crop", 40_000)
    for row in across:
        assert stats.chisquare(np.bincount((row * 256).astype(int), minlength=256)).pvalue > 1e-4


def _pair_pvalue(a: np.ndarray, b: np.ndarray) -> float:
    cells = (a * 16).astype(int) * 16 + (b * 16).astype(int)
    return float(stats.chisquare(np.bincount(cells, minlength=256)).pvalue)


def test_neighboring_keys_give_independent_numbers() -> None:
    """Joint 16 x 16 histograms of streams that differ in one part of the key are flat."""
    base = uniforms(0, 0, GIDS, 0, "crop", 2)
    others = {
        "next column": base[:, 1],
        "next gid": uniforms(0, 0, GIDS + 1, 0, "crop", 1)[:, 0],
        "next view": uniforms(0, 0, GIDS, 1, "crop", 1)[:, 0],
        "next epoch": uniforms(0, 1, GIDS, 0, "crop", 1)[:, 0],
        "next seed": uniforms(1, 0, GIDS, 0, "crop", 1)[:, 0],
        "other purpose": uniforms(0, 0, GIDS, 0, "flip", 1)[:, 0],
        "seed and epoch exchanged": uniforms(1, 0, GIDS, 0, "crop", 1)[:, 0],
    }
    for name, other in others.items():
        assert _pair_pvalue(base[:, 0], other) > 1e-4, name
    assert _pair_pvalue(uniforms(1, 0, GIDS, 0, "a", 1)[:, 0], uniforms(0, 1, GIDS, 0, "a", 1)[:, 0]) > 1e-4


def test_another_process_draws_the_same() -> None:
    program = (
        "import numpy as np; from rayscan.data.keyed import uniforms, permutation;"
        "print(uniforms(5, 6, np.arange(9), 1, 'crop', 3).tobytes().hex(), end='|');"
        "print(permutation(5, 'epoch', 6, 20).tolist())"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()
    hexed, order = out.split("|")
    assert bytes.fromhex(hexed) == uniforms(5, 6, np.arange(9), 1, "crop", 3).tobytes()
    assert order == str(permutation(5, "epoch", 6, 20).tolist())


def test_permutations_hold_everything_once_and_change_with_the_key() -> None:
    first = permutation(0, "epoch", 0, 1000)
    assert np.array_equal(np.sort(first), np.arange(1000))
    for other in (
        permutation(0, "epoch", 1, 1000),
        permutation(1, "epoch", 0, 1000),
        *(permutation(0, purpose, 0, 1000) for purpose in PURPOSES if purpose != "epoch"),
    ):
        assert np.mean(other == first) < 0.01
    firsts = [permutation(0, "epoch", epoch, 10)[0] for epoch in range(2000)]
    assert stats.chisquare(np.bincount(firsts, minlength=10)).pvalue > 1e-4


def test_words_of_purposes_differ_but_where_it_is_said() -> None:
    """No epoch, head or class of one purpose draws the order of another, except head 0's labels."""
    words = {
        (purpose, number): first + step * number
        for purpose, (first, step) in PURPOSES.items()
        for number in (range(900) if step else [0])
    }
    shared = [key for key, word in words.items() if list(words.values()).count(word) > 1]
    assert shared == [("probed images", 0), ("random labels", 0)]


def test_choice_covers_the_range_and_never_leaves_it() -> None:
    largest = np.nextafter(1.0, 0.0)
    for count in (1, 3, 10, 2**31 - 1):
        assert choice(np.array([0.0, largest]), count).tolist() == [0, count - 1]
    assert choice(np.array([0.5, 0.5]), np.array([2, 9])).tolist() == [1, 4]


def test_groups_partition_the_rows() -> None:
    codes = np.random.default_rng(1).integers(0, 5, 50)
    found = groups(codes)
    assert [code for code, _ in found] == sorted(set(codes.tolist()))
    for code, rows in found:
        assert rows.tolist() == [i for i in range(50) if codes[i] == code]
    assert groups(np.array([], np.int64)) == []


@pytest.mark.parametrize("views", [(0,), (0, 1), (3, 1)])
def test_draw_stacks_views_first(views: tuple[int, ...]) -> None:
    gids = np.array([4, 2, 9])
    drawn = Draw(1, 2, gids, views)("crop", 5)
    assert drawn.shape == (3 * len(views), 5)
    for v, view in enumerate(views):
        assert np.array_equal(drawn[3 * v : 3 * v + 3], uniforms(1, 2, gids, view, "crop", 5))
