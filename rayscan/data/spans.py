"""Requests for many images, turned into few reads: sorted by shard and position, near ones joined."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rayscan.data.keyed import Integers


class Spans(NamedTuple):
    """Reads, by shard and then by position."""

    order: Integers
    """Positions in the request, sorted by shard and offset [n]."""
    bounds: Integers
    """Read s brings the images order[bounds[s]:bounds[s + 1]]; int64 [reads + 1]."""
    shard: Integers
    """Shard of each read."""
    first: Integers
    """First byte of each read."""
    stop: Integers
    """One past its last byte."""


def plan_spans(
    shard: npt.NDArray[np.integer], offset: Integers, length: Integers, gap: Integers, longest: int
) -> Spans:
    """Decide what is read together.

    Args:
        shard: Shard of each requested image [n].
        offset: Its first byte [n].
        length: Its bytes [n].
        gap: Images of a shard that lie at most so many bytes apart are read together; per image [n].
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
    return Spans(order, bounds if len(order) else np.zeros(1, np.int64), where[heads], starts[heads], ends)
