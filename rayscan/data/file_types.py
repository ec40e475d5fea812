"""Which kind of picture some bytes are, by how they begin: for images that have no name of their own."""

from __future__ import annotations

from rayscan.data.codecs import codec_of

_BEGINNINGS = {
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "jp2",
    b"\xff\x4f\xff\x51": "j2k",
}
"""First bytes of JPEG (ITU-T T.81), PNG, GIF, BMP, TIFF 6.0 and JPEG 2000 (ITU-T T.800)."""
UNKNOWN = "jpg"
"""For what is no picture: the index reads it as one, and says what is wrong."""


def extension_of(data: bytes) -> str:
    """The usual end of the name of such a file, without a dot.

    Args:
        data: The whole file, or its first 12 bytes.
    """
    for beginning, extension in _BEGINNINGS.items():
        if data.startswith(beginning):
            return extension
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "avif"
    codec = codec_of(data)
    return codec.extra if codec is not None else UNKNOWN
