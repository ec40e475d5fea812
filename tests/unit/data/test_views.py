"""The families: what each does and does not do, and that a view's bits are its own."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from rayscan.config import ImagesConfig, ViewKind
from rayscan.data.keyed import Draw
from rayscan.data.views import cutout_longest, make_views, view_boxes
from rayscan.types import Ints

FAMILIES: tuple[ViewKind, ...] = get_args(ViewKind)
PLAIN_COLORS = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def _pixels(count: int, side: int) -> Tensor:
    """Smooth random pictures, in integers: torch's own interpolation changes bits with the thread count."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 3, side // 4 + 2, side // 4 + 2))
    fine = np.kron(coarse, np.ones((4, 4), np.int64))
    sums = sum(fine[:, :, i : i + side, j : j + side] for i in range(4) for j in range(4))
    return torch.from_numpy((sums // 16).astype(np.uint8))


def _make(pixels: Tensor, family: ViewKind, draw: Draw, images: ImagesConfig) -> Tensor:
    """Views [V, B, 3, S, S] of canvases [B, 3, c, c]."""
    repeated = pixels.repeat(len(draw.views), 1, 1, 1)
    sides = np.full(len(repeated), pixels.shape[-1])
    boxes = view_boxes(family, draw, sides, sides, images.size_px)
    return make_views(repeated, boxes, family, draw, images).unflatten(0, (len(draw.views), -1))


def _views(gids: Ints, family: ViewKind, side: int, size: int, views: tuple[int, ...] = (0, 1)) -> Tensor:
    return _make(
        _pixels(24, side)[torch.from_numpy(gids)], family, Draw(7, 3, gids, views), ImagesConfig(size_px=size)
    )


SIDES = [(16, 16), (32, 32), (37, 37), (40, 32), (70, 66), (80, 20)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("side", "size"), SIDES)
def test_a_view_is_bit_identical_in_any_batch(family: ViewKind, side: int, size: int) -> None:
    gids = np.arange(24)
    whole = _views(gids, family, side, size)
    order = np.random.default_rng(1).permutation(24)
    assert torch.equal(_views(order, family, side, size), whole[:, order])
    for num_pieces in (24, 3, 2):  # pieces of every size, down to one image
        pieces = [_views(part, family, side, size) for part in np.array_split(order, num_pieces)]
        assert torch.equal(torch.cat(pieces, dim=1), whole[:, order])
    alone = torch.cat([_views(gids, family, side, size, (v,)) for v in (1, 0)])
    assert torch.equal(alone.flip(0), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_threads_change_no_bit(family: ViewKind) -> None:
    gids, threads = np.arange(24), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = _views(gids, family, 70, 66)
        torch.set_num_threads(3)
        assert torch.equal(_views(gids, family, 70, 66), one)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("family", ["simclr", "randaugment", "digits"])
def test_views_differ_between_views_epochs_seeds_and_images(family: ViewKind) -> None:
    same = _pixels(1, 32).repeat(32, 1, 1, 1)
    images, draw = ImagesConfig(), Draw(0, 0, np.arange(32), (0,))
    base = _make(same, family, draw, images)[0]
    others = [
        replace(draw, views=(1,)),
        replace(draw, epoch=1),
        replace(draw, seed=1),
        replace(draw, gids=draw.gids + 32),
    ]
    for other in others:
        equal = (_make(same, family, other, images)[0] == base).flatten(1).all(1)
        assert equal.sum() <= 2  # two strong views may both come out unchanged
    assert len({view.numpy().tobytes() for view in base}) >= 30


def test_plain_views_are_the_normalized_pixels() -> None:
    pixels, images = _pixels(5, 32), ImagesConfig(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    out = _make(pixels, "plain", Draw(0, 0, np.arange(5)), images)[0]
    want = reference.normalize(pixels.float() / 255, [0.1, 0.2, 0.3], [0.5, 0.25, 2.0])
    torch.testing.assert_close(out, want, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("side", "size"), [(64, 56), (40, 36)])
def test_plain_views_of_a_larger_canvas_are_its_center(side: int, size: int) -> None:
    pixels, images = _pixels(5, side), ImagesConfig(size_px=size, **PLAIN_COLORS)
    out = _make(pixels, "plain", Draw(0, 0, np.arange(5)), images)[0]
    torch.testing.assert_close(
        out, reference.center_crop(pixels, [size, size]).float() / 255, atol=1e-3, rtol=0
    )


def _ramp(side: int) -> Tensor:
    """Darker to the left: shows mirroring."""
    return torch.linspace(60, 200, side).round().to(torch.uint8).expand(1, 3, side, side).contiguous()


@pytest.mark.parametrize(
    ("family", "low", "high"), [("simclr", 0.44, 0.56), ("digits", 0, 0), ("plain", 0, 0)]
)
def test_share_of_mirrored_views(family: ViewKind, low: float, high: float) -> None:
    images = ImagesConfig(size_px=32, **PLAIN_COLORS)
    views = _make(_ramp(32).repeat(1000, 1, 1, 1), family, Draw(0, 0, np.arange(1000)), images)[0]
    luma = views.mean(1)[:, 8:24]
    mirrored = (luma[:, :, 8:16].mean((1, 2)) > luma[:, :, 16:24].mean((1, 2))).double().mean().item()
    assert low <= mirrored <= high


def test_simclr_makes_a_fifth_gray_and_leaves_color_to_some() -> None:
    images = ImagesConfig(size_px=32, **PLAIN_COLORS)
    views = _make(_pixels(64, 32).repeat(32, 1, 1, 1), "simclr", Draw(0, 0, np.arange(2048)), images)[0]
    is_gray = (views.amax(1) - views.amin(1)).amax((1, 2)) < 1e-6
    assert is_gray.double().mean().item() == pytest.approx(0.2, abs=0.03)
    assert views.min() >= 0 and views.max() <= 1


def test_simclr_blurs_half_of_the_large_views_and_no_small_ones() -> None:
    """Fine noise loses its contrast under a blur."""
    for size, share in ((64, 0.5), (60, 0.0)):
        rng = np.random.default_rng(0)
        pixels = torch.from_numpy(rng.integers(0, 2, (300, 1, size, size), np.uint8) * 255).expand(
            -1, 3, -1, -1
        )
        draw, images = Draw(0, 0, np.arange(300)), ImagesConfig(size_px=size, **PLAIN_COLORS)
        whole = np.tile([0, 0, size, size], (300, 1))  # no crop: it would smooth as well
        views = make_views(pixels, whole, "simclr", draw, images).mean(1)
        steps = (views[:, :, 1:] - views[:, :, :-1]).abs().mean((1, 2)) / (
            views.amax((1, 2)) - views.amin((1, 2))
        )
        blurred_hard = (steps < 0.45).double().mean().item()  # unblurred coin flips step by a half
        assert blurred_hard == pytest.approx(share * 0.87, abs=0.08)  # sigma below 0.35 px leaves no trace


def test_strong_views_have_a_hole_of_the_mean_color() -> None:
    views = _make(_pixels(64, 32), "randaugment", Draw(0, 0, np.arange(64)), ImagesConfig())[0]
    holes = (views == 0).all(1).sum((1, 2))
    assert holes.min() >= 1
    assert 16 < holes.double().mean() < 16 * 16
    assert [cutout_longest(size) for size in (32, 96, 224)] == [16, 32, 75]


def test_digits_keep_black_surroundings_and_move_the_strokes() -> None:
    pixels = torch.zeros(64, 3, 16, 16, dtype=torch.uint8)
    pixels[:, :, 5:11, 7:9] = 255
    images = ImagesConfig(size_px=16, **PLAIN_COLORS)
    views = _make(pixels, "digits", Draw(0, 0, np.arange(64)), images)[0]
    assert views[:, :, 0, 0].max() == 0
    mass = views[:, 0].sum((1, 2))
    assert (mass > 0.5).all() and mass.std() > 0.5
    rows = (views[:, 0].sum(2) * torch.arange(16)).sum(1) / mass
    assert 0.4 < rows.std() < 2.5 and abs(rows.mean() - 7.5) < 0.5
