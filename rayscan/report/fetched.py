"""Pictures for the page of a run that had embeddings alone: those it shows are read from their addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.data.decode import decode
from rayscan.errors import RayscanError
from rayscan.storage import split_uri
from rayscan.types import Ints

MISSING = np.full((8, 8, 3), 224, np.uint8)
"""Stands for a picture that is not there: a grey square."""


def fetching(
    sources: Mapping[int, str], max_pixels: int, missed: list[str]
) -> Callable[[Ints], Sequence[NDArray[np.uint8]]]:
    """Return what reads pictures by gid from the addresses that came with the embeddings.

    Args:
        sources: gid -> path or URI.
        max_pixels: Refuse pictures with more pixels than this.
        missed: Filled with the addresses where no picture could be read: a page without them is worth more
            than no page.
    """

    def read(gids: Ints) -> Sequence[NDArray[np.uint8]]:
        return [_read(sources.get(int(gid), ""), max_pixels, missed) for gid in gids]

    return read


def _read(source: str, max_pixels: int, missed: list[str]) -> NDArray[np.uint8]:
    try:
        place, name = split_uri(source)
        return decode(place.read(name), max_pixels=max_pixels)
    except (OSError, RayscanError):
        missed.append(source)
        return MISSING
