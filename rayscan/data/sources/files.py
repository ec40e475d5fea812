"""Images that are files of their own: in folders, or named by a list."""

from __future__ import annotations

import errno
import zlib

from rayscan import storage
from rayscan.data.decode import IMAGE_EXTENSIONS
from rayscan.data.inspection import MISSING, inspected
from rayscan.data.sources.base import Format, Scan, SourceFile
from rayscan.data.tones import PLAIN, Decoding
from rayscan.errors import DataError


class ImageFiles(Format):
    """One image per file; its bytes are the whole file."""

    name = "files"
    suffixes = tuple(f".{extension}" for extension in sorted(IMAGE_EXTENSIONS))
    has_many = False

    def scan(self, entry: SourceFile, *, max_pixels: int, how: Decoding = PLAIN) -> Scan:
        """See `Format.scan`; a file that is not there or not ours to read is an image that is bad."""
        data, status = _read(entry)
        seen = inspected(data, max_pixels=max_pixels, how=how)
        row = {
            "key": entry.key,
            "source": entry.uri,
            "id": entry.id,
            "offset": 0,
            "length": len(data),
            "crc32": zlib.crc32(data),
            **seen,
            **({"status": status} if status else {}),
        }
        return Scan(entry.uri, len(data), "", [row], {})


def _read(entry: SourceFile) -> tuple[bytes, str]:
    """Bytes of an image file; or none, and why it goes into quarantine."""
    try:
        return storage.read(entry.uri), ""
    except DataError as error:
        number = getattr(error.__cause__, "errno", None)
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError) or number == errno.ELOOP:
            return b"", MISSING
        if isinstance(error.__cause__, PermissionError):
            return b"", "unreadable"
        raise
