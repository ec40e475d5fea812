"""The decoding of every image at index time: does it decode, and how large is it then?"""

from __future__ import annotations

from typing import NamedTuple

from rayscan.data.decode import decode
from rayscan.errors import DataError

OK = "ok"
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


def inspect(data: bytes, *, max_pixels: int) -> Inspection:
    """What decoding an image whole shows: a header that reads well says nothing about the rest.

    Args:
        data: The bytes of the file.
        max_pixels: Larger pictures are refused before they are decoded.
    """
    try:
        height, width, _ = decode(data, max_pixels=max_pixels).shape
    except DataError as error:
        return Inspection(0, 0, error.text.partition("\n")[0])
    return Inspection(width, height, OK)
