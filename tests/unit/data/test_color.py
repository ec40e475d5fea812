"""Color operations against torchvision, one picture at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from rayscan.data import color
from rayscan.data.keyed import uniforms

GRAY_LEVEL = 1 / 255


@pytest.fixture
def pictures() -> Tensor:
    """Noise, and the corners where HSV is undefined or saturates: black, white, gray, pure colors."""
    noise = torch.from_numpy(np.random.default_rng(0).random((20, 3, 24, 24), np.float32))
    corners = torch.tensor(list(itertools.product([0.0, 0.5, 1.0], repeat=3)))
    noise[0] = corners.repeat(22, 1)[: 24 * 24].T.reshape(3, 24, 24)
    noise[1] = 0.25
    noise[2] = 0.0
    return noise


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        (color.brightness, reference.adjust_brightness, 0.0, 2.0),
        (color.contrast, reference.adjust_contrast, 0.0, 2.0),
        (color.saturation, reference.adjust_saturation, 0.0, 2.0),
        (color.hue, reference.adjust_hue, -0.5, 0.5),
        (color.solarize, reference.solarize, 0.0, 1.0),
    ],
)
def test_operation_equals_torchvision(pictures: Tensor, ours, theirs, low: float, high: float) -> None:
    strengths = torch.linspace(low, high, len(pictures))
    before = pictures.clone()
    out = ours(pictures, strengths)
    assert torch.equal(pictures, before)
    for i, strength in enumerate(strengths.tolist()):
        assert (out[i] - theirs(pictures[i], strength)).abs().max() < GRAY_LEVEL
    assert out.min() >= 0 and out.max() <= 1


def test_no_strength_no_change(pictures: Tensor) -> None:
    ones, zeros = torch.ones(len(pictures)), torch.zeros(len(pictures))
    for change in (color.brightness, color.contrast, color.saturation):
        assert torch.equal(change(pictures, ones), pictures)
    torch.testing.assert_close(color.hue(pictures, zeros), pictures, atol=1e-6, rtol=0)


def test_hue_turns_add_up_to_a_circle(pictures: Tensor) -> None:
    third = torch.full((len(pictures),), 1 / 3)
    turned = pictures
    for _ in range(3):
        turned = color.hue(turned, third)
    torch.testing.assert_close(turned, pictures, atol=1e-5, rtol=0)
    red = torch.tensor([1.0, 0, 0]).reshape(1, 3, 1, 1)
    assert torch.allclose(
        color.hue(red, torch.tensor([1 / 3])).flatten(), torch.tensor([0.0, 1, 0]), atol=1e-6
    )


def test_grayscale_equals_torchvision(pictures: Tensor) -> None:
    assert (color.grayscale(pictures) - reference.rgb_to_grayscale(pictures)).abs().max() < GRAY_LEVEL
    flat = pictures[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(color.grayscale(flat), flat[:, :1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [64, 7])
def test_blur_equals_torchvision_with_a_wide_kernel(side: int) -> None:
    noise = torch.from_numpy(np.random.default_rng(1).random((9, 3, side, side + 2), np.float32))
    sigma = np.linspace(0.1, 2.0 if side > 7 else 1.0, 9)
    out = color.gaussian_blur(noise, sigma, 2.0)
    for i in range(9):
        kernel = 23 if side > 7 else 9
        want = reference.gaussian_blur(noise[i], [kernel, kernel], [float(sigma[i])] * 2)
        assert (out[i] - want).abs().max() < GRAY_LEVEL


def test_blur_keeps_flat_pictures() -> None:
    flat = torch.full((3, 3, 16, 16), 0.7)
    torch.testing.assert_close(
        color.gaussian_blur(flat, np.array([0.1, 1.0, 2.0]), 2.0), flat, atol=1e-6, rtol=0
    )


def test_jitter_applies_the_drawn_strengths_in_the_drawn_order(pictures: Tensor) -> None:
    strength = color.Jitter(0.4, 0.3, 0.9, 0.1)
    rows = np.array([0, 3, 4, 7, 11, 12, 13, 19])
    u = uniforms(0, 0, rows, 0, "jitter", color.JITTER_UNIFORMS)
    out = pictures.clone()
    color.jitter(out, rows, u, strength)
    operations = [
        (reference.adjust_brightness, 0.6, 0.8),
        (reference.adjust_contrast, 0.7, 0.6),
        (reference.adjust_saturation, 0.1, 1.8),
        (reference.adjust_hue, -0.1, 0.2),
    ]
    for i, row in enumerate(rows):
        want = pictures[row]
        for kind in np.argsort(u[i, 4:]):
            operation, low, width = operations[kind]
            want = operation(want, low + width * u[i, kind])
        assert (out[row] - want).abs().max() < GRAY_LEVEL
    untouched = np.setdiff1d(np.arange(20), rows)
    assert torch.equal(out[untouched], pictures[untouched])


def test_all_24_orders_occur_equally_often() -> None:
    from scipy import stats

    u = uniforms(0, 0, np.arange(24_000), 0, "jitter", color.JITTER_UNIFORMS)
    codes = np.argsort(u[:, 4:], axis=1) @ np.array([64, 16, 4, 1])
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-4
