"""The strong views of SCAN: four operations of RandAugment, then Cutout (SCAN supplement C, Table S2).

Deviation: pictures stay float between operations and geometric operations interpolate bilinearly, where the
paper's 8-bit pictures are rounded after each; posterize and equalize work on the 256 gray levels as defined.
Bits of posterize are drawn from the integers of its interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rayscan.data.color import brightness, contrast, saturation, solarize
from rayscan.data.geometry import affine_matrices, warp
from rayscan.data.keyed import Floats, choice, groups
from rayscan.types import Ints

NUM_OPERATIONS = 4
RANDAUGMENT_UNIFORMS = 2 * NUM_OPERATIONS
CUTOUT_UNIFORMS = 3

# Table S2. Angles in degrees; solarize in gray levels; shear and translation relative to the picture.
INTERVALS: dict[str, tuple[float, float]] = {
    "identity": (0, 0),
    "autocontrast": (0, 0),
    "equalize": (0, 0),
    "rotate": (-30, 30),
    "solarize": (0, 256),
    "color": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "brightness": (0.05, 0.95),
    "sharpness": (0.05, 0.95),
    "shear_x": (-0.1, 0.1),
    "translate_x": (-0.1, 0.1),
    "translate_y": (-0.1, 0.1),
    "posterize": (4, 8),
    "shear_y": (-0.1, 0.1),
}
_NAMES = tuple(INTERVALS)
_GEOMETRIC = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_LOWEST, _HIGHEST = np.array(list(INTERVALS.values())).T


def randaugment(x: Tensor, u: Floats) -> Tensor:
    """Four operations per view, drawn with replacement, each with its own magnitude.

    Args:
        x: [M, 3, S, S] in 0..1.
        u: Uniform numbers [M, RANDAUGMENT_UNIFORMS]: four choices, then four magnitudes.

    Returns:
        [M, 3, S, S] in 0..1; the input is not changed.
    """
    chosen = choice(u[:, :NUM_OPERATIONS], len(_NAMES))
    magnitudes = _LOWEST[chosen] + u[:, NUM_OPERATIONS:] * (_HIGHEST - _LOWEST)[chosen]
    posterized = chosen == _NAMES.index("posterize")
    bits = INTERVALS["posterize"][0] + choice(u[:, NUM_OPERATIONS:], 5)
    magnitudes = np.where(posterized, bits, magnitudes)
    x = x.clone()
    for place in range(NUM_OPERATIONS):
        _apply(x, chosen[:, place], magnitudes[:, place])
    return x


def _apply(x: Tensor, chosen: Ints, magnitudes: Floats) -> None:
    """One operation per view, in place; the geometric ones of all kinds share one resampling."""
    geometric = np.isin(chosen, [_NAMES.index(name) for name in _GEOMETRIC])
    for code, rows in groups(np.where(geometric, len(_NAMES), chosen)):
        if code == _NAMES.index("identity"):
            continue
        index = torch.as_tensor(rows, device=x.device)
        part = x.index_select(0, index)
        if code == len(_NAMES):
            changed = warp(part, geometric_matrices(chosen[rows], magnitudes[rows], x.shape[2]), x.shape[2])
        else:
            strengths = torch.as_tensor(magnitudes[rows].astype(np.float32), device=x.device)
            changed = OPERATIONS[_NAMES[code]](part, strengths)
        x.index_copy_(0, index, changed)


def geometric_matrices(chosen: Ints, magnitudes: Floats, size: int) -> Floats:
    """Maps [M, 2, 3] from output to source px for rotations, shears and translations.

    Rotation is about the centre, shear about the upper left corner, as in AutoAugment and RandAugment.

    Args:
        chosen: Operation numbers, int64 [M].
        magnitudes: Degrees, or shares of the picture [M].
        size: Side, px (S).
    """
    is_kind = {name: chosen == _NAMES.index(name) for name in _GEOMETRIC}
    zero = np.zeros(len(chosen))
    angle = np.where(is_kind["rotate"], np.radians(magnitudes), zero)
    tilt = np.arctan(magnitudes)
    shear = np.stack(
        [np.where(is_kind["shear_x"], tilt, zero), np.where(is_kind["shear_y"], tilt, zero)], axis=1
    )
    moved = [np.where(is_kind[f"translate_{axis}"], magnitudes * size, zero) for axis in "xy"]
    shift = np.stack(moved, axis=1)
    corner = (-size / 2, -size / 2)
    matrices = affine_matrices(angle, np.ones(len(chosen)), shear, shift, corner)
    centered = affine_matrices(angle, np.ones(len(chosen)), shear, shift)
    return np.where(is_kind["rotate"][:, None, None], centered, matrices)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with a picture smoothed by [[1,1,1],[1,5,1],[1,1,1]] / 13: 1 is the picture; the border stays."""
    inner = x[:, :, 1:-1, 1:-1]
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    smooth = (box + inner * 4) * (1 / 13)
    weight = factor.reshape(-1, 1, 1, 1)
    out = x.clone()
    out[:, :, 1:-1, 1:-1] = (inner * weight + smooth * (1 - weight)).clamp_(0, 1)
    return out


def autocontrast(x: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel to 0..1; a uniform channel stays."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    width = high - low
    flat = width == 0
    return (x - torch.where(flat, 0.0, low)) / torch.where(flat, 1.0, width)


def equalize(x: Tensor, _: Tensor) -> Tensor:
    """Flatten each channel's histogram of 256 levels, with the integer rule of Pillow and torchvision."""
    levels = _levels(x).flatten(2)
    histogram = torch.zeros((*levels.shape[:2], 256), dtype=torch.int64, device=x.device)
    histogram.scatter_add_(2, levels, torch.ones_like(levels))
    last = levels.amax(2, keepdim=True)
    step = (levels.shape[2] - histogram.gather(2, last)) // 255
    below = histogram.cumsum(2) - histogram
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    table = torch.where(step == 0, torch.arange(256, device=x.device), table)
    return (table.gather(2, levels).to(x.dtype) * (1 / 255)).reshape(x.shape)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each of the 256 levels."""
    unit = (2.0 ** (8 - bits)).reshape(-1, 1, 1, 1)
    levels = (x * 255 + 0.5).floor_()
    return (levels / unit).floor_() * unit * (1 / 255)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": autocontrast,
    "equalize": equalize,
    "solarize": lambda x, threshold: solarize(x, threshold / 255),
    "color": saturation,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
    "posterize": posterize,
}


def cutout(x: Tensor, u: Floats, longest: int) -> Tensor:
    """Set a square to 0 (the mean color, once pictures are normalized); DeVries and Taylor, arXiv 1708.04552.

    Args:
        x: [M, 3, S, S].
        u: Uniform numbers [M, CUTOUT_UNIFORMS].
        longest: The side is uniform in 1..longest, px; the centre is any pixel, so squares may hang over.
    """
    size = x.shape[2]
    sides = 1 + choice(u[:, 0], longest)
    inside = []
    for column in (1, 2):
        start = choice(u[:, column], size) - sides // 2
        stop = start + sides
        places = np.arange(size)
        inside.append((places >= start[:, None]) & (places < stop[:, None]))
    rows, columns = (torch.as_tensor(part, device=x.device) for part in inside)
    return x.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)


def _levels(x: Tensor) -> Tensor:
    return (x * 255 + 0.5).floor_().long()
