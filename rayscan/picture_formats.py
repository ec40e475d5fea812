"""Ends of the names of pictures, in lower case without the dot."""

from __future__ import annotations

READ = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "jp2", "j2k", "jpx"})
"""Of those that are always read."""
HEIC = frozenset({"heic", "heif", "hif"})
JXL = frozenset({"jxl"})
"""Of those that an extra reads."""
