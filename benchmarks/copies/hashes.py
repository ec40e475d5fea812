"""Perceptual hashes of imagehash as a rival: all pairs within a Hamming distance, grouped by equal stars."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor

import imagehash
import numpy as np
from PIL import Image

from benchmarks.copies.alterations import Collection
from rayscan.duplicates.groups import stars

HASHES = {"phash": imagehash.phash, "dhash": imagehash.dhash}
DISTANCES = (2, 4, 6, 8, 10, 12, 14, 16)
"""Bits of 64; 4 to 10 is what is usually taken."""


def hashes(known: Collection) -> dict[str, np.ndarray]:
    """Each hash of each file, which is decoded once: bool [N, 64] by name."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(_hashes, known.files))
    return {name: np.stack([row[name] for row in rows]) for name in HASHES}


def _hashes(data: bytes) -> dict[str, np.ndarray]:
    with Image.open(io.BytesIO(data)) as image:
        grey = image.convert("RGB").convert("L")  # what imagehash would do itself, once for each
        return {name: hashed(grey).hash.ravel() for name, hashed in HASHES.items()}


def groups(bits: np.ndarray, distance: int) -> np.ndarray:
    """Group of each file, where pairs of at most so many different bits are near-copies: [N]."""
    signs = 2.0 * bits.astype(np.float32) - 1.0
    first, second, near = [], [], []
    for begin in range(0, len(bits), 1024):
        differ = (bits.shape[1] - signs[begin : begin + 1024] @ signs.T) / 2
        rows, columns = np.nonzero(differ <= distance)
        keep = rows + begin < columns
        first.append(rows[keep] + begin)
        second.append(columns[keep])
        near.append(1 - differ[rows[keep], columns[keep]] / bits.shape[1])
    return stars(
        np.concatenate(first), np.concatenate(second), np.concatenate(near).astype(np.float32), len(bits)
    )
