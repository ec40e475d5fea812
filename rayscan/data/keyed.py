"""Randomness that belongs to a sample, not to a worker: every order, pair and view starts here.

A number is a hash of (seed, epoch, gid, view, purpose, column). It is the same in any batch, worker or
process, and no generator state has to be saved. The hash chains the finalizer of SplitMix64.
Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rayscan.types import Ints

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]

Purpose = Literal["epoch", "held-out images", "probed images", "random labels", "removed images"]
PURPOSES: Mapping[Purpose, tuple[int, int]] = {
    "epoch": (0, 1),  # one order of the train images per pass over them
    "held-out images": (-1, 0),  # train images that judge heads instead of training them
    "probed images": (-2, 0),  # images that linear probes see, and their folds
    "random labels": (-2, -1),  # SeLa's labels at the beginning, one order per head
    "removed images": (-1000, -1),  # images that an experiment leaves out, one order per class
}
"""The word that stands in a key in the place of the epoch: first + step * number.

Head 0's random labels and the probed images have the same word. Nothing compares the two orders, and another
word would change results that were recorded."""

_WORD = (1 << 64) - 1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: SplitMix64's Weyl increment
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def uniforms(seed: int, epoch: int, gids: Ints, view: int, purpose: int | str, count: int) -> Floats:
    """Independent numbers, uniform in [0, 1), for every sample.

    Args:
        seed: Seed of the run.
        epoch: Pass over the data.
        gids: Samples, int64 [B].
        view: Which view of the sample.
        purpose: Name of the choice; different purposes give different streams.
        count: Numbers per sample.

    Returns:
        float64 [B, count], multiples of 2^-53. A shorter count gives a prefix of the same numbers.
    """
    key = _key(seed, epoch, view, purpose)
    state = _mix(_mix(np.asarray(gids, np.int64).astype(np.uint64) + _GOLDEN) ^ key)
    steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    bits = _mix(state[:, None] + steps[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, purpose: Purpose, number: int, n: int) -> Ints:
    """A uniformly drawn order of 0..n-1: int64 [n], a pure function of the arguments.

    Args:
        seed: Seed of the run.
        purpose: What is ordered; different purposes do not meet but where `PURPOSES` says so.
        number: Which order of this purpose: the epoch, the head, the class; 0 where there is one only.
        n: Length.
    """
    first, step = PURPOSES[purpose]
    key = np.concatenate([_key(seed, first + step * number, part, "permutation") for part in (0, 1)])
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)


def choice(uniform: Floats, count: int | Ints) -> Ints:
    """Turn uniform numbers of any shape into equally likely integers 0..count-1."""
    return np.floor(uniform * count).astype(np.int64)  # u <= 1 - 2^-53, so the product rounds below count


def groups(codes: Ints) -> list[tuple[int, Ints]]:
    """Rows by code, so that per-sample choices can be applied one batch per choice.

    Args:
        codes: int64 [B].

    Returns:
        (code, ascending rows int64) for each code that occurs, ascending.
    """
    rows = np.argsort(codes, kind="stable")
    found, starts = np.unique(codes[rows], return_index=True)
    return list(zip(found.tolist(), np.split(rows, starts[1:]), strict=True)) if len(found) else []


@dataclass(frozen=True, eq=False)
class Draw:
    """The randomness of a batch of views, one row per (view, sample), views first."""

    seed: int
    epoch: int
    gids: Ints
    """Samples, int64 [B]."""
    views: tuple[int, ...] = (0,)
    """Views of each sample (V)."""

    def __call__(self, purpose: str, count: int) -> Floats:
        """Uniform numbers for a purpose: float64 [V * B, count], row v * B + b for view v of sample b."""
        drawn = [uniforms(self.seed, self.epoch, self.gids, view, purpose, count) for view in self.views]
        return np.concatenate(drawn)


def _key(seed: int, epoch: int, view: int, purpose: int | str) -> Words:
    """One word, uint64 [1], from everything but the sample; each step depends on all before it."""
    if isinstance(purpose, str):
        purpose = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")
    key = np.zeros(1, np.uint64)
    for part in (seed, epoch, view, purpose):
        key = _mix(_mix(key + _GOLDEN) ^ np.array([part & _WORD], np.uint64))
    return key


def _mix(words: Words) -> Words:
    """SplitMix64's finalizer: a bijection in which every input bit moves about half of the output bits."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))
