"""Forty images as people really have them: each becomes RGB uint8 of a known size, or a known reason.

Every case is (name, bytes, outcome): outcome is (height, width), or the quarantine reason of `decode`.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

MAX_PIXELS = 1_000_000
Outcome = tuple[int, int] | str
Case = tuple[str, bytes, Outcome]
H, W = 20, 30


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def photo(height: int = H, width: int = W) -> Image.Image:
    """A smooth picture."""
    coarse = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def turned(orientation: int) -> bytes:
    """A JPEG that asks to be turned before it is shown."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(photo(), "JPEG", exif=exif)


def png_of(width: int, height: int, color: int = 2, data: bytes = b"") -> bytes:
    """A PNG by hand: whatever size its header declares."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def _modes() -> Iterator[Case]:
    rgb = photo()
    yield "cmyk.jpg", saved(rgb.convert("CMYK"), "JPEG"), (H, W)
    yield "grey.jpg", saved(rgb.convert("L"), "JPEG"), (H, W)
    yield "grey.png", saved(rgb.convert("L"), "PNG"), (H, W)
    yield "grey-alpha.png", saved(rgb.convert("LA"), "PNG"), (H, W)
    yield "palette.png", saved(rgb.quantize(16), "PNG"), (H, W)
    yield "palette-transparent.png", saved(rgb.quantize(16), "PNG", transparency=0), (H, W)
    yield "one-bit.png", saved(rgb.convert("1"), "PNG"), (H, W)
    yield "transparent.png", saved(rgb.convert("RGBA"), "PNG"), (H, W)
    yield "transparent.webp", saved(rgb.convert("RGBA"), "WEBP", lossless=True), (H, W)
    deep = np.linspace(0, 65535, H * W).reshape(H, W).astype(np.uint16)
    yield "16-bit.png", saved(Image.fromarray(deep), "PNG"), (H, W)
    yield "16-bit.tif", saved(Image.fromarray(deep), "TIFF"), (H, W)
    yield "float.tif", saved(Image.fromarray(deep.astype(np.float32)), "TIFF"), "pixel-type"
    yield "32-bit.tif", saved(Image.fromarray(deep.astype(np.int32) * 1000), "TIFF"), "pixel-type"
    yield "lab.tif", saved(Image.new("LAB", (W, H)), "TIFF"), "pixel-type"
    yield "cmyk.tif", saved(rgb.convert("CMYK"), "TIFF"), (H, W)


def _files() -> Iterator[Case]:
    rgb = photo()
    yield "progressive.jpg", saved(rgb, "JPEG", progressive=True), (H, W)
    yield "4-2-0.jpg", saved(rgb, "JPEG", subsampling=2), (H, W)
    yield "quality-1.jpg", saved(rgb, "JPEG", quality=1), (H, W)
    yield "plain.bmp", saved(rgb, "BMP"), (H, W)
    frames = [rgb, rgb.rotate(90, expand=False), rgb.rotate(180)]
    for kind in ("GIF", "WEBP", "PNG"):
        animated = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        yield f"animated.{kind.lower()}", animated, (H, W)
    yield "one-pixel.png", saved(photo(1, 1), "PNG"), (1, 1)
    yield "one-pixel.jpg", saved(photo(1, 1), "JPEG"), (1, 1)
    yield "thin.png", saved(photo(1, 5000), "PNG"), (1, 5000)
    yield "png-named.jpg", saved(rgb, "PNG"), (H, W)
    yield "webp-named.png", saved(rgb, "WEBP"), (H, W)
    for orientation in (3, 6, 8):
        size = (H, W) if orientation == 3 else (W, H)
        yield f"turned-{orientation}.jpg", turned(orientation), size


def _broken() -> Iterator[Case]:
    jpeg, png = saved(photo(), "JPEG"), saved(photo(), "PNG")
    yield "empty.jpg", b"", "empty"
    yield "text.jpg", b"this is no picture\n" * 9, "format"
    yield "page.png", b"<html><script>alert(1)</script></html>", "format"
    yield "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "format"
    yield "icon.png", saved(photo(16, 16), "ICO"), "format"
    yield "half.jpg", jpeg[: len(jpeg) // 2], "damaged"
    yield "half.png", png[: len(png) // 2], "damaged"
    yield "bomb.png", png_of(20_000, 20_000), "too-many-pixels"
    yield "huge-bomb.png", png_of(2**31 - 1, 2**31 - 1), "too-many-pixels"
    large = saved(Image.new("RGB", (1200, 1200)), "JPEG")
    yield "large.jpg", large, (600, 600)  # at half its scale


def odd_images() -> list[Case]:
    """All forty."""
    return [*_modes(), *_files(), *_broken()]
