"""The fast color mode against the exact one, where the two mean the same, and its own promises elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from rayscan.config import ImagesConfig
from rayscan.data import color, color_matrix
from rayscan.data.color import Jitter
from rayscan.data.keyed import Draw
from rayscan.data.views import make_views, view_boxes

COUNT = 24
NEUTRAL = ImagesConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), color="fast")


@pytest.fixture
def dull() -> Tensor:
    """Pictures whose colors nothing below brings to the ends of the scale, where clipping sets in."""
    return 0.4 + 0.1 * torch.rand((COUNT, 3, 12, 12), generator=torch.Generator().manual_seed(0))


def draws(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).random((count, color.JITTER_UNIFORMS))


def fast(x: Tensor, strength: Jitter, gray: tuple[int, ...] = ()) -> Tensor:
    rows = np.arange(len(x))
    made = color_matrix.colors(draws(len(x)), rows, np.array(gray, np.int64), np.zeros(len(x)), strength)
    return color_matrix.recolor(x, made, NEUTRAL, 1.0, torch.empty_like(x))


def test_without_hue_and_clipping_it_is_the_exact_jitter_in_the_drawn_order(dull: Tensor) -> None:
    strength = Jitter(0.4, 0.4, 0.4, 0.0)
    exact = dull.clone()
    color.jitter(exact, np.arange(COUNT), draws(), strength)
    assert exact.min() > 0.02 and exact.max() < 0.98
    torch.testing.assert_close(fast(dull, strength), exact, atol=2e-5, rtol=0)


def test_hue_turns_as_hsv_does_and_keeps_luma_and_gray(dull: Tensor) -> None:
    pure = torch.eye(3).reshape(3, 3, 1, 1) * 0.3 + 0.35
    third = color_matrix._hue(np.array([1 / 3]))[0]
    turned = np.einsum("ij,njhw->nihw", third, pure.numpy())
    assert turned[:, :, 0, 0].argmax(axis=1).tolist() == [1, 2, 0]  # red to green to blue to red
    np.testing.assert_allclose(third @ third @ third, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(color_matrix.LUMA @ third, color_matrix.LUMA, atol=1e-6)
    np.testing.assert_allclose(third @ np.ones(3), np.ones(3), atol=1e-6)
    moved = fast(dull, Jitter(0, 0, 0, 0.1))
    torch.testing.assert_close(color.grayscale(moved), color.grayscale(dull), atol=1e-5, rtol=0)
    exact = dull.clone()
    color.jitter(exact, np.arange(COUNT), draws(), Jitter(0, 0, 0, 0.1))
    ours, theirs = (moved - dull).flatten(), (exact - dull).flatten()
    assert torch.dot(ours, theirs) > 0.5 * ours.norm() * theirs.norm()  # the same way round


def test_gray_is_gray_and_luma(dull: Tensor) -> None:
    made = fast(dull, Jitter(0, 0, 0, 0), gray=(1, 5))
    torch.testing.assert_close(made[[1, 5]], color.grayscale(dull[[1, 5]]).expand(-1, 3, -1, -1))
    torch.testing.assert_close(made[0], dull[0])


def test_values_are_clipped_and_normalized() -> None:
    x = torch.rand((COUNT, 3, 8, 8), generator=torch.Generator().manual_seed(1)) * 255
    images = ImagesConfig(color="fast")
    made = color_matrix.colors(
        draws(), np.arange(COUNT), np.array([2]), np.zeros(COUNT), Jitter(0.9, 0.9, 0.9)
    )
    out = color_matrix.recolor(x, made, images, 255.0, torch.empty_like(x))
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (images.mean, images.std))
    back = out * std + mean
    assert back.min() >= -1e-6 and back.max() <= 1 + 1e-6
    assert (back < 1e-6).any() and (back > 1 - 1e-6).any()


@pytest.mark.parametrize("side", [32, 224])
def test_mean_luma_is_the_mean(side: int) -> None:
    x = torch.rand((3, 3, side, side), generator=torch.Generator().manual_seed(2)) * 255
    stride = 1 if side == 32 else 4
    expected = (color.grayscale(x.double()) / 255)[:, 0, ::stride, ::stride].mean((1, 2))
    torch.testing.assert_close(color_matrix.mean_luma(x, 255.0).double(), expected, atol=1e-5, rtol=0)


def test_blur_is_the_exact_one_within_a_grey_level() -> None:
    x = torch.rand((6, 3, 64, 64), generator=torch.Generator().manual_seed(3))
    sigma = np.array([0.0, 0.1, 0.5, 1.0, 1.7, 2.0])
    none = color_matrix.colors(draws(0), np.zeros(0, np.int64), np.zeros(0, np.int64), sigma, Jitter())
    made = color_matrix.recolor(x, none, NEUTRAL, 1.0, torch.empty_like(x))
    assert torch.equal(made[0], x[0])
    torch.testing.assert_close(made[1:], color.gaussian_blur(x[1:], sigma[1:], 2.0), atol=1 / 255, rtol=0)


@pytest.mark.parametrize(("side", "size"), [(32, 32), (70, 66), (130, 128)])
def test_a_fast_view_is_bit_identical_in_any_batch_and_with_any_threads(side: int, size: int) -> None:
    images = ImagesConfig(size_px=size, color="fast")
    pixels = torch.randint(0, 256, (10, 3, side, side), generator=torch.Generator().manual_seed(4)).byte()

    def views(gids: np.ndarray) -> Tensor:
        draw = Draw(7, 3, gids, (0, 1))
        sides = np.full(2 * len(gids), side)
        boxes = view_boxes("simclr", draw, sides, sides, size)
        sources = pixels[torch.from_numpy(gids)].repeat(2, 1, 1, 1)
        return make_views(sources, boxes, "simclr", draw, images).unflatten(0, (2, -1))

    threads = torch.get_num_threads()
    whole = views(np.arange(10))
    order = np.random.default_rng(0).permutation(10)
    for parts in (10, 3, 1):
        pieces = [views(part) for part in np.array_split(order, parts)]
        assert torch.equal(torch.cat(pieces, dim=1), whole[:, order])
    try:
        torch.set_num_threads(3)
        assert torch.equal(views(np.arange(10)), whole)
    finally:
        torch.set_num_threads(threads)
