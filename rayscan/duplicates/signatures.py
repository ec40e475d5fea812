"""The signature of an image: its grey levels at 32 x 32, which is what near-copies are compared by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rayscan.data.decode import Pixels

SIDE = 32
"""Rows and columns of a signature."""
LEAST_PX = 2 * SIDE
"""Short side at which an image is decoded for it, px."""


def signature(pixels: Pixels) -> NDArray[np.uint8]:
    """Grey levels of the whole picture, squeezed to a square and antialiased.

    Args:
        pixels: uint8 [h, w, 3].

    Returns:
        uint8 [SIDE, SIDE], by ITU-R BT.601 luma.
    """
    grey = Image.fromarray(pixels).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
