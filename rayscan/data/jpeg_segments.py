"""What a JPEG says beside its picture: the EXIF and ICC segments before the scan, found by walking them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_EXIF, _ICC, _SCAN = b"Exif\0\0", b"ICC_PROFILE\0", b"\xda"
_APP1, _APP2, _FILL = 0xE1, 0xE2, 0xFF
SMALL = 16 << 10
"""Bytes of a file that is searched faster than taken apart."""


class Notes(NamedTuple):
    """The segments that change how a picture is shown."""

    exif: bytes | None = None
    """With its `Exif` mark."""
    profile: bytes | None = None
    """ICC profile, whole."""


def notes_of(data: bytes) -> Notes:
    """The first EXIF segment of a JPEG, and its ICC profile, joined from its segments (ICC.1, Annex B.4)."""
    if len(data) < SMALL and _EXIF not in data and _ICC not in data:  # one search is quicker than the walk
        return Notes()
    exif, parts = None, dict[int, bytes]()
    for marker, first, stop in _segments(data):
        if marker == _APP1 and exif is None and data.startswith(_EXIF, first):
            exif = data[first:stop]
        elif marker == _APP2 and data.startswith(_ICC, first) and stop - first > len(_ICC) + 2:
            parts.setdefault(data[first + len(_ICC)], data[first + len(_ICC) + 2 : stop])
    return Notes(exif, b"".join(parts[number] for number in sorted(parts)) or None)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, first byte and stop of each segment."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (_SCAN, b""):
        if data[at + 1] == _FILL:
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield data[at + 1], at + 4, at + 2 + length
        at += 2 + length
