"""Pictures with structure at every scale, and alterations that leave a near-copy."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def texture(seed: int, height: int = 120, width: int = 160) -> Pixels:
    """A seeded picture, smooth patches of several sizes on one another: uint8 [h, w, 3]."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    for cells in (3, 7, 15):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 3
    return np.clip(pixels, 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int = 95) -> bytes:
    """The picture as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def halved(pixels: Pixels) -> Pixels:
    """Half the size."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC))


def cropped(pixels: Pixels, share: float, left: float, top: float) -> Pixels:
    """Each side less a share; left and top say how much of it goes there, 0..1."""
    height, width, _ = pixels.shape
    y, x = round(top * share * height), round(left * share * width)
    return pixels[y : y + height - round(share * height), x : x + width - round(share * width)]


def brightened(pixels: Pixels, factor: float) -> Pixels:
    """All values times a factor, clipped."""
    return np.clip(pixels.astype(np.float32) * factor, 0, 255).round().astype(np.uint8)
