"""Where the pixels of a view come from: boxes, flips, affine maps, and the one resampling that applies them.

Boxes are int64 [M, 4] rows of (top, left, height, width) in source px. M counts views: V views of B samples.
Per-sample numbers are computed in float64 on the host; what runs per pixel uses only operations that round
correctly, so a view's bits do not depend on its batch.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from rayscan.data.keyed import Booleans, Floats, choice, groups
from rayscan.types import Ints

CROP_TRIES = 10
CROP_UNIFORMS = 2 * CROP_TRIES + 2
EVALUATION_SHARE = 7 / 8  # the usual centre crop of 224 from 256


def random_resized_boxes(
    u: Floats,
    heights: Ints,
    widths: Ints,
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Ints:
    """Boxes of random area and aspect ratio, as torchvision's RandomResizedCrop draws them.

    Args:
        u: Uniform numbers [M, CROP_UNIFORMS].
        heights: Image heights, px, int64 [M].
        widths: Image widths, px, int64 [M].
        scale: Range of the area relative to the image; uniform.
        ratio: Range of width / height; uniform in its logarithm.

    Returns:
        Boxes [M, 4]. The first of ten tries that fits, else the largest centered box within `ratio`.
    """
    areas = (heights * widths)[:, None] * (scale[0] + (scale[1] - scale[0]) * u[:, :CROP_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspects = np.exp(low + (high - low) * u[:, CROP_TRIES : 2 * CROP_TRIES])
    tried = np.stack([np.rint(np.sqrt(areas / aspects)), np.rint(np.sqrt(areas * aspects))], axis=2).astype(
        np.int64
    )
    room = np.stack([heights, widths], axis=1)
    fits = ((tried > 0) & (tried <= room[:, None])).all(axis=2)
    sides = np.take_along_axis(tried, fits.argmax(axis=1)[:, None, None], axis=1)[:, 0]
    corners = choice(u[:, -2:], 1 + room - sides)
    fallback = np.stack([np.rint(widths / ratio[0]), np.rint(heights * ratio[1])], axis=1).astype(np.int64)
    largest = np.minimum(room, fallback)
    lucky = np.any(fits, axis=1)[:, None]
    return np.where(
        np.tile(lucky, 4), np.hstack([corners, sides]), np.hstack([(room - largest) // 2, largest])
    )


def evaluation_boxes(heights: Ints, widths: Ints, size: int) -> Ints:
    """The centered square an image is judged by: 7/8 of the short side, but `size` px if it has so many.

    So 256 px give the usual 224 without resampling, and an image of `size` px is taken whole. Boxes [M, 4].
    """
    side = _evaluation_side(heights, widths, size)
    top, left = (np.rint((length - side) / 2).astype(np.int64) for length in (heights, widths))
    return np.stack([top, left, side, side], axis=1)


def random_square_boxes(u: Floats, heights: Ints, widths: Ints, size: int) -> Ints:
    """Squares of the evaluation size at a uniformly drawn place (`u` [M, 2]). Boxes [M, 4]."""
    side = _evaluation_side(heights, widths, size)
    return np.stack(
        [choice(u[:, 0], heights - side + 1), choice(u[:, 1], widths - side + 1), side, side], axis=1
    )


def _evaluation_side(heights: Ints, widths: Ints, size: int) -> Ints:
    short = np.minimum(heights, widths)
    share = np.rint(short * EVALUATION_SHARE).astype(np.int64)
    return np.minimum(short, np.maximum(size, share))


def crop(pixels: Tensor, boxes: Ints, flips: Booleans, size: int) -> Tensor:
    """Cut boxes, scale them to squares, mirror some: the crop, the resize and the flip in one resampling.

    Bilinear, with the crop's own border pixels repeated beyond its border, as when resizing a cut image.
    Where a box shrinks to 2/3 or less, as many samples as source pixels fall in are averaged per pixel.

    Args:
        pixels: Float [M, 3, h, w].
        boxes: [M, 4].
        flips: Which views to mirror left to right, bool [M].
        size: Output side, px (S).

    Returns:
        [M, 3, S, S].
    """
    is_whole = (boxes == np.array([0, 0, size, size])).all(axis=1) & (tuple(pixels.shape[2:]) == (size, size))
    shrinking = np.rint(boxes[:, 2:].max(axis=1) / size).astype(np.int64)
    parts = groups(np.where(is_whole, 0, np.maximum(1, shrinking)))
    if len(parts) == 1:
        return _cut(pixels, boxes, flips, size, parts[0][0])
    out = pixels.new_empty((len(boxes), pixels.shape[1], size, size))
    for factor, rows in parts:
        index = torch.as_tensor(rows, device=pixels.device)
        out.index_copy_(0, index, _cut(pixels.index_select(0, index), boxes[rows], flips[rows], size, factor))
    return out


def _cut(pixels: Tensor, boxes: Ints, flips: Booleans, size: int, factor: int) -> Tensor:
    """Crop with `factor` x `factor` samples per output pixel; 0 stands for boxes that are the whole."""
    if factor > 0:
        sampled = _resample(pixels, boxes, flips, size * factor)
        return sampled if factor == 1 else avg_pool2d(sampled, factor)
    if not flips.any():
        return pixels
    is_mirrored = torch.as_tensor(flips, device=pixels.device)[:, None, None, None]
    return torch.where(is_mirrored, pixels.flip(3), pixels)


def _resample(pixels: Tensor, boxes: Ints, flips: Booleans, size: int) -> Tensor:
    """Bilinear samples on a `size` x `size` lattice over each box, clamped to the box's pixels."""
    steps = (np.arange(size) + 0.5) / size
    top, left, height, width = (boxes[:, i, None] for i in range(4))
    y = top + np.clip(steps * height, 0.5, height - 0.5)
    x = left + np.clip(np.where(flips[:, None], steps[::-1], steps) * width, 0.5, width - 0.5)
    lines = np.stack([x * (2 / pixels.shape[3]) - 1, y * (2 / pixels.shape[2]) - 1]).astype(np.float32)
    columns, rows = torch.as_tensor(lines, device=pixels.device)
    grid = pixels.new_empty((len(boxes), size, size, 2))
    grid[..., 0] = columns[:, None, :]
    grid[..., 1] = rows[:, :, None]
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def affine_matrices(
    angle: Floats, scale: Floats, shear: Floats, shift: Floats, center: tuple[float, float] = (0.0, 0.0)
) -> Floats:
    """Maps from output to source px of rotation, scale, shear and shift, as torchvision's `affine` composes.

    Args:
        angle: Clockwise rotation, radians [M].
        scale: Magnification [M].
        shear: Shear angles along x and y, radians [M, 2].
        shift: Translation right and down, px [M, 2].
        center: Fixed point of rotation, scale and shear as (x, y), px from the image's centre.

    Returns:
        Matrices [M, 2, 3] acting on (x, y, 1), px from the image's centre.
    """
    along_x, along_y = np.tan(shear[:, 0]), np.tan(shear[:, 1])
    cosine, sine = np.cos(angle), np.sin(angle)
    # rotation @ [[1, 0], [-tan y, 1]] @ [[1, -tan x], [0, 1]], with the y shear as torchvision signs it
    a, b = cosine + sine * along_y, -sine
    c, d = sine - cosine * along_y, cosine
    b, d = b - a * along_x, d - c * along_x
    determinant = (a * d - b * c) * scale
    inverse = np.stack([d, -b, -c, a], axis=1).reshape(-1, 2, 2) / determinant[:, None, None]
    fixed = np.array(center)
    target = fixed + shift
    offset = fixed - (inverse[:, :, 0] * target[:, :1] + inverse[:, :, 1] * target[:, 1:])
    return np.concatenate([inverse, offset[:, :, None]], axis=2)


def crop_matrices(boxes: Ints, size: int, height: int, width: int) -> Floats:
    """Maps [M, 2, 3] from output to source px, both from their centers, that cut and scale boxes [M, 4]."""
    matrices = np.zeros((len(boxes), 2, 3))
    matrices[:, 0, 0], matrices[:, 1, 1] = boxes[:, 3] / size, boxes[:, 2] / size
    matrices[:, 0, 2] = boxes[:, 1] + (boxes[:, 3] - width) / 2
    matrices[:, 1, 2] = boxes[:, 0] + (boxes[:, 2] - height) / 2
    return matrices


def compose(outer: Floats, inner: Floats) -> Floats:
    """Affine maps [M, 2, 3] that apply `inner` first, then `outer`."""
    composed = outer[:, :, :1] * inner[:, :1] + outer[:, :, 1:2] * inner[:, 1:]
    composed[:, :, 2] += outer[:, :, 2]
    return composed


def warp(pixels: Tensor, matrices: Floats, size: int, displacement: Tensor | None = None) -> Tensor:
    """Resample through affine maps and, before them, an optional displacement. Black outside the image.

    Args:
        pixels: Float [M, 3, h, w].
        matrices: From output to source px, centered [M, 2, 3].
        size: Output side, px (S).
        displacement: Added to the output positions, px, as (x, y): float [M, 2, S, S].

    Returns:
        [M, 3, S, S].
    """
    height, width = pixels.shape[2:]
    scaled = matrices * np.array([2 / width, 2 / height])[None, :, None]
    m = torch.as_tensor(scaled.astype(np.float32), device=pixels.device)[..., None, None]
    positions = torch.arange(size, device=pixels.device, dtype=torch.float32) - (size - 1) / 2
    x, y = positions[None, None, :], positions[None, :, None]
    if displacement is not None:
        x, y = x + displacement[:, 0], y + displacement[:, 1]
    grid = torch.stack([m[:, axis, 0] * x + m[:, axis, 1] * y + m[:, axis, 2] for axis in (0, 1)], dim=3)
    return grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
