"""Pictures with too many pixels: decoded at a reduced scale where their codec can, else refused."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from rayscan.errors import DataError

JPEG_STEPS = (1, 2, 4, 8)
"""libjpeg decodes at these reductions by smaller inverse transforms, at all others more slowly than whole."""
_SIZE, _CODING = b"\xff\x4f\xff\x51", b"\xff\x52"
"""Markers of JPEG 2000: the beginning of a codestream, and how it is coded (ISO/IEC 15444-1, Annex A)."""
_LEVELS_AT = 9


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by its size, px.

    Raises:
        DataError: too-many-pixels.
    """
    if width * height > max_pixels:
        raise DataError(
            "too-many-pixels",
            expected=f"<= {max_pixels:,}",
            got=f"{width} x {height}",
            fix="allow more with --images.max-pixels",
        )


def least_reduction(height: int, width: int, max_pixels: int, steps: Sequence[int] = JPEG_STEPS) -> int:
    """The least reduction at which a picture has no more than `max_pixels`.

    Args:
        height: px.
        width: px.
        max_pixels: Allowed.
        steps: Reductions that the codec can, rising; sides are ceil(side / reduction).

    Raises:
        DataError: too-many-pixels at all of them.
    """
    for by in steps:
        if -(-height // by) * -(-width // by) <= max_pixels:
            return by
    check_size(width, height, max_pixels)
    return 1


def _jpeg2000_steps(data: bytes) -> list[int]:
    """Reductions that a file has resolution levels for."""
    start = data.find(_CODING, max(data.find(_SIZE), 0))
    levels = data[start + _LEVELS_AT] if 0 <= start < len(data) - _LEVELS_AT else 0
    return [1 << level for level in range(min(levels, 32) + 1)]


def reduce_opened(image: Image.Image, data: bytes, max_pixels: int) -> None:
    """Have Pillow decode a picture, which is opened and not loaded, at no more than `max_pixels`.

    Args:
        image: As opened.
        data: Its file.
        max_pixels: Allowed.

    Raises:
        DataError: too-many-pixels.
    """
    if image.format == "JPEG":
        by = least_reduction(image.height, image.width, max_pixels)
        if by > 1:
            image.draft(None, (image.width // by, image.height // by))
    elif image.format == "JPEG2000":
        by = least_reduction(image.height, image.width, max_pixels, _jpeg2000_steps(data))
        image.reduce = by.bit_length() - 1  # type: ignore[method-assign,assignment]
    else:
        check_size(image.width, image.height, max_pixels)
