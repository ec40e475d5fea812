"""The decoding of every image at index time: does it decode, and how large is it then?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy.typing as npt

from rayscan.data.decode import decode
from rayscan.data.tones import PLAIN, Decoding, sample_of
from rayscan.errors import DataError

OK = "ok"
TONES = "tones"
"""What a scan tells of a picture of more than 8 bits besides the columns: some of its pixels, `sample_of`."""
MISSING = "missing"
"""Status of an image that is named and not there."""
GONE = "gone"
"""Status of an image that an earlier index had, and that is not there any more: no other has its gid."""
CHANGED = "checksum"
"""Status of an image whose bytes are not those that were packed."""


class Inspection(NamedTuple):
    """What the index keeps of an image that was decoded."""

    width: int
    """px, as decoded; 0 if it does not decode."""
    height: int
    """px, as decoded; 0 if it does not decode."""
    status: str
    """`ok`, or the reason of `decode`."""


def inspected(data: bytes, *, max_pixels: int, how: Decoding = PLAIN) -> dict[str, Any]:
    """What `inspect` finds, by the names of the columns of an index; and `TONES` of more than 8 bits.

    Args:
        data: The bytes of the file.
        max_pixels: See `inspect`.
        how: See `decode`.
    """
    found: list[npt.NDArray[Any]] = []
    row = inspect(data, max_pixels=max_pixels, how=how, keep=found.append)._asdict()
    return row if not found or row["status"] != OK else {**row, TONES: sample_of(found[0], data)}


def inspect(
    data: bytes,
    *,
    max_pixels: int,
    how: Decoding = PLAIN,
    keep: Callable[[npt.NDArray[Any]], None] | None = None,
) -> Inspection:
    """What decoding an image whole shows: a header that reads well says nothing about the rest.

    Args:
        data: The bytes of the file.
        max_pixels: Larger pictures are decoded reduced, or refused before they are decoded, see `decode`.
        how: See `decode`.
        keep: See `decode`.
    """
    try:
        height, width, _ = decode(data, max_pixels=max_pixels, how=how, keep=keep).shape
    except DataError as error:
        return Inspection(0, 0, error.text.partition("\n")[0])
    return Inspection(width, height, OK)
