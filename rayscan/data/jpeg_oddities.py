"""JPEG files that are odd and whole: what libjpeg warns of although no pixel is lost, put right beforehand.

ITU-T T.81, Annex B. Strict decoding stays the judge: what still draws a warning afterwards is damaged.
"""

from __future__ import annotations

import re
from collections.abc import Callable

START, END = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP14, _SOS = 0xE0, 0xEE, 0xDA
_SEQUENTIAL = (0xC0, 0xC1)
"""Frames whose scans take all coefficients at once: baseline, and extended with Huffman coding."""
MOST_MENDS = 4


def mended(data: bytes, warning: str) -> bytes | None:
    """The file without the oddity that libjpeg warned of; None if that is none, or cannot be put right.

    Args:
        data: A whole file.
        warning: What libjpeg said first.
    """
    for pattern, mend in _MENDS:
        if pattern.search(warning):
            better = mend(data)
            return None if better is None or better == data else better
    return None


def _with_end(data: bytes) -> bytes:
    """End mark appended: writers that were stopped, or strip zeros, leave it out with all rows there."""
    return data if data.endswith(END) else data + END


def _header(data: bytes) -> tuple[list[tuple[int, bytes]], int] | None:
    """Marker and content of the segments up to the first scan, and where its coded data begin.

    Bytes between segments that belong to none are passed over, as decoders do.
    """
    segments: list[tuple[int, bytes]] = []
    at = len(START)
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            return None
        marker = data[at + 1]
        if marker in (0x00, 0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            at += 1
            continue
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xD9 or stop > len(data) or stop < at + 4:
            return None
        segments.append((marker, data[at + 4 : stop]))
        at = stop
        if marker == _SOS:
            return segments, at


def _rewritten(data: bytes, change: Callable[[int, bytes, bool], bytes]) -> bytes | None:
    """The file with segments changed and nothing between them."""
    found = _header(data)
    if found is None:
        return None
    segments, rest = found
    is_sequential = any(marker in _SEQUENTIAL for marker, _ in segments)
    parts = [START]
    for marker, content in segments:
        content = change(marker, content, is_sequential)
        parts.append(bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content)
    return b"".join([*parts, data[rest:]])


def _plain(_marker: int, content: bytes, _is_sequential: bool) -> bytes:
    return content


def _scan(marker: int, content: bytes, is_sequential: bool) -> bytes:
    """Scan parameters of a sequential file as T.81, B.2.3 fixes them: Ss 0, Se 63, Ah and Al 0."""
    return content[:-3] + b"\x00\x3f\x00" if marker == _SOS and is_sequential else content


def _jfif(marker: int, content: bytes, _is_sequential: bool) -> bytes:
    """A revision of JFIF that decoders know."""
    is_jfif = marker == _APP0 and content.startswith(b"JFIF\0") and len(content) > 6
    return content[:5] + b"\x01\x02" + content[7:] if is_jfif else content


def _adobe(marker: int, content: bytes, _is_sequential: bool) -> bytes:
    """A transform that decoders know: they take an unknown one of three colours for YCbCr."""
    is_adobe = marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12
    return content[:11] + b"\x01" + content[12:] if is_adobe else content


_MENDS: tuple[tuple[re.Pattern[str], Callable[[bytes], bytes | None]], ...] = (
    (re.compile("Premature end of JPEG file"), _with_end),
    (re.compile("Invalid SOS parameters"), lambda data: _rewritten(data, _scan)),
    (re.compile("JFIF revision"), lambda data: _rewritten(data, _jfif)),
    (re.compile("Adobe color transform"), lambda data: _rewritten(data, _adobe)),
    (re.compile("extraneous bytes before marker"), lambda data: _rewritten(data, _plain)),
)
"""What libjpeg says, and what puts it right."""
