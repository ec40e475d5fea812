"""How alike two images are by their signatures, where one may be a light crop of the other.

The normalised cross-correlation of what is finer than a few pixels, which neither brightness nor contrast
changes, is taken for the whole pictures and with either cut to a window, its sides less CROP, at nine places.
Where it is best, the picture is divided into 4 x 4 blocks, and the likeness is the mean correlation
of the four blocks that agree least: a product held before the same shelf, or another picture in the same
frame, differs somewhere.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from rayscan.duplicates.signatures import SIDE
from rayscan.types import Ints

CROP = 0.065
"""Share of each side that a light crop takes away, the middle of 5 to 8 %; half a pixel off at most."""
SIGMA_PX = 3.0
"""What a Gaussian of this width leaves of a signature is taken off: light, and forms that many share."""
RIM_PX = 2
"""Pixels at each side that are not compared: frames."""
BLOCKS = 4
"""Blocks along each side."""
WORST = 4
"""Blocks that count."""
FLAT = 0.1
"""Share of a picture's mean energy added to each block, so that noise in flat ones counts for little."""
FLAT_ENERGY = 1.0
"""Sum of squared grey levels of an average block below which a picture counts as flat, like no other."""
COARSE = 0.4
"""Correlation of the whole pictures at 16 x 16 below which two images are not looked at closer."""
PAIRS_AT_ONCE = 1024

Signatures = NDArray[np.float32]
"""Grey levels [n, SIDE * SIDE]."""


def coarse_rows(signatures: Signatures) -> NDArray[np.float32]:
    """Pictures at 16 x 16, less their mean and of unit length: [n, 256]; one of a single grey is zero."""
    half = signatures.reshape(-1, SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4)).reshape(len(signatures), -1)
    half = half - half.mean(axis=1, keepdims=True)
    length = np.linalg.norm(half, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(half, length, out=np.zeros_like(half), where=length > 1e-3)
    return unit


def likeness(signatures: Signatures, first: Ints, second: Ints) -> NDArray[np.float32]:
    """How alike pairs of images are; the same whichever of a pair comes first.

    Args:
        signatures: Of all images that occur [n, SIDE * SIDE].
        first: Rows of one image of each pair [m].
        second: Rows of the other [m].

    Returns:
        -1..1, rounded to 1e-4, so that the order of sums does not matter: [m].
    """
    found = np.empty(len(first), np.float32)
    for begin in range(0, len(first), PAIRS_AT_ONCE):
        some = slice(begin, begin + PAIRS_AT_ONCE)
        rows, places = np.unique(np.concatenate([first[some], second[some]]), return_inverse=True)
        one, other = np.split(places, 2)
        found[some] = _likeness(_cuts(signatures[rows]), one, other)
    return np.round(found, 4)


def _cuts(signatures: Signatures) -> list[NDArray[np.float32]]:
    """The whole pictures and their nine windows, as blocks of fine structure: [n, BLOCKS^2, pixels] each."""
    pictures = signatures.reshape(-1, SIDE, SIDE)
    whole = _blocks(_windowed(pictures, _FINE, _FINE))
    return [
        whole,
        *(_blocks(_windowed(pictures, rows, columns)) for rows, columns in product(_WINDOWS, repeat=2)),
    ]


def _windowed(
    pictures: NDArray[np.float32],
    rows: tuple[NDArray[np.float32], NDArray[np.float32]],
    columns: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """The window less its smoothed self: each is one linear map of rows and one of columns."""
    (window_r, smooth_r), (window_c, smooth_c) = rows, columns
    return _mapped(pictures, window_r, window_c) - _mapped(pictures, smooth_r, smooth_c)


def _mapped(
    pictures: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Product rows X columns^T for each picture X, as two products of large matrices."""
    half = (pictures.reshape(-1, SIDE) @ columns.T).reshape(-1, SIDE, SIDE).transpose(0, 2, 1)
    return (np.ascontiguousarray(half).reshape(-1, SIDE) @ rows.T).reshape(-1, SIDE, SIDE).transpose(0, 2, 1)


def _blocks(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    inner = pictures[:, RIM_PX : SIDE - RIM_PX, RIM_PX : SIDE - RIM_PX]
    side = inner.shape[1] // BLOCKS
    cut = inner.reshape(-1, BLOCKS, side, BLOCKS, side).transpose(0, 1, 3, 2, 4)
    return np.ascontiguousarray(cut).reshape(len(pictures), BLOCKS * BLOCKS, side * side)


def _likeness(cuts: list[NDArray[np.float32]], one: Ints, other: Ints) -> NDArray[np.float32]:
    """Likeness of pairs from their cuts: the worst blocks where the whole correlation is best."""
    energies = [np.einsum("nbp,nbp->nb", cut, cut) for cut in cuts]
    best = np.full(len(one), -np.inf, np.float32)
    found = np.zeros(len(one), np.float32)
    for number in range(len(cuts)):
        for a, b in ((number, 0), (0, number)) if number else ((0, 0),):
            shared = np.einsum("nbp,nbp->nb", cuts[a][one], cuts[b][other])
            left, right = energies[a][one], energies[b][other]
            whole = shared.sum(axis=1) / np.sqrt(left.sum(axis=1) * right.sum(axis=1) + 1e-6)
            is_better = whole > best
            best = np.where(is_better, whole, best)
            found = np.where(is_better, _worst(shared, left, right), found)
    return found


def _worst(
    shared: NDArray[np.float32], left: NDArray[np.float32], right: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mean correlation of the WORST blocks, from sums of products and of squares [n, blocks]; 0 if flat."""
    mean_left, mean_right = (x.mean(axis=1, keepdims=True) for x in (left, right))
    is_flat = np.minimum(mean_left, mean_right)[:, 0] < FLAT_ENERGY
    mean_left, mean_right = (np.maximum(x, FLAT_ENERGY) for x in (mean_left, mean_right))
    scale = np.sqrt(mean_left * mean_right)
    blocks = (shared / scale + FLAT) / np.sqrt((left / mean_left + FLAT) * (right / mean_right + FLAT))
    worst: NDArray[np.float32] = np.sort(blocks, axis=1)[:, :WORST].mean(axis=1)
    return np.where(is_flat, np.float32(0.0), worst)


def _window(offset: float, crop: float) -> NDArray[np.float32]:
    """Linear interpolation of SIDE samples of a window of 1 - crop, `offset` of the slack from the start."""
    centers = offset * crop * SIDE + (np.arange(SIDE) + 0.5) * (1.0 - crop) - 0.5
    centers = np.clip(centers, 0, SIDE - 1)
    below = np.minimum(np.floor(centers).astype(int), SIDE - 2)
    weights = np.zeros((SIDE, SIDE), np.float32)
    weights[np.arange(SIDE), below] = 1 - (centers - below)
    weights[np.arange(SIDE), below + 1] = centers - below
    return weights


_SMOOTH = gaussian_filter1d(np.eye(SIDE), SIGMA_PX, axis=0, mode="nearest").astype(np.float32)
_FINE = (np.eye(SIDE, dtype=np.float32), _SMOOTH)
_WINDOWS = [(window, _SMOOTH @ window) for window in (_window(offset, CROP) for offset in (0.0, 0.5, 1.0))]
