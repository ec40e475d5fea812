"""Requests for many byte ranges, turned into few reads: sorted by shard and position, near ones joined."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rayscan.types import Ints


class Reads(NamedTuple):
    """Reads in the order of shard and position."""

    order: Ints
    """Positions in the request, sorted by shard and offset [n]."""
    bounds: Ints
    """Read s brings the ranges order[bounds[s]:bounds[s + 1]]; int64 [reads + 1]."""
    shard: Ints
    """Shard of each read."""
    first: Ints
    """First byte of each read."""
    stop: Ints
    """One past its last byte."""


def plan_reads(shard: npt.NDArray[np.integer], offset: Ints, length: Ints, gap: Ints, longest: int) -> Reads:
    """The reads that bring all requested ranges.

    Args:
        shard: Shard of each requested range [n].
        offset: Its first byte [n].
        length: Its bytes [n].
        gap: Ranges of a shard that lie at most so many bytes apart are read together; per range [n].
        longest: Reads are cut at multiples of so many bytes.
    """
    order = np.lexsort((offset, shard))
    where, starts = shard[order].astype(np.int64), offset[order]
    stops = starts + length[order]
    cuts = np.ones(len(order) + 1, bool)
    far = starts[1:] - stops[:-1] > gap[order][1:]
    cuts[1:-1] = (where[1:] != where[:-1]) | far | (starts[1:] // longest != starts[:-1] // longest)
    bounds = np.flatnonzero(cuts)
    heads = bounds[:-1]
    ends = np.maximum.reduceat(stops, heads) if len(order) else stops
    return Reads(order, bounds if len(order) else np.zeros(1, np.int64), where[heads], starts[heads], ends)
