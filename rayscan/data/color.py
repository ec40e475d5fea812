"""Changes of color, one strength per view: the operations of torchvision, batched, for `views`.

Pictures are float [M, 3, h, w] in 0..1, strengths float [M]; only `jitter` works in place. Every operation is
a chain of correctly rounded ones (no fused multiply-add, no transcendental function per pixel), so that the
bits of a view do not depend on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from rayscan.data.keyed import Floats, groups
from rayscan.types import Ints

RED, GREEN, BLUE = 0.299, 0.587, 0.114  # luma of ITU-R BT.601; the sum is 1, so gray stays as it is
BLUR_REACH = 3.0  # standard deviations; with half a pixel more, 0.1 % of the widest kernel is cut off


@dataclass(frozen=True)
class Jitter:
    """Strengths of a color jitter, as torchvision's ColorJitter names them."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    """Turns of the color circle: 0.5 is the opposite color."""


JITTER_UNIFORMS = 8


def grayscale(x: Tensor) -> Tensor:
    """Luma [M, 1, h, w]."""
    return x[:, :1] * RED + x[:, 1:2] * GREEN + x[:, 2:] * BLUE


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with black: 0 is black, 1 the picture."""
    return (x * _per_view(factor)).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the picture's mean luma: 0 is uniform gray, 1 the picture."""
    # Rounded to 2^-16, the sum is exact in float64, whatever order it is taken in.
    luma = grayscale(x).mul_(65536.0).round_()
    mean = luma.sum(dim=(1, 2, 3), dtype=torch.float64) / (65536.0 * luma[0].numel())
    return _blend(x, mean.to(x.dtype).reshape(-1, 1, 1, 1), factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with the luma: 0 is a gray picture, 1 the picture."""
    return _blend(x, grayscale(x), factor)


def hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue in HSV space, keeping saturation and value.

    The way back is `value - chroma * clamp(min(k, 4 - k), 0, 1)` with `k = (n + 6 hue) mod 6` and n = 5, 3, 1
    for red, green, blue: the hexagon of HSV without a case for each side.
    """
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:]
    value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    chroma = value - least
    divisor = torch.where(chroma == 0, torch.ones_like(chroma), chroma)
    sextant = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    k = sextant + _per_view(turns * 6) + x.new_tensor([5.0, 3.0, 1.0]).reshape(1, 3, 1, 1)
    k = k - (k * (1 / 6)).floor_() * 6
    return value - torch.minimum(k, 4 - k).clamp_(0, 1) * chroma


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert everything at or above a threshold in 0..1; above 1 nothing changes."""
    return torch.where(x >= _per_view(threshold), 1 - x, x)


def jitter(x: Tensor, rows: Ints, u: Floats, strength: Jitter) -> None:
    """Brightness, contrast, saturation and hue of some pictures, in an order drawn for each, in place.

    Args:
        x: [M, 3, h, w] in 0..1.
        rows: Which pictures, int64 [n].
        u: Uniform numbers [n, JITTER_UNIFORMS]: four strengths, then four sort keys of the order.
        strength: Half-widths of the ranges around 1 (around 0 for hue).
    """
    drawn, orders = jitter_draws(u, strength)
    amounts = torch.as_tensor(drawn.astype(np.float32), device=x.device)
    for place in range(4):
        for kind, members in groups(orders[:, place]):
            index = torch.as_tensor(rows[members], device=x.device)
            change = (brightness, contrast, saturation, hue)[kind]
            changed = change(
                x.index_select(0, index), amounts[torch.as_tensor(members, device=x.device), kind]
            )
            x.index_copy_(0, index, changed)


def jitter_draws(u: Floats, strength: Jitter) -> tuple[Floats, Ints]:
    """Strengths [n, 4] of brightness, contrast, saturation and hue, and the order [n, 4] they come in.

    Args:
        u: Uniform numbers [n, JITTER_UNIFORMS]: four strengths, then four sort keys of the order.
        strength: Half-widths of the ranges around 1 (around 0 for hue).
    """
    widths = np.array([strength.brightness, strength.contrast, strength.saturation, strength.hue])
    centers = np.array([1.0, 1.0, 1.0, 0.0])
    lowest = np.maximum(centers - widths, [0.0, 0.0, 0.0, -0.5])
    return lowest + u[:, :4] * (centers + widths - lowest), np.argsort(u[:, 4:], axis=1, kind="stable")


def gaussian_blur(x: Tensor, sigma: Floats, largest: float) -> Tensor:
    """Blur with a Gaussian per view, borders mirrored, as a sum of shifted pictures along each axis.

    Args:
        x: [M, 3, h, w].
        sigma: Standard deviations, px, float64 [M], on the host.
        largest: Upper bound of sigma; fixes the reach of the kernel, px.
    """
    reach = min(int(np.ceil(BLUR_REACH * largest)), min(x.shape[2:]) - 1)
    offsets = np.arange(reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    weights /= weights[:, :1] + 2 * weights[:, 1:].sum(axis=1, keepdims=True)
    taps = torch.as_tensor(weights.astype(np.float32), device=x.device)[:, :, None, None, None]
    both = torch.empty_like(x)
    for axis, sides in ((2, (0, 0, reach, reach)), (3, (reach, reach, 0, 0))):
        padded, length = pad(x, sides, mode="reflect"), x.shape[axis]
        x = padded.narrow(axis, reach, length) * taps[:, 0]
        for offset in range(1, reach + 1):
            before, after = (padded.narrow(axis, reach + step, length) for step in (-offset, offset))
            torch.add(before, after, out=both)
            x += both.mul_(taps[:, offset])
    return x


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    weight = _per_view(factor)
    return (x * weight + other * (1 - weight)).clamp_(0, 1)


def _per_view(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
