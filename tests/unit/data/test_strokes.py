"""Ink of digits: morphology as SciPy computes it, the bias curve by hand, ranges, shapes kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import grey_dilation, grey_erosion

from rayscan.data.keyed import uniforms
from rayscan.data.strokes import STROKE_UNIFORMS, Ink, ink, schlick_bias

PLAIN: dict[str, Any] = {"thickness": 0.0, "gamma": 1.0, "fading": 0.0}


def pictures(count: int, size: int = 9) -> torch.Tensor:
    """Random grey pictures [M, 3, S, S]."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.random((count, 3, size, size), dtype=np.float32))


@pytest.mark.parametrize(("u", "twin"), [(1.0, grey_dilation), (0.0, grey_erosion)])
def test_thickness_goes_its_share_of_the_way_to_dilation_or_erosion(u: float, twin: Any) -> None:
    x = pictures(2)
    got = ink(x, np.full((2, STROKE_UNIFORMS), u), Ink(**PLAIN | {"thickness": 0.6}))
    # beyond the edge there is nothing to take the maximum or minimum of: the edge pixel repeats
    moved = np.stack([[twin(plane, size=(3, 3), mode="nearest") for plane in image] for image in x.numpy()])
    np.testing.assert_allclose(got.numpy(), 0.4 * x.numpy() + 0.6 * moved, atol=1e-6)


def test_half_way_uniforms_and_empty_ranges_change_nothing() -> None:
    x = pictures(3)
    middle = np.full((3, STROKE_UNIFORMS), 0.5)
    torch.testing.assert_close(ink(x, middle, Ink(fading=0)), x, atol=1e-6, rtol=0)
    any_u = uniforms(0, 0, np.arange(3), 0, "ink", STROKE_UNIFORMS)
    torch.testing.assert_close(ink(x, any_u, Ink(**PLAIN)), x, atol=1e-6, rtol=0)


def test_bias_sends_a_half_to_its_parameter_and_keeps_the_ends() -> None:
    x = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    # by hand, b = 1/4: x / (2 (1 - x) + 1)
    torch.testing.assert_close(
        schlick_bias(x, torch.tensor(0.25)), torch.tensor([0, 0.1, 0.25, 1], dtype=torch.float64)
    )
    torch.testing.assert_close(schlick_bias(x, torch.tensor(0.5)), x)


def test_shades_stay_between_the_powers_they_stand_for() -> None:
    half = torch.full((2, 3, 4, 4), 0.5)
    ends = np.array([[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]])
    got = ink(half, ends, Ink(**PLAIN | {"gamma": 2.0}))
    torch.testing.assert_close(got[:, 0, 0, 0], torch.tensor([0.5**0.5, 0.5**2]))


def test_fading_scales_and_black_stays_black() -> None:
    x = pictures(2)
    faded = ink(x, np.array([[0.5, 0.5, 1.0], [0.5, 0.5, 0.5]]), Ink(**PLAIN | {"fading": 0.4}))
    torch.testing.assert_close(faded, x * torch.tensor([0.6, 0.8])[:, None, None, None])
    u = uniforms(1, 2, np.arange(50), 0, "ink", STROKE_UNIFORMS)
    assert ink(torch.zeros(50, 3, 8, 8), u, Ink()).abs().max() == 0
    bright = ink(pictures(50, 8), u, Ink())
    assert bright.min() >= 0 and bright.max() <= 1


def test_the_amount_of_ink_no_longer_tells_two_pictures_apart() -> None:
    """A thin and a thick bar, which every affine or elastic view would keep apart, overlap in their ink."""
    bars = torch.zeros(2, 3, 16, 16)
    bars[0, :, 4:12, 7:8] = 1
    bars[1, :, 4:12, 7:9] = 1
    u = uniforms(0, 0, np.arange(2000), 0, "ink", STROKE_UNIFORMS)
    thin, thick = (ink(bar.expand(2000, 3, 16, 16), u, Ink())[:, 0].sum((1, 2)) for bar in bars)
    assert thin.quantile(0.9) > thick.quantile(0.1)
