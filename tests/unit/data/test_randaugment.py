"""RandAugment and Cutout: Table S2, each operation against torchvision, the four of them against a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from rayscan.data import randaugment
from rayscan.data.keyed import uniforms
from rayscan.data.randaugment import INTERVALS, OPERATIONS

GRAY_LEVEL = 1 / 255
NAMES = list(INTERVALS)
SIDE = 32
BILINEAR = InterpolationMode.BILINEAR


def _levels(count: int, seed: int = 0) -> Tensor:
    """Pictures of whole gray levels, of low, high and full contrast, one flat."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 128, (count, 3, 1, 1))
    high = low + rng.integers(1, 128, (count, 3, 1, 1))
    levels = rng.integers(low, high + 1, (count, 3, SIDE, SIDE)).astype(np.uint8)
    levels[0] = 77
    levels[1, :, ::5] = 255
    levels[1, :, 1::5] = 0
    return torch.from_numpy(levels)


def _apply_slowly(name: str, x: Tensor, magnitude: float) -> Tensor:
    """One operation on one float picture, by torchvision, in RandAugment's own terms."""
    degrees = math.degrees(math.atan(magnitude))
    geometric = {
        "rotate": dict(angle=magnitude, translate=[0, 0], shear=[0.0, 0.0], center=None),
        "shear_x": dict(angle=0.0, translate=[0, 0], shear=[degrees, 0.0], center=[0, 0]),
        "shear_y": dict(angle=0.0, translate=[0, 0], shear=[0.0, degrees], center=[0, 0]),
        "translate_x": dict(angle=0.0, translate=[magnitude * SIDE, 0.0], shear=[0.0, 0.0], center=None),
        "translate_y": dict(angle=0.0, translate=[0.0, magnitude * SIDE], shear=[0.0, 0.0], center=None),
    }
    if name in geometric:
        return reference.affine(x, scale=1.0, interpolation=BILINEAR, **geometric[name])
    levels = (x * 255).round().to(torch.uint8)
    operations = {
        "identity": lambda: x,
        "autocontrast": lambda: reference.autocontrast(x),
        "equalize": lambda: reference.equalize(levels).float() / 255,
        "solarize": lambda: reference.solarize(x, magnitude / 255) if magnitude <= 255 else x,
        "color": lambda: reference.adjust_saturation(x, magnitude),
        "contrast": lambda: reference.adjust_contrast(x, magnitude),
        "brightness": lambda: reference.adjust_brightness(x, magnitude),
        "sharpness": lambda: reference.adjust_sharpness(x, magnitude),
        "posterize": lambda: reference.posterize(levels, int(magnitude)).float() / 255,
    }
    return operations[name]()


def _inside(name: str, magnitude: float) -> Tensor:
    """Where torchvision's blend with the black outside does not reach."""
    if name not in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        return torch.ones(3, SIDE, SIDE, dtype=torch.bool)
    mask = _apply_slowly(name, torch.ones(3, SIDE, SIDE), magnitude)
    return (mask > 0.999) | (mask < 0.001)


def test_intervals_are_those_of_table_s2() -> None:
    assert len(INTERVALS) == 14
    assert (
        INTERVALS["rotate"] == (-30, 30)
        and INTERVALS["solarize"] == (0, 256)
        and INTERVALS["posterize"] == (4, 8)
    )
    for name in ("color", "contrast", "brightness", "sharpness"):
        assert INTERVALS[name] == (0.05, 0.95)
    for name in ("shear_x", "shear_y", "translate_x", "translate_y"):
        assert INTERVALS[name] == (-0.1, 0.1)


def _numbers_for(name: str, share: float, count: int) -> np.ndarray:
    """Uniform numbers that choose one operation with one magnitude, followed by three identities."""
    u = np.zeros((count, randaugment.RANDAUGMENT_UNIFORMS))
    u[:, 0] = (NAMES.index(name) + 0.5) / 14
    u[:, 1:4] = (NAMES.index("identity") + 0.5) / 14
    u[:, 4] = share
    return u


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.33, 0.71, 0.999])
def test_operation_equals_torchvision(name: str, share: float) -> None:
    x = _levels(6).float() / 255
    low, high = INTERVALS[name]
    magnitude = 4 + int(share * 5) if name == "posterize" else low + share * (high - low)
    out = randaugment.randaugment(x, _numbers_for(name, share, 6))
    for i in range(6):
        difference = (out[i] - _apply_slowly(name, x[i], magnitude)).abs()
        assert difference[_inside(name, magnitude)].max() < GRAY_LEVEL * 1.01


def test_table_operations_are_exact_on_gray_levels() -> None:
    """Equalize and posterize are integer rules: not near, but equal."""
    levels = _levels(40, seed=3)
    x = levels.float() / 255
    bits = torch.arange(40) % 5 + 4
    equalized = (OPERATIONS["equalize"](x, torch.zeros(40)) * 255).round().to(torch.uint8)
    posterized = (OPERATIONS["posterize"](x, bits.float()) * 255).round().to(torch.uint8)
    for i in range(40):
        assert torch.equal(equalized[i], reference.equalize(levels[i]))
        assert torch.equal(posterized[i], reference.posterize(levels[i], int(bits[i])))


def test_four_operations_follow_one_another_per_view() -> None:
    x = (_levels(60).float() / 255).contiguous()
    u = uniforms(0, 0, np.arange(60), 0, "randaugment", randaugment.RANDAUGMENT_UNIFORMS)
    before = x.clone()
    out = randaugment.randaugment(x, u)
    assert torch.equal(x, before)
    agreeing = 0
    for i in range(60):
        want, inside = x[i], torch.ones(3, SIDE, SIDE, dtype=torch.bool)
        names = [NAMES[int(u[i, k] * 14)] for k in range(4)]
        for k, name in enumerate(names):
            low, high = INTERVALS[name]
            magnitude = 4 + int(u[i, 4 + k] * 5) if name == "posterize" else low + u[i, 4 + k] * (high - low)
            want = _apply_slowly(name, want, magnitude)
            inside &= _inside(name, magnitude)
        # Equalize and posterize turn a rounding difference into whole levels: ask for nearly all pixels.
        agreeing += int(((out[i] - want).abs()[inside] < 2 * GRAY_LEVEL).float().mean() > 0.97)
    assert agreeing >= 50


def test_operations_are_drawn_with_replacement_and_equally_often() -> None:
    u = uniforms(0, 0, np.arange(7000), 0, "randaugment", randaugment.RANDAUGMENT_UNIFORMS)
    chosen = (u[:, :4] * 14).astype(int)
    assert stats.chisquare(np.bincount(chosen.ravel(), minlength=14)).pvalue > 1e-4
    repeated = np.mean([len(set(row)) < 4 for row in chosen.tolist()])
    assert repeated == pytest.approx(1 - 13 * 12 * 11 / 14**3, abs=0.02)


def test_cutout_equals_a_slow_loop() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 3, SIDE, SIDE)).astype(np.float32))
    u = uniforms(0, 0, np.arange(50), 0, "cutout", randaugment.CUTOUT_UNIFORMS)
    out = randaugment.cutout(x, u, 16)
    for i in range(50):
        side, row, column = 1 + int(u[i, 0] * 16), int(u[i, 1] * SIDE), int(u[i, 2] * SIDE)
        for y in range(SIDE):
            for z in range(SIDE):
                is_cut = (
                    row - side // 2 <= y < row - side // 2 + side
                    and column - side // 2 <= z < column - side // 2 + side
                )
                assert torch.equal(out[i, :, y, z], torch.zeros(3) if is_cut else x[i, :, y, z])


def test_cutout_sides_are_uniform_from_one_to_the_longest() -> None:
    u = uniforms(0, 0, np.arange(8000), 0, "cutout", randaugment.CUTOUT_UNIFORMS)
    u[:, 1:] = 0.5  # centered: nothing hangs over
    holes = (randaugment.cutout(torch.ones(8000, 1, SIDE, SIDE), u, 16) == 0).sum((1, 2, 3))
    sides, counts = np.unique(holes.sqrt().numpy(), return_counts=True)
    assert sides.tolist() == list(range(1, 17))
    assert stats.chisquare(counts).pvalue > 1e-4
