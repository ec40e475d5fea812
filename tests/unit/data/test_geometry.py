"""Boxes and resampling against torchvision and against slow versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional as reference

from rayscan.data import geometry
from rayscan.data.keyed import Floats, uniforms

GRAY_LEVEL = 1 / 255
BILINEAR = InterpolationMode.BILINEAR


def _pictures(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth random pictures: noise at a quarter of the resolution, enlarged."""
    noise = np.random.default_rng(seed).random((count, 3, height // 4 + 1, width // 4 + 1), np.float32)
    return torch.nn.functional.interpolate(torch.from_numpy(noise), (height, width), mode="bicubic").clamp(
        0, 1
    )


def _box_slowly(u: Floats, height: int, width: int) -> list[int]:
    """RandomResizedCrop in torchvision's words, for one image, from the same numbers."""
    for k in range(10):
        area = height * width * (0.2 + 0.8 * u[k])
        aspect = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * u[10 + k])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return [int(u[20] * (height - h + 1)), int(u[21] * (width - w + 1)), h, w]
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        h, w = height, round(height * 4 / 3)
    else:
        h, w = height, width
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (375, 500), (500, 64), (20, 300), (1, 9)])
def test_boxes_equal_one_at_a_time(height: int, width: int) -> None:
    u = uniforms(0, 0, np.arange(300), 0, "crop", geometry.CROP_UNIFORMS)
    boxes = geometry.random_resized_boxes(u, np.full(300, height), np.full(300, width), (0.2, 1.0))
    assert boxes.tolist() == [_box_slowly(row, height, width) for row in u]


def test_boxes_are_distributed_as_torchvisions() -> None:
    u = uniforms(1, 0, np.arange(4000), 0, "crop", geometry.CROP_UNIFORMS)
    ours = geometry.random_resized_boxes(u, np.full(4000, 375), np.full(4000, 500), (0.2, 1.0))
    torch.manual_seed(0)
    crop = transforms.RandomResizedCrop(32, scale=(0.2, 1.0))
    image = torch.zeros(3, 375, 500)
    drawn = [crop.make_params([image]) for _ in range(4000)]
    theirs = np.array([[p["top"], p["left"], p["height"], p["width"]] for p in drawn])
    for name, statistic in {
        "area": lambda b: b[:, 2] * b[:, 3],
        "aspect": lambda b: b[:, 3] / b[:, 2],
        "top": lambda b: b[:, 0],
        "left": lambda b: b[:, 1],
    }.items():
        assert stats.ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3, name


@pytest.mark.parametrize(
    ("height", "width", "size", "box"),
    [
        (256, 256, 224, [16, 16, 224, 224]),  # Resize(256), CenterCrop(224)
        (32, 32, 32, [0, 0, 32, 32]),
        (64, 64, 32, [4, 4, 56, 56]),
        (400, 600, 224, [25, 125, 350, 350]),
        (20, 30, 32, [0, 5, 20, 20]),
    ],
)
def test_evaluation_box(height: int, width: int, size: int, box: list[int]) -> None:
    assert geometry.evaluation_boxes(np.array([height]), np.array([width]), size).tolist() == [box]


def test_random_squares_reach_every_place_of_the_evaluation_size() -> None:
    u = uniforms(0, 0, np.arange(5000), 0, "crop", 2)
    boxes = geometry.random_square_boxes(u, np.full(5000, 16), np.full(5000, 20), 14)
    assert set(map(tuple, boxes.tolist())) == {(t, left, 14, 14) for t in range(3) for left in range(7)}


@pytest.mark.parametrize("side", [32, 40, 17])
@pytest.mark.parametrize("antialias", [True, False])
def test_enlarging_crops_and_flips_equal_torchvision(side: int, antialias: bool) -> None:
    pictures = _pictures(40, 48, 64)
    rng = np.random.default_rng(2)
    sides = rng.integers(4, side, (40, 2))
    corners = (rng.random((40, 2)) * (np.array([48, 64]) - sides + 1)).astype(np.int64)
    boxes, flips = np.hstack([corners, sides]), rng.random(40) < 0.5
    out = geometry.crop(pictures, boxes, flips, side)
    for i, (top, left, height, width) in enumerate(boxes.tolist()):
        want = reference.resized_crop(
            pictures[i], top, left, height, width, [side, side], BILINEAR, antialias
        )
        want = reference.horizontal_flip(want) if flips[i] else want
        torch.testing.assert_close(out[i], want, atol=2e-4, rtol=0)


def _noise(side: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((8, 3, side, side), np.float32))


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_by_a_whole_factor_averages_every_source_pixel_once(factor: int) -> None:
    noise = _noise(96)
    out = geometry.crop(noise, np.tile([0, 0, 96, 96], (8, 1)), np.zeros(8, bool), 96 // factor)
    torch.testing.assert_close(out, torch.nn.functional.avg_pool2d(noise, factor), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [26, 41])
def test_shrinking_is_much_nearer_to_the_antialiased_resize_than_plain_bilinear(size: int) -> None:
    noise = _noise(96)  # white noise: aliasing at its worst
    out = geometry.crop(noise, np.tile([0, 0, 96, 96], (8, 1)), np.zeros(8, bool), size)
    want = reference.resize(noise, [size, size], BILINEAR, antialias=True)
    plain = reference.resize(noise, [size, size], BILINEAR, antialias=False)
    error, error_plain = ((picture - want).square().mean().sqrt().item() for picture in (out, plain))
    assert error < 0.6 * error_plain


def test_the_factor_is_chosen_per_view() -> None:
    noise = _noise(96)
    boxes = np.array([[0, 0, s, s] for s in (24, 32, 47, 49, 64, 80, 96, 95)])
    flips = np.arange(8) % 3 == 0
    out = geometry.crop(noise, boxes, flips, 32)
    for i in range(8):
        alone = geometry.crop(noise[i : i + 1], boxes[i : i + 1], flips[i : i + 1], 32)
        assert torch.equal(out[i : i + 1], alone)


def test_whole_pictures_pass_untouched_and_flips_are_exact() -> None:
    pictures = _pictures(6, 32, 32)
    flips = np.array([0, 1, 0, 1, 1, 0], bool)
    out = geometry.crop(pictures, np.tile([0, 0, 32, 32], (6, 1)), flips, 32)
    for i in range(6):
        assert torch.equal(out[i], pictures[i].flip(2) if flips[i] else pictures[i])


@pytest.mark.parametrize("center", [None, (0.0, 0.0), (31.0, 5.0)])
def test_affine_equals_torchvision(center: tuple[float, float] | None) -> None:
    pictures = _pictures(12, 32, 32)
    rng = np.random.default_rng(3)
    angle, scale = rng.uniform(-60, 60, 12), rng.uniform(0.6, 1.6, 12)
    shear, shift = rng.uniform(-20, 20, (12, 2)), rng.integers(-6, 7, (12, 2)).astype(np.float64)
    ours = (0.0, 0.0) if center is None else (center[0] - 16, center[1] - 16)
    matrices = geometry.affine_matrices(np.radians(angle), scale, np.radians(shear), shift, ours)
    out = geometry.warp(pictures, matrices, 32)
    for i in range(12):
        want = reference.affine(
            pictures[i],
            angle=angle[i],
            translate=shift[i].tolist(),
            scale=scale[i],
            shear=shear[i].tolist(),
            interpolation=BILINEAR,
            center=None if center is None else list(center),
        )
        # torchvision blends the black outside through a mask: compare where the mask is whole or empty
        mask = reference.affine(
            torch.ones(1, 32, 32), angle[i], shift[i].tolist(), scale[i], shear[i].tolist(), BILINEAR,
            center=None if center is None else list(center),
        )  # fmt: skip
        whole = ((mask > 0.999) | (mask < 0.001)).expand(3, -1, -1)
        assert (out[i] - want)[whole].abs().max() < GRAY_LEVEL


def test_composition_is_one_map_after_the_other() -> None:
    rng = np.random.default_rng(4)
    outer, inner = rng.normal(size=(2, 5, 2, 3))
    points = rng.normal(size=(5, 3))
    points[:, 2] = 1
    once = np.einsum("nij,nj->ni", inner, points)
    twice = np.einsum("nij,nj->ni", outer, np.hstack([once, np.ones((5, 1))]))
    np.testing.assert_allclose(np.einsum("nij,nj->ni", geometry.compose(outer, inner), points), twice)


def test_warping_through_a_crop_map_is_cropping() -> None:
    pictures = _pictures(5, 24, 40)
    boxes = np.array([[0, 0, 24, 24], [3, 9, 12, 20], [4, 4, 16, 16], [10, 20, 8, 4], [0, 30, 9, 10]])
    matrices = geometry.crop_matrices(boxes, 16, 24, 40)
    warped = geometry.warp(pictures, matrices, 16)[
        ..., 3:-3, 3:-3
    ]  # away from borders, which differ by intent
    cropped = geometry.crop(pictures, boxes, np.zeros(5, bool), 16)[..., 3:-3, 3:-3]
    torch.testing.assert_close(warped[1:], cropped[1:], atol=1e-4, rtol=0)


def test_displacement_moves_pixels_and_outside_is_black() -> None:
    pictures = _pictures(2, 16, 16)
    identity = np.tile([[1.0, 0, 0], [0, 1.0, 0]], (2, 1, 1))
    shift = torch.zeros(2, 2, 16, 16)
    shift[0, 0], shift[1, 1] = 3.0, -2.0  # the first reads 3 px to the right, the second 2 px above
    out = geometry.warp(pictures, identity, 16, shift)
    torch.testing.assert_close(out[0, :, :, :13], pictures[0, :, :, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(out[1, :, 2:], pictures[1, :, :-2], atol=1e-5, rtol=0)
    assert out[0, :, :, 13:].abs().max() == 0 and out[1, :, :2].abs().max() == 0
