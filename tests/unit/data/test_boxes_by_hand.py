"""Boxes of tiny pictures and at other ranges, and crops whose pixels can be said beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rayscan.data import geometry
from rayscan.data.keyed import Floats, uniforms


def slow_box(
    u: Floats, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> list[int]:
    """Ten tries of an area and an aspect ratio; else the largest box within the ratio, in the middle."""
    for k in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * u[k])
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + (high - low) * u[10 + k])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return [int(u[20] * (height - h + 1)), int(u[21] * (width - w + 1)), h, w]
    w, h = width, height
    if width / height < ratio[0]:
        h = round(width / ratio[0])
    elif width / height > ratio[1]:
        w = round(height * ratio[1])
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(("height", "width"), [(2, 2), (1, 3), (3, 1), (40, 90), (90, 40)])
@pytest.mark.parametrize("scale", [(0.01, 0.3), (0.9, 1.0)])
@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.4, 0.5), (2.0, 3.0)])
def test_boxes_of_any_range(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    u = uniforms(0, 0, np.arange(200), 0, "crop", geometry.CROP_UNIFORMS)
    boxes = geometry.random_resized_boxes(u, np.full(200, height), np.full(200, width), scale, ratio)
    assert boxes.dtype == np.int64
    assert boxes.tolist() == [slow_box(row, height, width, scale, ratio) for row in u]


def test_boxes_of_pictures_of_unequal_sizes_are_those_of_each_alone() -> None:
    u = uniforms(1, 0, np.arange(60), 0, "crop", geometry.CROP_UNIFORMS)
    heights, widths = np.arange(60) % 7 * 9 + 3, np.arange(60) % 11 * 8 + 2
    boxes = geometry.random_resized_boxes(u, heights, widths, (0.2, 1.0))
    for i, box in enumerate(boxes.tolist()):
        assert box == slow_box(u[i], int(heights[i]), int(widths[i]), (0.2, 1.0), (3 / 4, 4 / 3))


def test_random_squares_are_floors_of_their_numbers() -> None:
    """Sizes 16, 35 and 10 for S = 14: 7/8 of the short side, but S, and no more than there is."""
    u = np.array([[0.0, 0.999], [0.5, 0.25], [0.7, 0.1]])
    heights, widths = np.array([16, 50, 12]), np.array([20, 40, 10])
    boxes = geometry.random_square_boxes(u, heights, widths, 14)
    expected = []
    for (a, b), h, w, side in zip(u, heights, widths, [14, 35, 10], strict=True):
        expected.append([int(a * (h - side + 1)), int(b * (w - side + 1)), side, side])
    assert boxes.tolist() == expected


def pictures(count: int, height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((count, 3, height, width), np.float32))


@pytest.mark.parametrize("side", [29, 37, 50, 113])
def test_whole_pictures_of_any_size_pass_bit_for_bit(side: int) -> None:
    whole, flips = pictures(4, side, side), np.array([False, True, False, True])
    out = geometry.crop(whole, np.tile([0, 0, side, side], (4, 1)), flips, side)
    for i in range(4):
        assert torch.equal(out[i], whole[i].flip(2) if flips[i] else whole[i])


@pytest.mark.parametrize("is_tall", [True, False])
@pytest.mark.parametrize("factor", [2, 3])
def test_the_longer_side_of_a_box_says_how_many_samples_are_averaged(factor: int, is_tall: bool) -> None:
    """Pictures that change along the long side alone: each output pixel is the mean of `factor` of them."""
    size = 8
    line = torch.arange(size * factor, dtype=torch.float32) ** 2
    expected = line.reshape(size, factor).mean(1)
    picture = line[:, None].expand(1, 3, -1, size) if is_tall else line.expand(1, 3, size, -1)
    box = [[0, 0, size * factor, size] if is_tall else [0, 0, size, size * factor]]
    out = geometry.crop(picture.contiguous(), np.array(box), np.array([False]), size)
    want = expected[:, None].expand(3, size, size) if is_tall else expected.expand(3, size, size)
    torch.testing.assert_close(out[0], want, rtol=1e-4, atol=1e-3)


def bilinear(picture: np.ndarray, y: float, x: float) -> np.ndarray:
    """Value at a point in px, centers at halves, zero outside."""
    total = np.zeros(len(picture))
    top, left = math.floor(y - 0.5), math.floor(x - 0.5)
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - abs(y - 0.5 - row)) * (1 - abs(x - 0.5 - column))
            if 0 <= row < picture.shape[1] and 0 <= column < picture.shape[2]:
                total += weight * picture[:, row, column]
    return total


def test_warping_one_pixel_at_a_time() -> None:
    """From the centre of the output, moved, then mapped to the centre of the picture; 9 x 14 to 6 x 6."""
    rng = np.random.default_rng(1)
    height, width, size = 9, 14, 6
    sources = pictures(3, height, width)
    matrices = rng.normal(size=(3, 2, 3)) * [1.0, 1.0, 2.0] + [[1, 0, 0], [0, 1, 0]]
    moved = torch.from_numpy(rng.normal(size=(3, 2, size, size)).astype(np.float32))
    for displacement in (None, moved):
        out = geometry.warp(sources, matrices, size, displacement).numpy()
        for i in range(3):
            for row in range(size):
                for column in range(size):
                    x, y = column - (size - 1) / 2, row - (size - 1) / 2
                    if displacement is not None:
                        x, y = x + float(moved[i, 0, row, column]), y + float(moved[i, 1, row, column])
                    u, v = matrices[i] @ [x, y, 1.0]
                    want = bilinear(sources[i].numpy(), v + height / 2, u + width / 2)
                    np.testing.assert_allclose(out[i, :, row, column], want, atol=2e-5)
